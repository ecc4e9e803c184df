"""Deployment files can't be run here, so each name in them is checked against the code it refers to."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from services.api.routes import system, x
from services.settings.processes import ALL, ApiSettings

from .documents import (
    DEPLOY,
    DOCKERFILES,
    KUBERNETES,
    ROOT,
    commands,
    compose,
    containers,
    environment_names,
    everywhere,
    instructions,
    kubernetes_ports,
    manifests,
    walk,
)

ENVIRONMENT_FILES = [DEPLOY / "docker" / "compose.env.example", DEPLOY / "kubernetes" / "secrets.env.example"]
TEXTS = [ROOT / "docker-compose.yml", *DOCKERFILES, *KUBERNETES, *DEPLOY.glob("prometheus/*.yml"), *ENVIRONMENT_FILES]
RAY_NODES = ("ray-head", "ray-worker-cpu", "ray-worker-gpu", "controller")
OF_OTHERS = {"PYTHONUNBUFFERED", "REDISCLI_AUTH"}
"""Variables that Python and redis-cli read; pip's, NVIDIA's and Grafana's are known by their prefix."""


@cache
def sources() -> str:
    return "\n".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))


@cache
def ray_start_options() -> set[str]:
    ray = str(Path(sys.executable).with_name("ray"))
    shown = subprocess.run([ray, "start", "--help"], capture_output=True, text=True, check=True, timeout=50)
    return set(re.findall(r"^  (--[\w-]+)", shown.stdout, re.MULTILINE))


def test_every_module_that_is_started_exists() -> None:
    modules = {module for line in commands() for module in re.findall(r"python -m ([\w.]+)", line)}
    assert modules == {"services.api", "services.controller", "services.reward"}
    for module in modules:
        folder = ROOT / module.replace(".", "/")
        assert (folder / "__main__.py").is_file(), module


def test_every_option_of_ray_start_exists() -> None:
    lines = [line for line in commands() if "ray start" in line]
    assert len(lines) == 5
    options = {option for line in lines for option in re.findall(r"(--[\w-]+)", line.split("&&")[0])}
    assert {"--head", "--address", "--num-cpus"} <= options
    for part in everywhere():
        options |= {f"--{name}" for name in part.get("rayStartParams", {})}
    assert options <= ray_start_options()


def reads(text: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None


def test_every_variable_is_read_by_somebody() -> None:
    names = environment_names()
    assert {"SSPO_DATA", "SSPO_REDIS_URL", "SSPO_RAY_ADDRESS", "SSPO_API_KEY", "SSPO_HOST", "SSPO_PORT"} <= names
    ray_root = Path(str(find_spec("ray").origin)).parent  # type: ignore[union-attr]
    ray_text = (ray_root / "exceptions.py").read_text() + (
        ray_root / "_private" / "runtime_env" / "image_uri.py"
    ).read_text()
    everything = "\n".join(path.read_text() for path in TEXTS)
    for name in names - OF_OTHERS:
        if name.startswith(("PIP_", "NVIDIA_", "GF_", "SSPO_")):
            continue
        used_here = re.search(rf"\$[({{]?{name}\b", everything) is not None
        assert reads(sources(), name) or reads(ray_text, name) or used_here, f"nobody reads {name}"
    ours = {settings.variable(field) for settings in ALL for field in settings.model_fields}
    assert {name for name in names if name.startswith("SSPO_")} <= ours


def test_every_variable_that_is_required_stands_in_the_example() -> None:
    required = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    example = set(re.findall(r"^(\w+)=", ENVIRONMENT_FILES[0].read_text(), re.MULTILINE))
    assert required == example
    keys = {
        part["secretKeyRef"]["key"] for document in manifests() for part in walk(document) if "secretKeyRef" in part
    }
    assert keys == set(re.findall(r"^(\w+)=", ENVIRONMENT_FILES[1].read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", ENVIRONMENT_FILES, ids=lambda path: path.name)
def test_the_examples_hold_no_secret(path: Path) -> None:
    for name, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE):
        assert not value or name == "SSPO_PUBLISH"


def test_ports_agree_with_the_code_and_with_each_other() -> None:
    default = str(ApiSettings.model_fields["port"].default)
    api = compose()["services"]["api"]
    assert api["environment"]["SSPO_PORT"] == default
    assert api["ports"][0].endswith(f":{default}")
    assert f":{default}/readyz" in api["healthcheck"]["test"][-1]
    assert instructions(DEPLOY / "docker" / "api.Dockerfile", "EXPOSE") == [default]
    assert f"SSPO_PORT={default}" in instructions(DEPLOY / "docker" / "api.Dockerfile", "ENV")[-1]
    assert kubernetes_ports("container")["http"] == kubernetes_ports("service")["http"] == int(default)
    assert f"api:{default}" in (DEPLOY / "prometheus" / "prometheus.yml").read_text()

    ray = compose()["services"]["ray-head"]["command"]
    assert "--port=6379" in ray and kubernetes_ports("container")["gcs-server"] == 6379
    addresses = [
        one["environment"]["SSPO_RAY_ADDRESS"] for name, one in compose()["services"].items() if "ray-" in name
    ]
    assert set(addresses) == {"ray-head:6379"}
    assert kubernetes_ports("container")["redis"] == kubernetes_ports("service")["redis"] == 6379
    for text in (ROOT / "docker-compose.yml", *KUBERNETES):
        assert set(re.findall(r"@redis:(\d+)", text.read_text())) <= {"6379"}


def test_paths_that_are_asked_for_are_routes() -> None:
    routes = {route.path for router in (system.router, x.router) for route in router.routes}  # type: ignore[attr-defined]
    asked = {
        part["path"]
        for document in manifests()
        for part in walk(document)
        if "httpGet" in part
        for part in [part["httpGet"]]
    }
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    for scrape in prometheus["scrape_configs"]:
        asked |= {scrape["metrics_path"]} if "metrics_path" in scrape else set()
        asked |= {re.sub(r"^http://[^/]+", "", one["url"]) for one in scrape.get("http_sd_configs", [])}
    assert asked == {"/healthz", "/readyz", "/metrics", "/v1/x/metrics/targets"}
    assert asked <= routes


def test_prometheus_finds_its_key_where_compose_puts_it() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    files = {part["credentials_file"] for part in walk(prometheus) if "credentials_file" in part}
    secrets = compose()["services"]["prometheus"]["secrets"]
    assert files == {f"/run/secrets/{name}" for name in secrets}
    assert set(secrets) <= set(compose()["secrets"])


def test_compose_names_files_volumes_and_services_that_exist() -> None:
    services, volumes = compose()["services"], compose()["volumes"]
    for name, service in services.items():
        build_from = service.get("build", {})
        assert not build_from or (ROOT / build_from["dockerfile"]).is_file(), name
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in volumes or (ROOT / source).exists(), f"{name}: {mount}"
        assert set(service.get("depends_on", {})) <= set(services), name
    assert services["redis"].get("ports") is None, "Redis is not published"
    assert services["ray-head"].get("ports") is None, "the Ray head is not published"


def test_every_kubernetes_file_is_applied_and_names_hang_together() -> None:
    kustomization = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    assert sorted(kustomization["resources"]) == [path.name for path in KUBERNETES if path.name != "kustomization.yaml"]
    assert "secrets.env" in (DEPLOY / "kubernetes" / ".gitignore").read_text().split()
    made = {one["name"] for kind in ("secretGenerator", "configMapGenerator") for one in kustomization[kind]}
    for part in everywhere():
        for reference in ("secretKeyRef", "configMapRef"):
            assert reference not in part or part[reference]["name"] in made
    claims = {part["claimName"] for part in everywhere() if "claimName" in part}
    assert claims == {one["metadata"]["name"] for one in manifests() if one["kind"] == "PersistentVolumeClaim"}
    (cluster,) = [one for one in manifests() if one["kind"] == "RayCluster"]
    literals = kustomization["configMapGenerator"][0]["literals"]
    assert f"SSPO_RAY_ADDRESS={cluster['metadata']['name']}-head-svc:6379" in literals
    assert f"ray[default]=={cluster['spec']['rayVersion']}" in (ROOT / "pyproject.toml").read_text()


def test_every_ray_node_demands_the_token_and_sees_the_same_world() -> None:
    for name in RAY_NODES:
        service = compose()["services"][name]
        environment = service["environment"]
        assert environment["RAY_AUTH_MODE"] == "token" and environment["RAY_AUTH_TOKEN"]
        assert {"SSPO_DATA", "SSPO_REDIS_URL"} <= environment.keys() and service["volumes"] == ["data:/data"]
    nodes = [one for one in containers() if one["image"] in ("sspo/cpu-worker", "sspo/gpu-worker")]
    assert len(nodes) == 4
    for node in nodes:
        names = {pair["name"]: pair for pair in node["env"]}
        assert names["RAY_AUTH_MODE"]["value"] == "token" and "RAY_AUTH_TOKEN" in names and "SSPO_REDIS_URL" in names
        assert {"name": "data", "mountPath": "/data"} in node["volumeMounts"]
