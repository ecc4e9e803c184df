"""Weights that are not what they say: the engine refuses them, or the canary tells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from services.rollout.engine import LoadRefused
from services.weights.file_store import read_manifest
from services.weights.fingerprint import write_hashed
from services.weights.manifest import MANIFEST_FILE, TENSORS_FILE
from tests.support.engine_bench import (
    LIMIT,
    Bench,
    worst_difference,
)

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),  # of third parties, while they are imported and run in this process
]


def test_the_canary_sees_a_stale_tied_head(tied: Bench) -> None:
    folder = tied.publish_next()
    content_hash = read_manifest(folder).content_hash
    llm = tied.engine._llm  # type: ignore[attr-defined]
    tied.loop.run(llm.collective_rpc("sspo_load_without_head", args=(str(folder), content_hash)))
    stale = tied.canary_mismatch(folder)
    answers = tied.loop.run(llm.collective_rpc("sspo_verify_version", args=(str(folder), content_hash)))
    tied.load(folder)
    assert stale > 100 * LIMIT
    assert "lm_head.weight (packed)" in answers[0]["refused"]
    assert tied.canary_mismatch(folder) < LIMIT


def test_a_wrong_content_hash_is_refused(bench: Bench, tmp_path: Path) -> None:
    current = bench.publish_next()
    bench.load(current)
    broken = tmp_path / "broken"
    shutil.copytree(current, broken)
    data = bytearray((broken / TENSORS_FILE).read_bytes())
    data[-3] ^= 0xFF
    (broken / TENSORS_FILE).write_bytes(data)
    with pytest.raises(LoadRefused, match="content hash"):
        bench.load(broken)
    assert bench.canary_mismatch(current) < LIMIT
    assert max(worst_difference(bench, completion) for completion in bench.sample()) < LIMIT


def test_a_missing_tensor_is_refused(bench: Bench, tmp_path: Path) -> None:
    current = bench.publish_next()
    bench.load(current)
    missing = "model.layers.1.mlp.down_proj.weight"
    tensors = {name: p for name, p in bench.models[bench.version].named_parameters() if name != missing}
    broken = tmp_path / "broken"
    shutil.copytree(current, broken)
    content_hash, infos = write_hashed(broken / TENSORS_FILE, tensors, torch.float32)
    manifest = json.loads((broken / MANIFEST_FILE).read_text()) | {"content_hash": content_hash}
    # A manifest that claims the tensor, with a file that lacks it; then both without it.
    for claimed in (manifest["tensors"], {name: info.model_dump() for name, info in infos.items()}):
        (broken / MANIFEST_FILE).write_text(json.dumps(manifest | {"tensors": claimed}))
        with pytest.raises(LoadRefused, match="down_proj"):
            bench.load(broken)
    assert bench.canary_mismatch(current) < LIMIT
