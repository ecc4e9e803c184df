"""Common parts of the studies: they run in order, and each reads from one folder of results."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from transformers.utils import logging as model_logging

Parts = Mapping[str, Callable[[Path], None]]


def main(description: str | None, parts: Parts, results: Path) -> None:
    """Run the parts that the command line names, all without one; what is in the folder is not run again."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all in this order without one")
    parser.add_argument("--results", type=Path, default=results, help="what is there is not run again")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(parts)):
        parser.error(f"unknown: {', '.join(unknown)}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    # Models are opened, faults injected and warned of in every run; that is not news here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    model_logging.disable_progress_bar()
    for part in arguments.parts or parts:
        parts[part](arguments.results)
