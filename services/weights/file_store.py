"""Version folders on a file system: find, hold, collect; `publish` writes them.

Invariants: a version folder appears complete by one rename and never changes; it vanishes by one rename too. A worker
that loads a version first holds it by hard links, so a collection can't pull it away. `root` is one job's folder on
storage that learner and engines share.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from services.disk.files import remove_leftovers
from services.weights.manifest import MANIFEST_FILE, Manifest

_VERSION = re.compile(r"v(\d{8,})")


class VersionGone(Exception):
    """The version folder is not there any more, or never was."""


class BadManifest(ValueError):
    """A manifest.json that is not a manifest."""


def version_folder(root: Path, version: int) -> Path:
    """Path of the folder of `version`."""
    return root / f"v{version:08d}"


def versions(root: Path) -> dict[int, Path]:
    """Published versions and their folders, oldest first."""
    found = {int(m[1]): path for path in root.glob("v*") if (m := _VERSION.fullmatch(path.name))}
    return dict(sorted(found.items()))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version folder. Raises VersionGone without the folder, BadManifest for what is none."""
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise VersionGone(str(path)) from error
    except ValidationError as error:
        raise BadManifest(f"{path}: {error}") from error


@contextmanager
def held(folder: Path, holder: str) -> Iterator[Path]:
    """A private folder with hard links to a version's files, for as long as it is loaded. Raises VersionGone.

    `holder` is the id of the worker that loads; one holder loads one version at a time.
    """
    private = folder.parent / f".held-{holder}" / folder.name
    shutil.rmtree(private.parent, ignore_errors=True)
    private.mkdir(parents=True)
    try:
        try:
            for file in folder.iterdir():
                os.link(file, private / file.name)
        except FileNotFoundError as error:
            raise VersionGone(str(folder)) from error
        yield private
    finally:
        shutil.rmtree(private.parent, ignore_errors=True)


def collect_garbage(root: Path, keep: int = 3) -> list[int]:
    """Remove all but the newest `keep` versions and old leftovers of killed processes; returns the versions removed."""
    if keep < 1:
        raise ValueError(f"keep: {keep}, at least the newest version has to stay")
    found = versions(root)
    old = list(found)[:-keep]
    for version in old:
        trash = root / f".trash-{found[version].name}"
        os.rename(found[version], trash)
        shutil.rmtree(trash, ignore_errors=True)
    remove_leftovers(root, ".tmp-*", ".held-*", ".trash-*")
    return old
