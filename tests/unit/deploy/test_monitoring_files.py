"""Dashboards, alert rules and the page of metrics: generated, current, and on names that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.alerts import ALERTS
from deploy.monitoring.alerts.alert import Alert
from deploy.monitoring.alerts.phrases import RECORDING
from deploy.monitoring.files import METRICS_PAGE, files
from deploy.monitoring.grafana import COLUMNS, DATASOURCE
from deploy.monitoring.promql import RECORDED, metric_names, of_table, series_names
from services.observability.metrics import METRICS
from tests.support.prometheus.questions import questions
from tests.support.prometheus.server import program

from .documents import DEPLOY, ROOT, compose

SHIPPED = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PARTS = ("**What it means.**", "**What is normal.**", "**What to do.**")


def shipped(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def panels(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in shipped(path)["panels"] if panel["type"] != "row"]


def expressions(path: Path) -> list[str]:
    """Everything that a dashboard asks Prometheus, its variables and annotations included."""
    board = shipped(path)
    found = [target["expr"] for panel in panels(path) for target in panel["targets"]]
    found += [one["expr"] for one in board["annotations"]["list"]]
    found += [re.sub(r"label_values\((.*), \w+\)", r"\1", one["query"]["query"]) for one in board["templating"]["list"]]
    return found


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_a_generated_file_is_current(path: Path) -> None:
    assert path.read_text() == files()[path], "run `make dashboards`"


def test_no_dashboard_is_left_over() -> None:
    assert sorted(path for path in files() if path.suffix == ".json") == SHIPPED
    assert {path.stem for path in SHIPPED} == {
        "sspo-drift",
        "sspo-throughput",
        "sspo-workers",
        "sspo-graders",
        "sspo-job",
    }


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up", {"up"}),
        ('sum by (le, kind) (rate(a_bucket{le="b", job_id=~"$job"}[$__rate_interval]))', {"a_bucket"}),
        ("x * 1e-4 > 0.5 and on (job_id) y:z:sum > 0 or vector(0)", {"x", "y:z:sum"}),
        ("a offset 15m unless ignoring (state) vllm:b_total", {"a", "vllm:b_total"}),
        ("time() - max_over_time(c[10m])", {"c"}),
        ("max_over_time(rate(a_total[5m])[1h:1m]) / on (b) group_left (c) -d > bool 1", {"a_total", "d"}),
    ],
)
def test_names_are_found_in_expressions(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


def test_what_is_no_promql_is_an_error() -> None:
    with pytest.raises(ValueError, match="parenthesis"):
        metric_names("sum by (a) (up")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_series_of_a_dashboard_exists(path: Path) -> None:
    for expression in expressions(path):
        asked = metric_names(expression)
        assert asked and asked <= series_names(), f"{sorted(asked - series_names())} in {expression}"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_label_of_a_dashboard_exists(path: Path) -> None:
    """Labels that a query groups by are those of its metric, or come from discovery."""
    for expression in expressions(path):
        ours = [metric for name in metric_names(expression) if (metric := of_table(name))]
        if len(ours) != 1 or len(metric_names(expression)) != 1:
            continue
        known = {*ours[0].labels, "le", "job_id", "kind", "worker", "node", "instance", "job"}
        grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
        assert grouped <= known, expression


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_dashboard_is_what_grafana_reads(path: Path) -> None:
    board = shipped(path)
    assert board["uid"] == path.stem and board["schemaVersion"] == 39
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < COLUMNS, panel["title"]
        taken |= cells
    for panel in panels(path):
        assert panel["datasource"] == DATASOURCE and panel["description"].strip(), panel["title"]
        assert panel["targets"] and all(target["datasource"] == DATASOURCE for target in panel["targets"])
        if panel["type"] == "heatmap":
            assert all(target["format"] == "heatmap" for target in panel["targets"])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_dashboard_chooses_jobs_and_marks_what_happened(path: Path) -> None:
    board = shipped(path)
    assert board["templating"]["list"][0]["name"] == "job"
    assert [one["name"] for one in board["annotations"]["list"]] == ["scale", "sync", "restart", "checkpoint", "alert"]


def test_a_panel_of_drift_says_what_it_means_what_is_normal_and_what_to_do() -> None:
    for panel in panels(DEPLOY / "grafana" / "dashboards" / "sspo-drift.json"):
        assert all(part in panel["description"] for part in PARTS), panel["title"]


def test_ratios_have_heat_maps_by_staleness() -> None:
    maps = [panel for panel in panels(DEPLOY / "grafana" / "dashboards" / "sspo-drift.json") if "repeat" in panel]
    asked = {name for panel in maps for target in panel["targets"] for name in metric_names(target["expr"])}
    assert asked == {"sspo_is_ratio_bucket", "sspo_seq_is_ratio_bucket"}
    assert all(panel["type"] == "heatmap" and panel["repeat"] == "staleness" for panel in maps)


def test_provisioning_names_what_compose_mounts() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["uid"]) == (DATASOURCE["type"], DATASOURCE["uid"])
    assert re.fullmatch(r"http://(\w+):9090", source["url"]).group(1) in compose()["services"]  # type: ignore[union-attr]
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "sspo.yml").read_text())["providers"]
    mounts = dict(mount.split(":")[:2] for mount in compose()["services"]["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    kept = yaml.safe_load((DEPLOY / "grafana" / "kustomization.yaml").read_text())["configMapGenerator"]
    assert kept[0]["files"] == [f"dashboards/{path.name}" for path in SHIPPED]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_is_on_series_that_exist_and_has_its_place_in_the_runbook(alert: Alert) -> None:
    asked = metric_names(alert.promql)
    assert asked <= series_names(), sorted(asked - series_names())
    assert alert.summary and alert.description and alert.severity
    path, anchor = alert.runbook.split("#")
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", (ROOT / path).read_text(), re.MULTILINE)}
    assert anchor in headings


def test_the_runbook_has_no_alert_that_is_gone() -> None:
    assert set(re.findall(r"^### (Sspo\w+)$", RUNBOOK, re.MULTILINE)) == {alert.name for alert in ALERTS}


def test_the_runbook_says_the_thresholds_that_are_in_the_rules() -> None:
    for alert in ALERTS:
        (section,) = re.findall(rf"^### {alert.name}\n\n`(.*)`", RUNBOOK, re.MULTILINE)
        said = re.search(r"([<>=]+) ([\d.]+) for (\w+)$", section)
        assert said is not None, section
        assert said.groups() == (alert.comparison, f"{alert.threshold:g}", alert.lasting), alert.name


def test_recording_rules_are_those_that_queries_may_ask_for() -> None:
    assert set(RECORDING) == RECORDED


def test_every_metric_has_a_place() -> None:
    """In the page of metrics; and a worker's or a job's on a dashboard, or in an alert."""
    page = METRICS_PAGE.read_text()
    asked = {name for path in SHIPPED for text in expressions(path) for name in metric_names(text)}
    asked |= {name for alert in ALERTS for name in metric_names(alert.promql)}
    shown = {metric.name for name in asked if (metric := of_table(name))}
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.kind} |" in page
    unseen = {metric.name for metric in METRICS} - shown
    assert unseen <= NOT_SHOWN, sorted(unseen)


NOT_SHOWN = {"sspo_build_info", "sspo_is_ratio_std"}


def promtool(*arguments: str | Path) -> None:
    command = [program("promtool"), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_reads_configuration_and_rules() -> None:
    promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")


def test_every_question_of_a_panel_is_promql(tmp_path: Path) -> None:
    asked = [{"record": f"question:{index}", "expr": one.expression} for index, one in enumerate(questions("a"))]
    rules = tmp_path / "questions.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "questions", "rules": asked}]}))
    promtool("check", "rules", rules)


def test_alerts_fire_and_keep_silent_as_they_should() -> None:
    promtool("test", "rules", DEPLOY / "prometheus" / "alerts.test.yml")


def test_every_alert_is_tested_both_ways() -> None:
    cases = yaml.safe_load((DEPLOY / "prometheus" / "alerts.test.yml").read_text())["tests"]
    fires, silent = set(), set()
    for case in cases:
        for check in case["promql_expr_test"]:
            for name in re.findall(r'alertname="(\w+)"', check["expr"]):
                (fires if check["exp_samples"] else silent).add(name)
    assert fires == silent == {alert.name for alert in ALERTS}
