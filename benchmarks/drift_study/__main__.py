"""`python -m benchmarks.drift_study WHAT`: see the package's docstring."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import structlog
from transformers.utils import logging as model_logging

from benchmarks.drift_study import plots, study

HERE = Path(__file__).parent
PARTS: dict[str, Callable[[Path], None]] = {
    "run": study.run,
    "table": lambda results: print(plots.table(study.read(results / "runs.jsonl"))),
    "plots": lambda results: plots.main(results, HERE.parents[1] / "docs" / "images"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all in this order without one")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="what is there is not run again")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"unknown: {', '.join(unknown)}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    model_logging.disable_progress_bar()
    for part in arguments.parts or PARTS:
        PARTS[part](arguments.results)


if __name__ == "__main__":
    main()
