"""`python -m benchmarks.drift_study WHAT`: see the package's docstring."""

from __future__ import annotations

from pathlib import Path

from benchmarks import study_cli
from benchmarks.drift_study import plots, study

HERE = Path(__file__).parent
PARTS: study_cli.Parts = {
    "run": study.run,
    "table": lambda results: print(plots.table(study.read(results / "runs.jsonl"))),
    "plots": lambda results: plots.main(results, HERE.parents[1] / "docs" / "images"),
}

if __name__ == "__main__":
    study_cli.main(__doc__, PARTS, HERE / "results")
