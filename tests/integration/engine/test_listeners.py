"""Nothing but the API may be reached from another machine, whatever the host's name resolves to."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of our own need root here")
def test_an_engine_listens_on_loopback_alone(tmp_path: Path) -> None:
    command = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.support.listeners", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr[-4000:]
    lines = [line for line in ended.stdout.splitlines() if line.count(":") >= 1 and line[0].isdigit()]
    beyond = [line for line in lines if not ip_address(line.rpartition(":")[0]).is_loopback]
    assert lines and beyond == []
