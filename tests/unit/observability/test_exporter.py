"""A worker's meters, and the page they are on."""

from __future__ import annotations

import time

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from services.observability import exporter
from services.observability.meters import Meters
from services.observability.metrics import METRICS, RATIO_BUCKETS

WORKERS = 64


def samples(page: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_a_page_has_what_was_counted_and_what_an_engine_says() -> None:
    meters, engine = Meters(), CollectorRegistry()
    Gauge("vllm:num_requests_running", "of an engine", registry=engine).set(3)
    meters.count("sspo_weight_sync_failures_total", cause="CanaryFailed")
    meters.count("sspo_rollout_groups_total", 4)
    meters.observe("sspo_weight_sync_seconds", 0.2)
    page = exporter.serve((meters.registry, engine))
    try:
        found = samples(httpx.get(f"http://{page.address}/metrics", timeout=5).text)
    finally:
        page.close()
    assert found["sspo_weight_sync_failures_total", "cause=CanaryFailed"] == 1
    assert found["sspo_rollout_groups_total",] == 4
    assert found["sspo_weight_sync_seconds_bucket", "le=0.3"] == 1
    assert found["vllm:num_requests_running",] == 3
    assert not any(name.startswith("sspo_learner") for name, *_ in found), "only what this worker is"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{page.address}/metrics", timeout=5)


def test_bins_become_a_cumulative_histogram() -> None:
    meters = Meters()
    counts = [0.0] * (len(RATIO_BUCKETS) + 1)
    counts[3], counts[-1] = 6, 2
    meters.add_bins("sspo_is_ratio", counts, 25.0, staleness="1")
    meters.add_bins("sspo_is_ratio", counts, 25.0, staleness="1")
    page = exporter.serve((meters.registry,))
    found = samples(httpx.get(f"http://{page.address}/metrics", timeout=5).text)
    page.close()
    le = [found["sspo_is_ratio_bucket", f"le={edge}", "staleness=1"] for edge in ("0.9", "0.95", "5", "+Inf")]
    assert le == [0, 12, 12, 16]
    assert found["sspo_is_ratio_sum", "staleness=1"] == 50
    with pytest.raises(ValueError, match="counts: 1 of 13"):
        meters.add_bins("sspo_is_ratio", [1.0], 1.0, staleness="1")


def test_only_names_of_the_table_can_be_counted() -> None:
    with pytest.raises(KeyError):
        Meters().count("sspo_invented_total")


def test_many_exporters_in_one_process_are_scraped_quickly() -> None:
    pages, series = [], 0
    for _ in range(WORKERS):
        meters = Meters()
        for metric in METRICS:
            labels = dict.fromkeys(metric.labels, "1")
            if metric.source != "worker":
                continue
            if metric.buckets and metric.name in ("sspo_is_ratio", "sspo_seq_is_ratio", "sspo_staleness_steps"):
                for staleness in range(9 if labels else 1):
                    at = {"staleness": str(staleness)} if labels else {}
                    meters.add_bins(metric.name, [1.0] * (len(metric.buckets) + 1), 1.0, **at)
            elif metric.kind == "histogram":
                meters.observe(metric.name, 0.1, **labels)
            else:
                meters.count(metric.name, 1, **labels)
        pages.append(exporter.serve((meters.registry,)))
    with httpx.Client() as client:
        started = time.process_time()
        for page in pages:
            text = client.get(f"http://{page.address}/metrics", timeout=5).text
            series += sum(not line.startswith("#") for line in text.splitlines())
        seconds = time.process_time() - started
    for page in pages:
        page.close()
    print(f"{WORKERS} exporters, {series} series: {seconds * 1000:.0f} ms of CPU")
    assert series > WORKERS * 250
    assert seconds < 1.0, "a loose bound for a busy machine; the benchmark prints the figure"


def test_a_page_that_can_not_be_served_stops_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSPO_METRICS_HOST", "192.0.2.1")  # an address that no machine has
    assert exporter.serve_address() == ""
