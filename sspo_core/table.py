"""The table of objectives in docs/objectives.md, from the code.

python -m sspo_core.table                      prints it
python -m sspo_core.table docs/objectives.md   writes it between the marks in that file
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from sspo_core.config import OBJECTIVES, ObjectiveConfig
from sspo_core.objectives.composition import Composition
from sspo_core.objectives.compositions import compose

BEGIN = "<!-- table of objectives: python -m sspo_core.table docs/objectives.md -->"
END = "<!-- end of the table -->"

HEADINGS = (
    "objective",
    "ratio",
    "trust region",
    "mean",
    "aggregation",
    "advantage",
    "gradient weight k",
    "defaults",
    "needs",
    "source",
)
UNLISTED = ("kl_coefficient", "kl_estimator", "aggregation")
"""Fields that every objective has alike, or that have a column of their own."""

READ_ONLY_WITH = {
    "norm_tokens": ("aggregation", "sum-norm"),
    "alpha": ("gate", "sigmoid_shifted"),
    "centre": ("gate", "sigmoid_shifted"),
    "clip_log": ("gate", "clip"),
}
"""Fields that matter only with one value of another field; left out where that isn't the default."""


def render() -> str:
    """The table in Markdown."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(_row(name) for name in OBJECTIVES)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _row(name: str) -> tuple[str, ...]:
    config = OBJECTIVES[name]()
    composition = compose(config)
    return (
        f"`{name}`",
        composition.ratio.replace("_", " ") if composition.corrects else "none",
        _regions(composition),
        composition.mean.label,
        composition.aggregation,
        config.advantage,
        config.gradient_weight,
        ", ".join(f"{field} {_plain(getattr(config, field))}" for field in _listed(config)),
        ", ".join(sorted(config.needs)),
        config.source,
    )


def _regions(composition: Composition) -> str:
    labels = [region.label for region in (composition.region, composition.bound) if region.label != "none"]
    return ", ".join(labels) or "none"


def _listed(config: ObjectiveConfig) -> list[str]:
    names = [field.name for field in dataclasses.fields(config) if field.name not in UNLISTED]
    conditions = {name: READ_ONLY_WITH[name] for name in names if name in READ_ONLY_WITH}
    return [
        name for name in names if name not in conditions or getattr(config, conditions[name][0]) == conditions[name][1]
    ]


def _plain(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def written_into(text: str) -> str:
    """The text with the table between its marks. Raises ValueError when it doesn't have them once each, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in after:
        raise ValueError(f"text: must have the marks {BEGIN!r} and {END!r} once each")
    return f"{before}{BEGIN}\n\n{render()}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) > 1:
        print(__doc__, file=sys.stderr)
        return 2
    if not arguments:
        print(render(), end="")
        return 0
    path = Path(arguments[0])
    path.write_text(written_into(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
