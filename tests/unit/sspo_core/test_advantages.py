"""Group-relative advantages against plain Python."""

from __future__ import annotations

import statistics
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sspo_core.advantages import group_advantages, informative
from sspo_core.config import AdvantageKind
from tests.unit.sspo_core.batches import MODEST

KINDS: tuple[AdvantageKind, ...] = ("group_std", "group_mean", "leave_one_out")


def plain(rewards: list[float], kind: str) -> list[float]:
    if len(rewards) == 1:
        return [0.0]
    if kind == "leave_one_out":
        return [r - statistics.fmean(rewards[:i] + rewards[i + 1 :]) for i, r in enumerate(rewards)]
    centred = [r - statistics.fmean(rewards) for r in rewards]
    return centred if kind == "group_mean" else [c / (statistics.stdev(rewards) + 1e-6) for c in centred]


@pytest.mark.parametrize("kind", KINDS)
def test_matrix_of_groups(kind: AdvantageKind) -> None:
    rewards = torch.rand(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [plain(row, kind) for row in rewards.tolist()]
    torch.testing.assert_close(
        group_advantages(rewards, kind), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_flat_rewards_with_ragged_interleaved_groups(kind: AdvantageKind) -> None:
    ids = [7, 3, 7, -1, 3, 7, 900, 3]
    rewards = [0.1, 1.0, 0.7, 0.4, 0.0, 0.2, 5.0, 0.5]
    got = group_advantages(torch.tensor(rewards, dtype=torch.float64), kind, group_ids=torch.tensor(ids)).tolist()
    for group in set(ids):
        members = [i for i, g in enumerate(ids) if g == group]
        assert [got[i] for i in members] == pytest.approx(plain([rewards[i] for i in members], kind), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_and_groups_of_one_have_no_advantage(kind: AdvantageKind, dtype: torch.dtype) -> None:
    assert torch.all(group_advantages(torch.full((3, 7), 0.1, dtype=dtype), kind) == 0)
    assert torch.all(group_advantages(torch.tensor([[5.0], [0.3]], dtype=dtype), kind) == 0)


@MODEST
@given(seed=st.integers(0, 2**20), shift=st.floats(-100, 100), groups=st.integers(1, 5), size=st.integers(2, 9))
def test_properties(seed: int, shift: float, groups: int, size: int) -> None:
    """Zero sum, no effect of a constant, and RLOO = G/(G − 1) times the centred rewards."""
    rewards = torch.randn(groups, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for kind in KINDS:
        advantages = group_advantages(rewards, kind)
        torch.testing.assert_close(advantages.sum(1), torch.zeros(groups).double(), rtol=0, atol=1e-9)
        torch.testing.assert_close(group_advantages(rewards + shift, kind), advantages, rtol=1e-6, atol=1e-8)
    centred = group_advantages(rewards, "group_mean")
    torch.testing.assert_close(group_advantages(rewards, "leave_one_out"), centred * size / (size - 1))


def test_default_is_group_std_and_precision_is_kept() -> None:
    rewards = torch.tensor([[0.0, 1.0, 1.0]])
    assert torch.equal(group_advantages(rewards), group_advantages(rewards, "group_std"))
    assert group_advantages(rewards.bfloat16()).dtype == torch.float32
    assert group_advantages(rewards.double()).dtype == torch.float64
    assert group_advantages(torch.tensor([[0, 1, 1]])).dtype == torch.float32


@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("kind", {"rewards": torch.zeros(2, 2), "kind": "z_score"}),
        ("rewards", {"rewards": torch.zeros(4)}),
        ("rewards", {"rewards": torch.tensor([[0.0, float("nan")]])}),
        ("group_ids", {"rewards": torch.zeros(4), "group_ids": torch.zeros(3, dtype=torch.int64)}),
        ("group_ids", {"rewards": torch.zeros(2, 2), "group_ids": torch.zeros(2, 2, dtype=torch.int64)}),
        ("present", {"rewards": torch.zeros(2, 2), "present": torch.ones(2, dtype=torch.bool)}),
        ("token_counts", {"rewards": torch.zeros(2, 2), "kind": "batch_whitened", "token_counts": torch.ones(4)}),
        ("token_counts", {"rewards": torch.zeros(1, 2), "kind": "batch_whitened", "token_counts": -torch.ones(1, 2)}),
    ],
)
def test_bad_arguments_are_named(named: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"^{named}:"):
        group_advantages(**arguments)


def test_names_of_kinds() -> None:
    assert get_args(AdvantageKind) == (*KINDS, "batch_whitened")


def test_batch_whitened_counts_every_token() -> None:
    """As the whitening of a batch in which each reward stands at every token of its completion."""
    rewards, counts = [[0.1, 1.0, 0.7], [0.0, 0.0, 1.0]], [[3, 1, 0], [7, 2, 4]]
    tokens = [r for row, n in zip(rewards, counts, strict=True) for r, k in zip(row, n, strict=True) for _ in range(k)]
    mean, variance = statistics.fmean(tokens), statistics.variance(tokens)
    expected = [[(r - mean) / (variance + 1e-8) ** 0.5 for r in row] for row in rewards]
    got = group_advantages(
        torch.tensor(rewards, dtype=torch.float64), "batch_whitened", token_counts=torch.tensor(counts)
    )
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_batch_whitened_without_token_counts_counts_completions() -> None:
    rewards = torch.rand(3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    got = group_advantages(rewards, "batch_whitened")
    torch.testing.assert_close(got, (rewards - rewards.mean()) / rewards.std(), rtol=1e-6, atol=1e-9)
    assert torch.all(group_advantages(torch.full((1, 3), 0.1, dtype=torch.float64), "batch_whitened") == 0)
    assert torch.all(group_advantages(torch.full((1, 1), 5.0), "batch_whitened") == 0)


@pytest.mark.parametrize("kind", get_args(AdvantageKind))
def test_missing_members_count_nowhere(kind: AdvantageKind) -> None:
    """Their advantage is 0, the others' is what it would be without them, and what stands in their place isn't read."""
    rewards = torch.tensor([[0.0, 1.0, float("nan"), 0.5], [float("inf"), 0.2, float("nan"), 3.0]], dtype=torch.float64)
    present = torch.isfinite(rewards)
    got = group_advantages(rewards, kind, present=present)
    flat_ids = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])[present.flatten()]
    expected = group_advantages(rewards[present], kind, group_ids=flat_ids)
    assert torch.all(got[~present] == 0)
    torch.testing.assert_close(got[present], expected, rtol=1e-12, atol=1e-12)
    equal = torch.full((3, 8), 0.1, dtype=torch.float64)
    equal[:, 2] = float("nan")
    assert torch.all(group_advantages(equal, kind, present=torch.isfinite(equal)) == 0)
    nobody = group_advantages(rewards, kind, present=torch.zeros_like(present))
    assert torch.all(nobody == 0)


def test_informative_groups_have_two_rewards_that_differ() -> None:
    rewards = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, float("nan")], [float("nan"), 2.0, 1.0]])
    present = torch.isfinite(rewards)
    assert informative(rewards, present=present)[:, 0].tolist() == [False, True, False, True]
    ids = torch.tensor([4, 9, 4, 9, 2])
    flat = informative(torch.tensor([1.0, 0.0, 1.0, 1.0, 3.0]), group_ids=ids)
    assert flat.tolist() == [False, True, False, True, False]
    with pytest.raises(ValueError, match=r"^rewards:"):
        informative(rewards)


@MODEST
@given(seed=st.integers(0, 2**20), size=st.integers(1, 6), levels=st.integers(1, 3))
def test_uninformative_groups_are_those_without_an_advantage(seed: int, size: int, levels: int) -> None:
    rewards = torch.randint(0, levels, (8, size), generator=torch.Generator().manual_seed(seed)).double() / 3
    some = (group_advantages(rewards) != 0).any(dim=1)
    assert torch.equal(informative(rewards).all(dim=1), some)
    assert torch.equal(informative(rewards).any(dim=1), some)
