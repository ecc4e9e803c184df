"""The pieces of the gate study that could lie: the true gradient, its estimators, the staleness, the rule."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gate_study import starter as starters
from benchmarks.gate_study import tables, task
from benchmarks.gate_study.candidates import OBJECTIVES
from benchmarks.gate_study.drift import SETTINGS, VOCAB, Drift, Sample
from benchmarks.gate_study.runs import FINAL_SEEDS, FINALISTS, SCREENED, finalists, second_round
from benchmarks.gate_study.simulated import UNBIASED, gradient, weights
from benchmarks.gate_study.tables import FINAL_CELLS, SCREEN_CELLS
from services.job.spec import objective_config
from services.trajectories.codec import decode_group, encode
from sspo_proto.trajectory_pb2 import Group
from testbed.sampler import Sampler, Snapshot


def _small(length: int, lengths: list[int]) -> tuple[Drift, Sample, torch.Tensor]:
    """A drift, all sequences of every length, and their probability under the sampler."""
    generator = torch.Generator().manual_seed(3)
    drift = SETTINGS["lognormal"].draw(generator)
    drift = Drift(drift.policy_logits[:length], drift.sampler_logits[:length], torch.tensor(lengths))
    tokens = torch.tensor(list(itertools.product(range(VOCAB), repeat=length)))
    sample = drift.weighed(tokens, torch.full((len(tokens),), length))
    return drift, sample, sample.behaviour_logprobs.sum(1).exp()


def test_the_true_gradient_is_that_of_every_sequence_weighed_by_its_probability() -> None:
    drift, sample, probability = _small(4, [4])
    assert float(probability.sum()) == pytest.approx(1.0)
    assert float((probability * sample.advantages).sum()) == pytest.approx(0.0, abs=1e-12)
    assert float((probability * sample.advantages.square()).sum()) == pytest.approx(1.0)

    logits = drift.policy_logits.clone().requires_grad_()
    logprobs = logits.log_softmax(-1).expand(len(sample.tokens), -1, -1).gather(-1, sample.tokens[..., None])
    value = (logprobs[..., 0].sum(1).exp() * sample.advantages).sum() / 4
    assert torch.allclose(torch.autograd.grad(value, logits)[0], drift.true_gradient(), rtol=0, atol=1e-12)


def test_the_product_ratio_has_the_true_gradient_and_clips_have_not() -> None:
    drift, sample, probability = _small(4, [4])
    scale = (len(sample.tokens) * probability)[:, None]  # a mean over all sequences becomes one over those drawn
    true = drift.true_gradient()
    unbiased, _ = gradient(drift, sample, scale * weights(sample, UNBIASED))
    assert torch.allclose(unbiased, true, rtol=0, atol=1e-10)
    clipped, _ = gradient(drift, sample, scale * weights(sample, OBJECTIVES["grpo"]))
    assert float((clipped - true).norm() / true.norm()) > 0.1


def test_mean_and_trace_are_those_of_the_sequences_gradients() -> None:
    drift = SETTINGS["skewed"].draw(torch.Generator().manual_seed(5))
    sample = drift.sample(64, torch.Generator().manual_seed(6))
    weights_BT = weights(sample, OBJECTIVES["sspo logarctan_a outward 3"])
    policy = drift.policy_logits.softmax(-1)
    one_hot = torch.nn.functional.one_hot(sample.tokens, VOCAB)
    each = (weights_BT[..., None] * (one_hot - policy)).flatten(1)
    mean, trace = gradient(drift, sample, weights_BT)
    assert torch.allclose(mean.flatten(), each.mean(0))
    assert trace == pytest.approx(float(each.var(0).sum()))


def test_weights_are_those_of_the_learners_own_loss() -> None:
    drift = SETTINGS["mild"].draw(torch.Generator().manual_seed(7))
    on_policy = Drift(drift.sampler_logits, drift.sampler_logits, drift.lengths)
    sample = on_policy.sample(16, torch.Generator().manual_seed(8))
    for name in ("sspo logarctan_a outward 3", "sapo sigmoid_norm both 10", "gmpo", "cispo", "reinforce"):
        expected = (sample.advantages / 32)[:, None].expand(16, 32)
        assert torch.allclose(weights(sample, OBJECTIVES[name]), expected), name


def test_under_sapo_sigmoid_norm_stands_for_its_own_gate() -> None:
    drift = SETTINGS["lognormal"].draw(torch.Generator().manual_seed(9))
    sample = drift.sample(16, torch.Generator().manual_seed(10))
    assert torch.allclose(weights(sample, OBJECTIVES["sapo sigmoid_norm both 1"]), weights(sample, {"name": "sapo"}))


def test_every_objective_is_one_that_a_job_may_ask_for() -> None:
    for name, block in OBJECTIVES.items():
        assert not objective_config(dict(block)).needs, name


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starters, "TARGET", 0.0)  # untaught: reached at the first probe
        yield starters.starter(tmp_path_factory.mktemp("starter"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("staleness", [0, 2])
def test_samples_come_from_the_weights_of_exactly_so_many_steps_ago(
    model: Path, staleness: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = task.Run("grpo", staleness, learning_rate=1e-2, seed=1, steps=5)
    study = task.Task(run, model)
    name = "model.embed_tokens.weight"
    before, seen = [], []
    sample = Sampler.groups

    def watched(self: Sampler, snapshot: Snapshot, *asked: Any) -> list[Group]:
        groups = sample(self, snapshot, *asked)
        seen.append((snapshot.step, self.model.state_dict()[name].clone()))
        for group in groups:
            decode_group(encode(group))
            group.trajectories[0].reward.value = 1.0  # untaught, it is never right, and would not be trained
            assert all(span.step == snapshot.step for one in group.trajectories for span in one.version_spans)
        return groups

    monkeypatch.setattr(Sampler, "groups", watched)
    for step in range(run.steps):
        before.append(study.policy.model.state_dict()[name].clone())
        figures = study.step(step)
        assert figures.staleness_mean == figures.staleness_max == min(step, staleness)
        assert figures.updates == task.UPDATES
    for step, (sampled_at, weights_used) in enumerate(seen):
        assert sampled_at == max(0, step - staleness)
        assert torch.equal(weights_used, before[sampled_at])
    assert not torch.equal(before[0], before[1])


def test_behaviour_logprobs_are_those_of_the_policy_that_sampled(model: Path) -> None:
    study = task.Task(task.Run("grpo", 0, learning_rate=1e-9, seed=2, steps=1), model)
    drift = study.step(0).drift
    assert drift.log_ratio_abs_max is not None and drift.log_ratio_abs_max < 1e-4
    assert drift.tokens is not None and drift.tokens > 256


def _results(seeds: Sequence[int], cells: Sequence[tables.Cell], means: dict[str, float]) -> list[dict[str, Any]]:
    return [
        {"objective": name, "seed": seed, "staleness": staleness, "learning_rate": rate, "tail": mean + 0.01 * seed}
        for name, mean in means.items()
        for seed in seeds
        for staleness, rate in cells
    ]


def test_the_screen_keeps_the_better_half_and_then_the_best_of_both_seeds() -> None:
    means = {name: 0.9 - 0.01 * place for place, name in enumerate(SCREENED)}
    first = _results((101,), SCREEN_CELLS, means)
    kept = second_round(first)
    assert kept == list(SCREENED[: len(SCREENED) // 2])
    turned = {name: 0.9 + 0.01 * place for place, name in enumerate(kept)}
    second = [one | {"seed": 102} for one in _results((101,), SCREEN_CELLS, turned)]
    assert set(finalists(first + second)) <= set(kept)
    assert len(finalists(first + second)) == FINALISTS


def test_a_tie_goes_to_the_smaller_simulated_error_and_a_collapse_is_out() -> None:
    a, b, c = "sspo a", "sspo b", "sspo c"
    results = _results(FINAL_SEEDS, FINAL_CELLS, {a: 0.70, b: 0.698, c: 0.60, "grpo": 0.9})
    for one in results:
        if one["objective"] == b and one["seed"] == 1:
            one["tail"] += 0.009
    errors = {a: 2.0, b: 1.0, c: 0.1}
    simulated = [{"setting": s, "objective": name, "error": error} for s in SETTINGS for name, error in errors.items()]
    assert tables.choice(results, simulated, [a, b, c]) == (b, [a, b])
    for one in results:
        if one["objective"] == b and one["seed"] == 2:
            one["tail"] = 0.0
    assert tables.choice(results, simulated, [a, b, c])[0] == a
