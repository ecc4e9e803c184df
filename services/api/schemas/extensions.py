"""Requests and answers of /v1/x. A job's view and the dead letters have modules of their own."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from services.api.schemas.base import AnswerModel, Named, Request
from services.api.schemas.said import Said
from services.drift.findings import Finding, Severity
from services.records.samples import GateCurve
from services.records.worker import ScaledKind


class Scale(Request):
    """How many workers of a kind a job wants."""

    replicas: Annotated[int, Field(ge=0, le=256)]
    """Workers wanted. 0: none, and the job waits."""
    operation_id: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """A name of your own for this change, so that repeating it changes nothing; another body under it is refused."""


class ScaleAnswer(AnswerModel):
    """The outcome of a scaling."""

    object: Literal["x.scale"] = "x.scale"
    """Always `x.scale`."""
    job_id: str
    """The job."""
    kind: ScaledKind
    """Which workers."""
    replicas: int
    """Workers wanted from now on."""
    previous: int
    """Workers wanted before."""
    applied: bool
    """False for an operation that was seen before, which changes nothing."""
    operation_id: str | None
    """As the request gave it."""


class MetricPoint(AnswerModel):
    """Figures of one step."""

    step: int
    """The step, from 0."""
    values: dict[str, int | float | None]
    """Figure → value; names are dotted paths, and null is a figure that was not finite."""


class FindingView(AnswerModel):
    """One thing that can be said of a job now."""

    name: str
    """The rule's name, for programs: stays the same while words change."""
    title: str
    """What it is, in a few words."""
    text: str
    """What it means and what to do about it."""
    severity: Severity
    """How grave it is."""
    evidence: dict[str, JsonValue]
    """The figures that it follows from."""

    @classmethod
    def of(cls, finding: Finding) -> FindingView:
        """Of what a rule said."""
        return cls(**dataclasses.asdict(finding))


class Explanation(AnswerModel):
    """What a job's figures mean now."""

    object: Literal["x.explanation"] = "x.explanation"
    """Always `x.explanation`."""
    data: list[FindingView]
    """Findings, the gravest first."""


class GateAnswer(AnswerModel):
    """The curve of a job's gate."""

    object: Literal["x.gate"] = "x.gate"
    """Always `x.gate`."""
    gate: Said[GateCurve] | None
    """A token's weight over its log ratio; null before a learner wrote it."""


class ModelAnswer(Named):
    """A model that a job may start from; its id is what `model` names."""

    object: Literal["model"] = "model"
    """Always `model`."""
    owned_by: str = "sspo"
    """Always `sspo`."""


class TargetGroup(AnswerModel):
    """Metrics pages for Prometheus, in the form of its HTTP service discovery."""

    targets: list[str]
    """HOST:PORT of the pages."""
    labels: dict[str, str]
    """Labels that their series get."""
