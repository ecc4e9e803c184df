"""Engines in torch that do something wrong on purpose.

They answer with log-probs of what they draw from, as the product's engine does, unless they are told to answer with
those of the raw model.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.weights.file_store import read_manifest
from services.weights.fingerprint import read_verified
from services.weights.manifest import TENSORS_FILE
from sspo_proto.trajectory_pb2 import Group
from testbed.sampler import Grade, Question, Sampler, Snapshot, exact


@dataclass(frozen=True)
class Fault:
    """What is wrong with an engine; by default nothing."""

    late_steps: int = 0
    """Weights come so many steps late."""
    temperature: float = 1.0
    """It samples at this one, whatever the job says."""
    top_p: float = 1.0
    """It keeps the smallest set of tokens with this mass."""
    raw_logprobs: bool = False
    """It answers with log-probs of the model, not of what it draws from."""
    bfloat16: bool = False


NO_FAULT = Fault()


class FaultySampler(Sampler):
    """Draws as its fault says."""

    def __init__(self, model: Any, group_size: int, max_tokens: int, fault: Fault, grade: Grade = exact) -> None:
        super().__init__(model.bfloat16() if fault.bfloat16 else model, group_size, max_tokens, grade)
        self._fault = fault

    def distribution(self, logits: Tensor) -> Tensor:
        return skewed((logits.float() / self._fault.temperature).log_softmax(-1), self._fault.top_p)

    def _draw(self, prompts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        tokens, logprobs = super()._draw(prompts, generator)
        return tokens, self._raw(prompts, tokens) if self._fault.raw_logprobs else logprobs

    @torch.no_grad()
    def _raw(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """Log-probs of the tokens under the model as it is."""
        whole = torch.cat([prompts.repeat_interleave(self._group_size, dim=0), tokens], dim=1)
        logits: Tensor = self.model(input_ids=whole[:, :-1]).logits[:, prompts.shape[1] - 1 :]
        return logits.float().log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def skewed(log_p: Tensor, top_p: float) -> Tensor:
    """Without the tail beyond `top_p`, and with what is left summing to 1."""
    if top_p >= 1.0:
        return log_p
    ordered, order = log_p.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    kept = torch.zeros_like(log_p, dtype=torch.bool).scatter(-1, order, before < top_p)
    return log_p.masked_fill(~kept, float("-inf")).log_softmax(-1)


@dataclass(frozen=True)
class Version:
    """Published weights."""

    version: int
    step: int
    tensors: dict[str, Tensor]


class StudyEngine:
    """Loads what the learner publishes, samples groups, and labels them with the weights it really used."""

    def __init__(self, model: Any, group_size: int, max_tokens: int, fault: Fault, grade: Grade = exact) -> None:
        self._sampler = FaultySampler(copy.deepcopy(model), group_size, max_tokens, fault, grade)
        self._known: deque[Version] = deque(maxlen=fault.late_steps + 1)

    @property
    def newest(self) -> Version:
        return self._known[-1]

    @property
    def used(self) -> Version:
        """What it samples with: the oldest of the last `late_steps` + 1 versions."""
        return self._known[0]

    def load(self, folder: Path) -> None:
        """Take over a version folder; repeating it changes nothing."""
        manifest = read_manifest(folder)
        if not self._known or self._known[-1].version != manifest.version:
            tensors = dict(read_verified(folder / TENSORS_FILE, manifest.content_hash))
            tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
            self._known.append(Version(manifest.version, manifest.step, tensors))

    def sample(self, asked: Sequence[Question], generator: torch.Generator) -> list[Group]:
        """A graded group for each question."""
        used = self.used
        groups = self._sampler.groups(Snapshot(used.step, used.tensors), asked, generator)
        for group in groups:
            for trajectory in group.trajectories:
                trajectory.version_spans[0].version = used.version
        return groups
