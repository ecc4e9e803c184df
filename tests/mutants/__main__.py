"""`python -m tests.mutants`: change a seeded sample of points, one at a time, and list what no test notices."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

from tests.mutants.points import Point, sample
from tests.mutants.trial import Bench, Trial, Verdict, outcomes, paths_beside, warm_up

ROOT = Path(__file__).parents[2]
ACCEPTED = Path(__file__).with_name("accepted.toml")
ENOUGH = 0.9
BASELINE_SECONDS = 300.0


def main() -> int:
    options = _options()
    points = [point for point in sample(ROOT, options.seed, options.points, options.only) if options.match in point.key]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that what was started ends too
    warm_up()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        benches = [Bench(ROOT, Path(folder, str(number))) for number in range(options.jobs)]
        try:
            seconds = _baselines(benches, points)
            verdicts = _trials(benches, points, seconds)
        finally:
            for bench in benches:
                bench.stop()
    return _report(points, verdicts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=10, help="which points are drawn")
    parser.add_argument("--points", type=int, default=120, help="how many")
    parser.add_argument("--jobs", type=int, default=2, help="tried at a time")
    parser.add_argument("--only", default="", help="draw them below this path, such as services/store")
    parser.add_argument("--match", default="", help="of those drawn, try the ones with these words")
    return parser.parse_args()


def _baselines(benches: list[Bench], points: list[Point]) -> dict[Point, float]:
    """For each point the seconds that its tests take on the unchanged tree, where all must pass."""
    sets = {point: paths_beside(ROOT, str(Path(point.path).with_name("any.py"))) for point in points}
    seconds = {}
    for trial, verdict, output in outcomes(benches, [Trial(tests, BASELINE_SECONDS) for tests in {*sets.values()}]):
        if verdict.noticed:
            sys.exit(f"{' '.join(trial.tests)} fail on the unchanged tree:\n{output}")
        print(f"unchanged: {verdict.seconds:.0f} s for {Path(trial.tests[0]).parent}", flush=True)
        seconds[trial.tests] = verdict.seconds
    return {point: seconds[tests] for point, tests in sets.items()}


def _trials(benches: list[Bench], points: list[Point], seconds: dict[Point, float]) -> dict[Point, Verdict]:
    verdicts: dict[Point, Verdict] = {}
    trials = [Trial(paths_beside(ROOT, point.path), 30 + 3 * seconds[point], point) for point in points]
    for trial, verdict, _ in outcomes(benches, trials):
        assert trial.point is not None
        verdicts[trial.point] = verdict
        word = "SURVIVED" if not verdict.noticed else "noticed " if verdict.code is not None else "timed out"
        print(f"[{len(verdicts):3}/{len(points)}] {word} {verdict.seconds:5.1f} s  {trial.point.key}", flush=True)
    return verdicts


def _report(points: list[Point], verdicts: dict[Point, Verdict]) -> int:
    reasons = {one["point"]: one["reason"] for one in tomllib.loads(ACCEPTED.read_text()).get("survivor", [])}
    survivors = [point for point in points if not verdicts[point].noticed]
    print("\nShare noticed by package:")
    drawn, lived = (Counter(point.path.split("/")[1] for point in some) for some in (points, survivors))
    for package, count in sorted(drawn.items()):
        print(f"  {package:14} {count - lived[package]:3} of {count:3}")
    print(f"  {'all':14} {len(points) - len(survivors):3} of {len(points):3}")
    for title, some in (
        ("Survivors", [point for point in survivors if point.key not in reasons]),
        ("Accepted survivors", [point for point in survivors if point.key in reasons]),
    ):
        print(f"\n{title}: {len(some)}")
        for point in some:
            print(f"  line {point.line}: {point.key}" + (f"\n    {reasons[point.key]}" if point.key in reasons else ""))
    counted = [point for point in points if point.key not in reasons or verdicts[point].noticed]
    noticed = sum(verdicts[point].noticed for point in counted)
    return 0 if noticed >= ENOUGH * len(counted) else 1


if __name__ == "__main__":
    sys.exit(main())
