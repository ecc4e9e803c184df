"""PromQL by its names, as promql-parser reads it: which metrics an expression asks for, and which metrics there are.

Invariant: a series in a panel or an alert comes from the metric table, from a recording rule beside the alerts, from
Prometheus itself, or from the two lists of foreign names below.
"""

from __future__ import annotations

import re

from promql_parser import Expr, VectorSelector, parse, walk

from services.observability.metrics import METRICS, Metric

HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
WORKERS_ALIVE = "job_id:sspo_workers:sum"
STEP_INTERVAL = "job_id:sspo_step_interval_seconds:mean10m"
RECORDED = frozenset({WORKERS_ALIVE, STEP_INTERVAL})
OF_PROMETHEUS = frozenset({"up", "ALERTS", "scrape_duration_seconds"})

VLLM: dict[str, str] = {
    "vllm:num_requests_running": "gauge",
    "vllm:num_requests_waiting": "gauge",
    "vllm:kv_cache_usage_perc": "gauge",
    "vllm:generation_tokens_total": "counter",
    "vllm:prompt_tokens_total": "counter",
    "vllm:num_preemptions_total": "counter",
    "vllm:prefix_cache_queries_total": "counter",
    "vllm:prefix_cache_hits_total": "counter",
    "vllm:request_success_total": "counter",
    "vllm:time_to_first_token_seconds": "histogram",
    "vllm:inter_token_latency_seconds": "histogram",
    "vllm:request_queue_time_seconds": "histogram",
    "vllm:e2e_request_latency_seconds": "histogram",
}
"""What vLLM 0.32 says of its engine, on the page of the rollout worker that it runs in."""

RAY: dict[str, str] = {
    "ray_actors": "gauge",
    "ray_object_store_memory": "gauge",
    "ray_node_cpu_utilization": "gauge",
    "ray_node_mem_used": "gauge",
    "ray_node_mem_total": "gauge",
    "ray_node_disk_utilization_percentage": "gauge",
}
"""What Ray 2.60 says of its nodes, on their own pages."""

GPU: dict[str, str] = {
    "ray_node_gpus_utilization": "gauge",
    "ray_node_gram_used": "gauge",
    "ray_node_gram_available": "gauge",
}
"""The same of GPUs; absent where there is none."""

_OF_GRAFANA = re.compile(r"\$__\w+")
"""Lengths of time that Grafana fills in."""


def metric_names(expression: str) -> set[str]:
    """The series that an expression selects, with a histogram's suffixes. Raises ValueError for what is no PromQL."""
    parts: list[Expr] = []
    walk(parse(_OF_GRAFANA.sub("1m", expression)), parts.append)
    return {part.name for part in parts if isinstance(part, VectorSelector) and part.name}


def series_names() -> set[str]:
    """Every series that there can be."""
    ours = {metric.name: metric.kind for metric in METRICS}
    names = set(RECORDED | OF_PROMETHEUS)
    for name, kind in {**ours, **VLLM, **RAY, **GPU}.items():
        names |= {name + suffix for suffix in HISTOGRAM_SUFFIXES} if kind == "histogram" else {name}
    return names


def of_table(name: str) -> Metric | None:
    """The metric of the table that a series belongs to."""
    for metric in METRICS:
        names = {metric.name + suffix for suffix in HISTOGRAM_SUFFIXES} if metric.kind == "histogram" else {metric.name}
        if name in names:
            return metric
    return None
