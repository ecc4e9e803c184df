"""One run of the learning task: the product's learner step on sums, sampled by a policy of exactly known age.

The samples of step s come from the weights that the learner had before step max(0, s − staleness). So staleness is
`staleness` from that step on, and before it the starter samples. Everything follows from the run's fields.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gate_study.candidates import OBJECTIVES
from benchmarks.gate_study.starter import questions
from services.cli.demo.starter import accuracy, encode
from services.cli.demo.sums import Sum
from services.job.spec import ExtensionSpec, JobSpec, derived_seed
from services.learner.model.policy import Policy
from services.learner.model.trainer import Trainer
from services.records.step import StepFigures
from testbed.sampler import Question, Sampler, Snapshot

STEPS = 120
GROUPS, GROUP_SIZE, UPDATES, MAX_TOKENS = 32, 8, 2, 4
WARMUP_UPDATES = 5
EVALUATE_EVERY, EVALUATE_TAIL_EVERY = 20, 4
"""Steps, before and in the tail."""
TAIL_STEPS = 40
"""The result of a run is the mean over its last so many steps."""
HELD_OUT = 512


@dataclass(frozen=True)
class Run:
    """What decides a run."""

    objective: str
    """A name of `candidates.OBJECTIVES`."""
    staleness: int
    learning_rate: float
    seed: int
    steps: int = STEPS


def job(run: Run) -> JobSpec:
    """The job that the learner is given."""
    body = ExtensionSpec.model_validate(
        {
            "objective": OBJECTIVES[run.objective],
            "rollout": {"group_size": GROUP_SIZE, "max_tokens": MAX_TOKENS, "temperature": 1.0},
            "learner": {
                "steps": run.steps,
                "batch_size": GROUPS,
                "updates_per_step": UPDATES,
                "learning_rate": run.learning_rate,
                "warmup_steps": WARMUP_UPDATES,
                "max_staleness": run.staleness,
                "advantage": "group_std",  # for all, so that only the weights differ
            },
        }
    )
    return JobSpec.assemble(body, job_id="gate-study", model="starter", training_file="sums", seed=run.seed, grader={})


class Task:
    """The policy, its learner, and the ring of snapshots that samples are drawn from."""

    def __init__(self, run: Run, model: Path) -> None:
        self.run = run
        self.policy = Policy(model, torch.device("cpu"))
        self.trainer = Trainer(job(run), self.policy)
        self._sampler = Sampler(copy.deepcopy(self.policy.model), GROUP_SIZE, MAX_TOKENS)
        self._ring: deque[Snapshot] = deque(maxlen=run.staleness + 1)
        self._train, self._held_out, self._start = _encoded(model)

    def step(self, step: int) -> StepFigures:
        """Sample, grade and train one step, in order from 0; the learner's figures."""
        state = {name: tensor.detach().clone() for name, tensor in self.policy.model.state_dict().items()}
        self._ring.append(Snapshot(step, state))
        generator = torch.Generator().manual_seed(derived_seed("gate-study", self.run.seed, step))
        chosen = torch.randint(len(self._train), (GROUPS,), generator=generator)
        asked = [self._question(row) for row in self._train[chosen]]
        return self.trainer.train(self._sampler.groups(self._ring[0], asked, generator), step)

    def held_out(self) -> tuple[float, float]:
        """On sums never trained on, exactly: expected reward at temperature 1, share of right greedy answers."""
        found = accuracy(self.policy.model, self._held_out, self._start)
        return found.sampled, found.greedy

    def _question(self, row: Tensor) -> Question:
        tokens: list[int] = row.tolist()
        return Question(tokens[: self._start], tokens[self._start :])


def measure(run: Run, model: Path) -> dict[str, Any]:
    """Runs it on one thread and says what came of it, as plain numbers."""
    torch.set_num_threads(1)
    began = time.monotonic()
    task = Task(run, model)
    curve = [(0, *task.held_out())]
    figures: list[StepFigures] = []
    for step in range(run.steps):
        figures.append(task.step(step))
        if (step + 1) % (EVALUATE_TAIL_EVERY if step >= run.steps - TAIL_STEPS else EVALUATE_EVERY) == 0:
            curve.append((step + 1, *task.held_out()))
    tail = [point for point in curve if point[0] > run.steps - TAIL_STEPS]
    drifts = [one.drift for one in figures[-TAIL_STEPS:]]
    return {
        "objective": run.objective,
        "staleness": run.staleness,
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "steps": run.steps,
        "tail": _mean([point[1] for point in tail]),
        "tail_greedy": _mean([point[2] for point in tail]),
        "end": curve[-1][1],
        "staleness_last": figures[-1].staleness_mean,
        "kl_k3": _mean([drift.kl_k3 for drift in drifts]),
        "ess_sequence": _mean([drift.ess_sequence for drift in drifts]),
        "gate_weight_mean": _mean([drift.gate_weight_mean for drift in drifts]),
        "skipped_updates": figures[-1].skipped_updates_total,
        "curve": [[point[0], round(point[1], 4)] for point in curve],
        "seconds": round(time.monotonic() - began, 1),
    }


@functools.cache
def _encoded(model: Path) -> tuple[Tensor, Tensor, int]:
    """Token ids of whole conversations, to train on and held out, and where the answer begins."""
    from transformers import AutoTokenizer

    tokenizer, data = AutoTokenizer.from_pretrained(model), questions()
    train, start = encode(tokenizer, data.train)
    return train, encode(tokenizer, _spread(data.validation, HELD_OUT))[0], start


def _spread(sums: list[Sum], count: int) -> list[Sum]:
    """`count` of them, evenly spread: the list has both orders of a pair next to each other."""
    return [sums[index * len(sums) // count] for index in range(count)]


def _mean(values: list[float] | list[float | None]) -> float:
    """Of the values that there are: an objective without a gate has no figures of one."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else math.nan
