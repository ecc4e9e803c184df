"""docs/metrics.md, from the metric table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deploy.monitoring.promql import GPU, RAY, VLLM
from services.observability.metrics import METRICS, Metric
from services.records.figure import path_of

HEAD = """# Metrics

Written by `make dashboards` from `services/observability/metrics.py`; don't edit it here.

| source | where it is | whose it is |
|---|---|---|
| API | `/metrics` of the API, without a key | the API process |
| job | `/metrics` of the API | a job's state in Redis, read at each scrape; ends 15 minutes after the job |
| step | `/metrics` of the API | the newest step record of a job |
| learner, rollout, reward | the worker's own page | one process: a new worker begins at 0 |

Workers' pages, and those of Ray's nodes, are found by HTTP service discovery: `GET /v1/x/metrics/targets`, with the
API's key. Labels `job_id`, `kind`, `worker` and `node` come from there. Pages listen on loopback unless a node's
`SSPO_METRICS_HOST` says under which address others reach it. `deploy/prometheus` has a configuration and the
[alerts](runbook.md), `deploy/grafana` the dashboards.

A counter that never counted has no series yet where its labels are not known before: read `or` 0.
"""
SECTIONS: dict[str, str] = {
    "api": "API",
    "job": "Job",
    "step": "Step",
    "learner": "Learner",
    "rollout": "Rollout workers",
    "reward": "Reward workers",
}
FOREIGN = """## Of others

vLLM's own series are on the rollout workers' pages, Ray's on its nodes'. There are many more of both; the dashboards
read these.
"""


def document() -> str:
    """The page."""
    parts = [HEAD]
    for key, title in SECTIONS.items():
        metrics = [metric for metric in METRICS if (metric.worker or metric.source) == key]
        parts.append(f"## {title}\n\n{_table(('metric', 'kind', 'labels', 'what it is'), map(_row, metrics))}")
    foreign = [(f"`{name}`", kind, "") for name, kind in {**VLLM, **RAY}.items()]
    foreign += [(f"`{name}`", kind, "with a GPU only") for name, kind in GPU.items()]
    return "\n".join((*parts, FOREIGN, _table(("metric", "kind", ""), foreign)))


def _row(metric: Metric) -> Sequence[str]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    buckets = f"; buckets {', '.join(f'{edge:g}' for edge in metric.buckets)}" if metric.buckets else ""
    figure = f"; `{path_of(metric.figure)}` of the step record" if metric.figure else ""
    return f"`{metric.name}`", metric.kind, labels, f"{metric.help}{buckets}{figure}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
