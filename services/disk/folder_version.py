"""The data folder says which version of its own shape it has: `DIR/VERSION`, JSON.

A newer folder is refused by everything; an older one is brought up to date by `sspo up` or `sspo migrate`, and so is
one without the file that has been used (version 0).
"""

from __future__ import annotations

import json
from importlib.metadata import version as package_version

from services.disk.files import write_atomic
from services.disk.layout import Layout

SCHEMA_VERSION = 1


class FolderRefused(RuntimeError):
    """The folder was written by a newer version of SSPO, or its version can't be read."""


def read(layout: Layout) -> int:
    """The folder's version; that of a folder that was never used is this program's own. Raises FolderRefused."""
    try:
        return int(json.loads(layout.version.read_text())["schema_version"])
    except FileNotFoundError:
        used = layout.jobs.exists() or layout.redis.exists()
        return 0 if used else SCHEMA_VERSION
    except (ValueError, KeyError, TypeError) as error:
        raise FolderRefused(f"{layout.version} is no version file: put it back from a backup") from error


def write(layout: Layout, version: int) -> None:
    """Mark the folder, durably."""
    content = {"schema_version": version, "written_by": f"sspo {package_version('sspo')}"}
    write_atomic(layout.version, json.dumps(content).encode() + b"\n")


def refuse_newer(layout: Layout) -> None:
    """Raise FolderRefused for a folder that this program does not know."""
    if (found := read(layout)) > SCHEMA_VERSION:
        raise FolderRefused(
            f"{layout.root} has schema version {found} ({layout.version.name}), this is sspo "
            f"{package_version('sspo')} and knows up to {SCHEMA_VERSION}: install the version that wrote it or a newer "
            "one, or restore a backup from before the upgrade"
        )
