"""Executing graders. Pure functions: the same sample and item give the same reward.

Only the grader process may call these functions. A regular expression can hold the interpreter for ever while it is
compiled or matched, and then only a kill helps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.job.graders import Grader, GraderError, RegexMatchGrader, StringCheckGrader, render


@dataclass(frozen=True)
class GraderResult:
    """A reward, and the parts it was made of by name (none for a grader without parts)."""

    value: float
    components: dict[str, float] = field(default_factory=dict)


_OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


def check(grader: Grader) -> None:
    """Check what only a trial shows: the pattern has to compile. Raises GraderError."""
    if isinstance(grader, RegexMatchGrader):
        try:
            re.compile(grader.pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise GraderError("pattern", f"not a regular expression: {error}") from error


def grade(grader: Grader, sample: Mapping[str, object], item: Mapping[str, object]) -> GraderResult:
    """The reward of one sample. Raises TemplateError when a template names a field that is missing or null."""
    match grader:
        case StringCheckGrader():
            passed = _string_check(grader, sample, item)
        case RegexMatchGrader():
            passed = _regex_match(grader, sample, item)
    return GraderResult(1.0 if passed else 0.0)


def _string_check(grader: StringCheckGrader, sample: Mapping[str, object], item: Mapping[str, object]) -> bool:
    text, reference = render(grader.input, sample, item), render(grader.reference, sample, item)
    return _OPERATIONS[grader.operation](text, reference)


def _regex_match(grader: RegexMatchGrader, sample: Mapping[str, object], item: Mapping[str, object]) -> bool:
    text = render(grader.input, sample, item)
    if grader.reference is None:
        return re.search(grader.pattern, text) is not None
    reference = render(grader.reference, sample, item)
    last = None
    for found in re.finditer(grader.pattern, text):
        last = found
    if last is None:
        return False
    return bool(last[1 if last.re.groups else 0] == reference)
