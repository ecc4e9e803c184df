"""The deployment files as data, for the tests beside this file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


@cache
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@cache
def manifests() -> list[dict[str, Any]]:
    return [one for path in KUBERNETES for one in yaml.safe_load_all(path.read_text()) if one]


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside a document."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from walk(part)
    elif isinstance(value, list):
        for part in value:
            yield from walk(part)


def everywhere() -> Iterator[dict[str, Any]]:
    """Every mapping inside every Kubernetes document."""
    return (part for document in manifests() for part in walk(document))


def containers() -> list[dict[str, Any]]:
    return [one for part in everywhere() for one in part.get("containers", [])]


def commands() -> list[str]:
    """Every command line of compose, Kubernetes and the images."""
    found = [" ".join(one.get("command", [])) for one in compose()["services"].values()]
    found += [" ".join(one["command"]) for one in containers() if "command" in one]
    return found + [line for path in DOCKERFILES for line in instructions(path, "CMD")]


def instructions(path: Path, keyword: str) -> list[str]:
    """The arguments of a Dockerfile's instructions of one kind, continued lines joined, exec forms as plain text."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    found = [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{keyword} ")]
    return [" ".join(yaml.safe_load(text)) if text.startswith("[") else text for text in found]


def environment_names() -> set[str]:
    """Every variable that compose, Kubernetes and the images set."""
    names = {name for one in compose()["services"].values() for name in one.get("environment", {})}
    names |= {pair["name"] for one in containers() for pair in one.get("env", [])}
    for path in DOCKERFILES:
        names |= {pair.split("=")[0] for line in instructions(path, "ENV") for pair in line.split()}
    for document in manifests():
        for generator in document.get("configMapGenerator", []):
            names |= {pair.split("=")[0] for pair in generator["literals"]}
    return names


def kubernetes_ports(kind: str) -> dict[str, int]:
    """Container or service ports by name."""
    field = "containerPort" if kind == "container" else "port"
    found = [port for part in everywhere() for port in part.get("ports", [])]
    return {port["name"]: port[field] for port in found if field in port and "name" in port}
