"""The reward worker as a real Ray actor."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from tokenizers import Tokenizer, models

from services.disk.layout import Layout
from services.job.spec import JobSpec, LearnerSpec, RewardSpec, RolloutSpec
from services.reward.actor import RewardActor
from services.store.client import Client
from services.store.job.registry import Registry

JOB = "ftjob-actor"
GRADER = {"type": "regex_match", "name": "any", "input": "{{sample.output_text}}", "pattern": "."}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="sspo-ray") as folder:
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            _temp_dir=folder,
            log_to_driver=False,
            namespace="sspo",
        )
        yield
        ray.shutdown()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    folder = layout.models / "tiny"
    folder.mkdir(parents=True)
    Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return layout


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("cluster")
def test_run_can_be_called_again_and_every_call_ends_with_the_drain(
    client: Client, redis_url: str, layout: Layout
) -> None:
    spec = JobSpec(
        job_id=JOB,
        model="tiny",
        training_file="file-1",
        seed=1,
        grader=GRADER,
        objective={"name": "sspo"},
        rollout=RolloutSpec(),
        learner=LearnerSpec(),
        reward=RewardSpec(),
    )
    environment = {"env_vars": {"SSPO_REDIS_URL": redis_url, "SSPO_DATA": str(layout.root)}}
    actor = RewardActor.options(name=f"{JOB}/reward-1", runtime_env=environment).remote(
        spec.model_dump_json(), "reward-1"
    )
    first = actor.run.remote()
    adopted = ray.get_actor(f"{JOB}/reward-1")
    second = adopted.run.remote()
    deadline = time.monotonic() + 60
    while [worker.state for worker in Registry(client).list(JOB)] != ["ready"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ray.get(adopted.drain.remote(), timeout=10)
    assert ray.get([first, second], timeout=20) == ["drained", "drained"]
