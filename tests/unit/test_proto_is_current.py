"""The generated messages are what `make proto` would generate now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parents[2] / "proto"


def test_generated_code_is_current(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={tmp_path}"]
    subprocess.run([*command, f"--pyi_out={tmp_path}", "sspo_proto/trajectory.proto"], check=True, cwd=PROTO)
    for name in ("trajectory_pb2.py", "trajectory_pb2.pyi"):
        assert (tmp_path / "sspo_proto" / name).read_text() == (PROTO / "sspo_proto" / name).read_text(), name
