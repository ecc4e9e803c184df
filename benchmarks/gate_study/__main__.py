"""`python -m benchmarks.gate_study WHAT`: see the package's docstring."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import structlog
from transformers.utils import logging as model_logging

from benchmarks.gate_study import plots, runs, simulated, tables

HERE = Path(__file__).parent
PARTS: dict[str, Callable[[Path], None]] = {
    "simulated": lambda results: simulated.main(results / "simulated.jsonl"),
    "screen": runs.screen,
    "finals": runs.finals,
    "tables": tables.main,
    "plots": lambda results: plots.main(results, HERE.parents[1] / "docs" / "gates"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all in this order without one")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="what is there is not run again")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"unknown: {', '.join(unknown)}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    # A model is opened for every run; that is not news here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    model_logging.disable_progress_bar()
    for part in arguments.parts or PARTS:
        PARTS[part](arguments.results)


if __name__ == "__main__":
    main()
