"""`python -m benchmarks.gate_study WHAT`: see the package's docstring."""

from __future__ import annotations

from pathlib import Path

from benchmarks import study_cli
from benchmarks.gate_study import plots, runs, simulated, tables

HERE = Path(__file__).parent
PARTS: study_cli.Parts = {
    "simulated": lambda results: simulated.main(results / "simulated.jsonl"),
    "screen": runs.screen,
    "finals": runs.finals,
    "tables": tables.main,
    "plots": lambda results: plots.main(results, HERE.parents[1] / "docs" / "gates"),
}

if __name__ == "__main__":
    study_cli.main(__doc__, PARTS, HERE / "results")
