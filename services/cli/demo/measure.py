"""How often a model is right: `python -m services.cli.demo.measure FOLDER ROWS COUNT SEED` prints one JSON line.

Samples through vLLM from a plain model folder, one completion for each of the first COUNT rows at temperature 1 and one
greedy. The sampling seed of a row follows from (SEED, row), so that two models are asked the same questions with the
same dice. A process of its own: vLLM changes torch for the whole process.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from services.job.datasets import Row, iter_rows
from services.job.spec import RolloutSpec, derived_seed

MAX_TOKENS = 8


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers, and how many were asked."""

    sampled: float
    greedy: float
    prompts: int


def measure(folder: Path, rows: list[Row], seed: int) -> Accuracy:
    """Ask every row once at temperature 1 and once greedily."""
    from services.controller.issuing.prompts import PromptEncoder
    from services.reward.tokens import CompletionDecoder
    from services.rollout.vllm_offline import OfflineSampler
    from services.trajectories.codec import ints
    from sspo_proto.trajectory_pb2 import Trajectory

    encoder = PromptEncoder(folder, RolloutSpec(max_tokens=MAX_TOKENS))
    decoder = CompletionDecoder(folder)
    sampler = OfflineSampler(folder, max_tokens=MAX_TOKENS, stop_token_ids=encoder.stop_token_ids)
    prompts = [encoder.encode(row) for row in rows]
    seeds = [derived_seed(seed, "measure", row.number) for row in rows]
    stop = frozenset(encoder.stop_token_ids)

    def share_right(temperature: float) -> float:
        answers = sampler.sample(prompts, temperature=temperature, seeds=seeds)
        texts = [decoder.text(Trajectory(completion_token_ids=ints(ids)), stop) for ids in answers]
        right = sum(text == str(row.item["answer"]) for row, text in zip(rows, texts, strict=True))
        return right / len(rows)

    return Accuracy(sampled=share_right(1.0), greedy=share_right(0.0), prompts=len(rows))


def main(folder: str, rows: str, count: str, seed: str) -> None:
    from services.rollout.environment import engine_environment

    os.environ.update(engine_environment(RolloutSpec()))
    chosen = list(islice(iter_rows(Path(rows), Path(rows).name), int(count)))
    print(json.dumps(asdict(measure(Path(folder), chosen, int(seed)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
