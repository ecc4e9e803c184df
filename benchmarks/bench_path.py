"""The trajectory path against raw redis-py making the same calls with opaque blobs, side by side on this machine.

    python -m benchmarks.bench_path [--groups N]

A group is 8 completions of 1,024 tokens. Ours: a task is encoded and dispatched; the rollout worker's side takes and
decodes it, encodes the sampled group and hands it over; the reward worker's side takes and decodes that, sets rewards
and hands it over; the learner's side reads and checks it and finishes its number. Raw: the same commands and scripts in
the same order with bytes of the same sizes that nobody looks at. Both on a redis-server of their own that fsyncs every
write, in turns. The journal is left out: raw redis-py has none.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from services.learner.batches.assembler import Assembler
from services.rollout.engine import SampledCompletion, Span
from services.rollout.groups.messages import sampled_group
from services.store import client as store
from services.store import keys
from services.trajectories import streams
from services.trajectories.codec import decode_group, decode_task, encode, ints
from services.trajectories.entries import CONSUMERS, PROMPTS, SCORED, TRAINING_STREAMS, TRAJECTORIES
from services.trajectories.progress import Progress
from services.trajectories.stage import SCAN, Stage
from sspo_proto.trajectory_pb2 import PromptTask, Reward, Sampling
from testbed.redis_server import RedisServer

MEMBERS, TOKENS, PROMPT = 8, 1024, 64
JOB = "ftjob-bench"
BATCH = 32
ROUNDS = 5

Calls = Callable[[store.Client, int], None]


def made_group() -> tuple[PromptTask, tuple[SampledCompletion, ...]]:
    """A task, and what an engine answers to it."""
    generator = np.random.default_rng(0)
    task = PromptTask(
        schema_version=1,
        job_id=JOB,
        prompt_token_ids=ints(generator.integers(0, 50_000, PROMPT, dtype=np.int32)),
        item_json=json.dumps({"answer": "42"}),
        sampling=Sampling(temperature=1.0, max_tokens=TOKENS, group_size=MEMBERS, seed=1),
    )
    completions = tuple(
        SampledCompletion(
            token_ids=tuple(generator.integers(0, 50_000, TOKENS).tolist()),
            logprobs=tuple((-generator.random(TOKENS)).astype(np.float32).tolist()),
            spans=(Span(version=1, start=0, end=TOKENS),),
            stop_reason="length",
        )
        for _ in range(MEMBERS)
    )
    return task, completions


def ours(client: store.Client, groups: int) -> None:
    """The path as the workers walk it, batch by batch."""
    task, completions = made_group()
    rollout = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-1")
    reward = Stage(client, JOB, TRAJECTORIES, SCORED, "reward-1")
    assembler = Assembler(JOB, BATCH, max_staleness=1)
    last = "0"
    for first in range(0, groups, BATCH):
        for number in range(first, first + BATCH):
            task.group_number = number
            assert streams.dispatch(client, JOB, number, encode(task), 0)
            entry = rollout.take()
            assert entry is not None
            sampled = sampled_group(decode_task(entry.payload), completions, {1: 0}, "rollout-1")
            assert rollout.hand_over(entry, encode(sampled), 0, sampled_tokens=MEMBERS * TOKENS)
            entry = reward.take()
            assert entry is not None
            group = decode_group(entry.payload)
            for trajectory in group.trajectories:
                trajectory.reward.CopyFrom(Reward(value=1.0))
            assert reward.hand_over(entry, encode(group), 0)
        entries = streams.read_after(client, JOB, SCORED, last)
        last = entries[-1].id
        for entry in entries:
            assembler.feed(entry)
        batch = assembler.assemble(0)
        assert len(batch.groups) == BATCH
        numbers = {"trained": [scored.number for scored in batch.groups]}
        Progress(client).finish(JOB, epoch=1, next_step=1, numbers=numbers, entry_ids=batch.entry_ids)


def raw(client: store.Client, groups: int) -> None:
    """The same commands and scripts with bytes of the same sizes: what redis-py and Redis cost by themselves."""
    task, completions = made_group()
    group = sampled_group(task, completions, {1: 0}, "rollout-1")
    task_blob, group_blob = bytes(len(encode(task))), bytes(len(encode(group)))
    for trajectory in group.trajectories:
        trajectory.reward.CopyFrom(Reward(value=1.0))
    scored_blob = bytes(len(encode(group)))
    scripts = {name: client.register_script(store.script_source(name)) for name in ("dispatch", "hand_over", "finish")}
    prompts, trajectories, scored = (stream_and_index(name) for name in TRAINING_STREAMS)
    counters = [keys.finished(JOB), keys.handed_over(JOB), keys.tallies(JOB)]
    given = [*prompts, keys.cursor(JOB), keys.wishes(JOB), keys.requeues(JOB), keys.origins(JOB)]
    finish_keys = [keys.progress(JOB), keys.finished(JOB), *scored, keys.deaths(JOB), keys.tallies(JOB)]

    def take(stream: str, consumer: str) -> Any:
        answer: Any = client.xreadgroup(CONSUMERS, consumer, {stream: ">"}, count=1)
        [[_, [(entry_id, _)]]] = answer
        return entry_id

    last = "-"
    for first in range(0, groups, BATCH):
        for number in range(first, first + BATCH):
            scripts["dispatch"](given, [number, JOB, 0, task_blob, "", "", ""])
            entry_id = take(prompts[0], "rollout-1")
            fields = [CONSUMERS, "rollout-1", entry_id, number, JOB, 0, group_blob, "1", MEMBERS * TOKENS]
            assert scripts["hand_over"]([*prompts, *trajectories, *counters], fields) == 1
            entry_id = take(trajectories[0], "reward-1")
            fields = [CONSUMERS, "reward-1", entry_id, number, JOB, 0, scored_blob, "1", MEMBERS * TOKENS]
            assert scripts["hand_over"]([*trajectories, *scored, *counters], fields) == 1
        found: Any = client.xrange(scored[0], min=last, count=SCAN)
        ids = [entry_id.decode() for entry_id, _ in found]
        last = f"({ids[-1]}"
        numbers = json.dumps({"trained": list(range(first, first + BATCH))})
        scripts["finish"](finish_keys, [1, 1, numbers, json.dumps(ids)])


def stream_and_index(name: str) -> tuple[str, str]:
    return keys.stream(JOB, name), keys.stream_index(JOB, name)


def once(server: RedisServer, walk: Calls, groups: int) -> float:
    """Seconds of one walk on an emptied server."""
    client = store.connect(server.url)
    client.flushall()
    streams.prepare(client, JOB)
    started = time.perf_counter()
    walk(client, groups)
    seconds = time.perf_counter() - started
    client.close()
    return seconds


def sizes() -> dict[str, float]:
    """Bytes per token of one sampled group, by format."""
    task, completions = made_group()
    plain = {
        "prompt": np.frombuffer(task.prompt_token_ids, dtype="<i4").tolist(),
        "completions": [
            {"token_ids": list(c.token_ids), "logprobs": list(c.logprobs), "loss_mask": [1] * TOKENS, "reward": 1.0}
            for c in completions
        ],
    }
    tokens = MEMBERS * TOKENS
    return {
        "ours (protobuf, packed arrays)": len(encode(sampled_group(task, completions, {1: 0}, "rollout-1"))) / tokens,
        "JSON": len(json.dumps(plain).encode()) / tokens,
        "pickle": len(pickle.dumps(plain, protocol=5)) / tokens,  # only measured: nothing of ours ever reads one
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=10 * BATCH)
    groups = parser.parse_args().groups // BATCH * BATCH
    walks: dict[str, Calls] = {"raw redis-py": raw, "ours": ours}
    seconds: dict[str, list[float]] = {name: [] for name in walks}
    with tempfile.TemporaryDirectory(prefix="sspo-path-") as folder:
        server = RedisServer(Path(folder), durable=True)
        server.start()
        try:
            for _ in range(ROUNDS):
                for name, walk in walks.items():
                    seconds[name].append(once(server, walk, groups))
        finally:
            server.kill()
    rates = {name: groups / statistics.median(taken) for name, taken in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:<14}{rate:8.1f} groups/s {rate * MEMBERS * TOKENS / 1e6:7.2f} M tokens/s")
    ratio = rates["ours"] / rates["raw redis-py"]
    print(f"ratio {ratio:.2f}, target 0.70 {'kept' if ratio >= 0.7 else 'MISSED'}")
    for name, size in sizes().items():
        print(f"{name:<32}{size:7.2f} bytes per token")
    return 0 if ratio >= 0.7 else 1


if __name__ == "__main__":
    sys.exit(main())
