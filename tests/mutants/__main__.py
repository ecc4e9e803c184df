"""`python -m tests.mutants`: change a seeded sample of points, one at a time, and list what no test notices."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from multiprocessing.connection import wait
from pathlib import Path

from tests.mutants.points import Point, sample
from tests.mutants.trial import Bench, Verdict, paths_beside, warm_up

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
            seconds = _baselines(benches[0], points)
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


def _baselines(bench: Bench, points: list[Point]) -> dict[tuple[str, ...], float]:
    """Seconds of each set of tests on the unchanged tree, where all must pass."""
    seconds = {}
    for tests in dict.fromkeys(_all_beside(point) for point in points):
        bench.start(tests, BASELINE_SECONDS)
        while (verdict := bench.finished()) is None:
            wait([bench.sentinel], 0.2)
        if verdict.noticed:
            sys.exit(f"{' '.join(tests)} fail on the unchanged tree:\n{bench.output.read_text()}")
        print(f"unchanged: {verdict.seconds:.0f} s for {Path(tests[0]).parent}", flush=True)
        seconds[tests] = verdict.seconds
    return seconds


def _all_beside(point: Point) -> tuple[str, ...]:
    return paths_beside(ROOT, str(Path(point.path).with_name("any.py")))


def _trials(benches: list[Bench], points: list[Point], seconds: dict[tuple[str, ...], float]) -> dict[Point, Verdict]:
    left, verdicts, busy = list(reversed(points)), {}, []
    free = list(benches)
    while left or busy:
        while left and free:
            bench, point = free.pop(), left.pop()
            bench.start(paths_beside(ROOT, point.path), 30 + 3 * seconds[_all_beside(point)], point)
            busy.append(bench)
        wait([bench.sentinel for bench in busy], 0.2)
        for bench in list(busy):
            if (verdict := bench.finished()) is not None and bench.point is not None:
                verdicts[bench.point] = verdict
                busy.remove(bench)
                free.append(bench)
                word = "noticed " if verdict.noticed else "SURVIVED"
                print(
                    f"[{len(verdicts):3}/{len(points)}] {word} {verdict.seconds:5.1f} s  {bench.point.key}", flush=True
                )
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
