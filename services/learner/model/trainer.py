"""One training step: a batch of groups, `updates_per_step` optimiser updates, and the figures of both.

Deterministic in (weights, optimiser, groups, settings): a replay of a journaled step gives the same bits on the same
machine. The split of a batch into updates is a permutation seeded by (job seed, step).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from services.job.spec import JobSpec, corrections_config, derived_seed, objective_config
from services.learner.backend import TrainingState
from services.learner.errors import TrainingDiverged
from services.learner.model.drift_table import DriftTable
from services.learner.model.optimiser import make_optimiser, restore_state, state_tensors
from services.learner.model.policy import Policy
from services.learner.model.tensors import MicroBatch, TrainingSequence, micro_batches, sequences
from services.learner.model.token_log import TokenLog
from services.records.step import StepFigures
from services.trajectories.codec import oldest_step
from sspo_core import Denominators, LossInputs, LossOutputs, group_advantages, policy_loss
from sspo_proto.trajectory_pb2 import Group


@dataclass(frozen=True)
class UpdateResult:
    """One optimiser update."""

    loss: float
    grad_norm: float
    applied: bool


class Trainer:
    """Policy, optimiser and counters."""

    def __init__(self, spec: JobSpec, policy: Policy, reference: Policy | None = None) -> None:
        """`reference`: the model of the job's start, if a trainer before this one has loaded it."""
        self._spec = spec
        self._policy = policy
        self._objective = objective_config(spec.objective)
        self._corrections = corrections_config(spec.learner.corrections)
        penalised = self._objective.kl_coefficient > 0
        self.reference = reference or Policy(policy.folder, policy.device) if penalised else None
        """The model of the job's start, if the objective asks for the distance to it."""
        self._parameters = policy.parameters()
        self._optimiser = make_optimiser(self._parameters, spec.learner)
        self.state = TrainingState()
        self.token_log = TokenLog()
        """The tokens of the first group of the step trained last."""

    def train(self, groups: Sequence[Group], step: int) -> StepFigures:
        """Train one step. Raises TrainingDiverged."""
        rows = self._with_proximal(self._rows(groups, step))
        self.token_log = TokenLog([row for row in rows if row.group == 0])
        drift = DriftTable()
        parts = self._split(rows, len(groups), step)
        updates = [self._update(part, index, drift) for index, part in enumerate(parts) if part]
        tokens = sum(int(row.loss_mask.sum()) for row in rows)
        self.state = replace(self.state, next_step=step + 1, trained_tokens=self.state.trained_tokens + tokens)
        applied = [update for update in updates if update.applied]
        return StepFigures(
            **_reward_figures(groups),
            loss=_mean([update.loss for update in applied]),
            grad_norm=_mean([update.grad_norm for update in applied]),
            learning_rate=self._learning_rate(),
            updates=len(updates),
            skipped_updates_total=self.state.skipped_updates,
            tokens=tokens,
            completion_tokens_mean=tokens / max(1, len(rows)),
            staleness_mean=_mean([row.staleness for row in rows]),
            weights_lag_mean=_mean([_weights_lag(group) for group in groups]),
            staleness_max=max((row.staleness for row in rows), default=0),
            drift=drift.figures(),
        )

    def optimiser_tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by name."""
        return state_tensors(self._optimiser)

    def load(self, tensors: Mapping[str, Tensor], state: TrainingState) -> None:
        """Take over optimiser and counters."""
        restore_state(self._optimiser, tensors)
        self.state = state

    def _rows(self, groups: Sequence[Group], step: int) -> list[TrainingSequence]:
        """All trajectories of the batch, group after group."""
        members = [(index, trajectory) for index, group in enumerate(groups) for trajectory in group.trajectories]
        advantages = group_advantages(
            torch.tensor([trajectory.reward.value for _, trajectory in members], dtype=torch.float64),
            self._spec.learner.advantage,
            group_ids=torch.tensor([index for index, _ in members]),
            token_counts=torch.tensor([sum(trajectory.loss_mask) for _, trajectory in members]),
        ).tolist()
        ends = list(accumulate(len(group.trajectories) for group in groups))
        return [
            row
            for place, (group, end) in enumerate(zip(groups, ends, strict=True))
            for row in sequences(group, advantages[end - len(group.trajectories) : end], step, place=place)
        ]

    @torch.no_grad()
    def _with_proximal(self, rows: list[TrainingSequence]) -> list[TrainingSequence]:
        """The same rows with the log-probs of the policy as it is now, if the job asks for them."""
        if not self._spec.learner.proximal_logprobs:
            return rows
        found = list(rows)
        for batch in self._micro_batches(rows):
            logprobs, _ = self._policy.logprobs(batch, self._spec.rollout.temperature)
            for place, row, length in zip(batch.plan.rows, logprobs.cpu(), batch.completion_lengths, strict=True):
                found[place] = replace(rows[place], proximal_logprobs=row[:length])
        return found

    def _split(self, rows: list[TrainingSequence], groups: int, step: int) -> list[list[TrainingSequence]]:
        """The rows of each update: whole groups, in an order that follows from (job seed, step)."""
        order = list(range(groups))
        random.Random(derived_seed(self._spec.seed, "update", step)).shuffle(order)
        by_group: list[list[TrainingSequence]] = [[] for _ in order]
        for row in rows:
            by_group[row.group].append(row)
        parts = self._spec.learner.updates_per_step
        return [[row for group in order[part::parts] for row in by_group[group]] for part in range(parts)]

    def _update(self, rows: list[TrainingSequence], index: int, drift: DriftTable) -> UpdateResult:
        counts = [int(row.loss_mask.sum()) for row in rows]
        denominators = Denominators(tokens=sum(counts), sequences=sum(count > 0 for count in counts))
        self._optimiser.zero_grad(set_to_none=True)
        losses, nonfinite = [], []
        for micro_batch in self._micro_batches(rows):
            outputs = self._backward(micro_batch, denominators, index, drift)
            losses.append(outputs.loss.detach())
            nonfinite.append(outputs.metrics["nonfinite_tokens"])
        # The objective masks tokens whose log-prob isn't finite: a broken policy must not pass for a small loss.
        loss = math.nan if float(torch.stack(nonfinite).sum()) else float(torch.stack(losses).double().sum())
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._spec.learner.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self._skip(loss, norm)
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate()
        self._optimiser.step()
        self.state = replace(self.state, updates=self.state.updates + 1)
        return UpdateResult(loss, norm, applied=True)

    def _micro_batches(self, rows: Sequence[TrainingSequence]) -> Iterator[MicroBatch]:
        for batch in micro_batches(rows, self._spec.learner.tokens_per_microbatch, self._policy.layout):
            yield batch.to(self._policy.device)

    def _backward(self, batch: MicroBatch, denominators: Denominators, index: int, drift: DriftTable) -> LossOutputs:
        """Add the gradient of one micro-batch; nothing here waits for the device."""
        logprobs, entropy = self._policy.logprobs(batch, self._spec.rollout.temperature, entropy=True)
        inputs = LossInputs(
            policy_logprobs=logprobs,
            behaviour_logprobs=batch.behaviour_logprobs,
            advantages=batch.advantages,
            mask=batch.mask,
            proximal_logprobs=batch.proximal_logprobs,
            reference_logprobs=self._reference_logprobs(batch),
            denominators=denominators,
            entropy=entropy,
            buckets=batch.staleness,
        )
        outputs = policy_loss(inputs, self._objective, self._corrections)
        torch.autograd.backward(outputs.loss)
        drift.add(outputs, update=index)
        if outputs.tokens is not None:
            self.token_log.add(batch, outputs.tokens)
        return outputs

    @torch.no_grad()
    def _reference_logprobs(self, batch: MicroBatch) -> Tensor | None:
        if self.reference is None:
            return None
        return self.reference.logprobs(batch, self._spec.rollout.temperature)[0]

    def _skip(self, loss: float, norm: float) -> UpdateResult:
        skipped = self.state.skipped_updates + 1
        self.state = replace(self.state, skipped_updates=skipped)
        if skipped > self._spec.learner.max_skipped_updates:
            raise TrainingDiverged(f"{skipped} updates had a non-finite loss or gradient (loss {loss}, norm {norm})")
        return UpdateResult(loss, norm, applied=False)

    def _learning_rate(self) -> float:
        warmup = self._spec.learner.warmup_steps
        return self._spec.learner.learning_rate * min(1.0, (self.state.updates + 1) / (warmup + 1))


def _reward_figures(groups: Sequence[Group]) -> dict[str, float]:
    rewards = [[trajectory.reward.value for trajectory in group.trajectories] for group in groups]
    flat = torch.tensor([value for group in rewards for value in group], dtype=torch.float64)
    return {
        "reward_mean": float(flat.mean()),
        "reward_std": float(flat.std(unbiased=False)),
        "reward_zero_variance_groups_ratio": sum(len(set(group)) == 1 for group in rewards) / len(rewards),
    }


def _weights_lag(group: Group) -> int:
    """Lag in steps of the oldest weights that sampled a group, behind the weights published when it was issued."""
    return max(0, group.task.issued_step - oldest_step(group))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
