"""Log-probs from hidden states: equal to the plain way, block by block, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sspo_core import logprobs as module
from sspo_core.logprobs import linear_logprobs
from tests.unit.sspo_core.batches import MODEST

BLOCKS = [(4096, 16 * 2**20), (3, 3 * 8 * 4), (2, 1), (5, 5 * 8 * 7)]
"""(tokens, bytes) of a block: everything in one, small ones, single columns, ragged ones."""


@pytest.fixture(params=BLOCKS, ids=str)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "BLOCK_TOKENS", request.param[0])
    monkeypatch.setattr(module, "BLOCK_BYTES", request.param[1])
    yield


def made(
    seed: int = 0, *, tokens: int = 8, width: int = 5, vocab: int = 13, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(vocab, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, vocab, (tokens,), generator=generator)


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    every = torch.log_softmax(hidden @ weight.t() / temperature, dim=-1)
    return every.gather(-1, targets.unsqueeze(-1)).squeeze(-1), -(every.exp() * every).sum(-1)


def gradients(loss: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 3.0])
@pytest.mark.parametrize("entropy", [False, True])
def test_is_the_plain_way(blocks: None, temperature: float, entropy: bool) -> None:
    hidden, weight, targets = made()
    upstream = torch.randn(2, len(targets), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected, expected_entropy = plain(hidden, weight, targets, temperature)
    got, got_entropy = linear_logprobs(hidden, weight, targets, temperature, entropy=entropy)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    expected_loss, loss = (expected * upstream[0]).sum(), (got * upstream[0]).sum()
    if entropy:
        assert got_entropy is not None
        torch.testing.assert_close(got_entropy, expected_entropy, rtol=1e-12, atol=1e-12)
        expected_loss = expected_loss + (expected_entropy * upstream[1]).sum()
        loss = loss + (got_entropy * upstream[1]).sum()
    else:
        assert got_entropy is None
    for ours, theirs in zip(gradients(loss, hidden, weight), gradients(expected_loss, hidden, weight), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("entropy", [False, True])
def test_gradcheck(blocks: None, entropy: bool) -> None:
    hidden, weight, targets = made(seed=2, tokens=6, width=3, vocab=7)

    def function(hidden: Tensor, weight: Tensor) -> Any:
        both = linear_logprobs(hidden, weight, targets, 0.8, vocab_size=6, entropy=entropy)
        return both if entropy else both[0]

    targets.clamp_(max=5)
    assert torch.autograd.gradcheck(function, (hidden, weight))


@MODEST
@given(
    seed=st.integers(0, 2**20),
    tokens=st.integers(1, 9),
    vocab=st.integers(1, 20),
    padding=st.integers(0, 6),
    scale=st.floats(0.01, 200.0),
    temperature=st.floats(0.2, 5.0),
)
def test_distribution(seed: int, tokens: int, vocab: int, padding: int, scale: float, temperature: float) -> None:
    """The probabilities of the vocabulary sum to 1 without the padding, whose content and gradient don't matter."""
    hidden, weight, _ = made(seed, tokens=tokens, vocab=vocab + padding)
    with torch.no_grad():
        hidden.mul_(scale)
        weight[vocab:] = 1e6
    every = torch.stack(
        [
            linear_logprobs(hidden, weight, torch.full((tokens,), token), temperature, vocab_size=vocab)[0]
            for token in range(vocab)
        ]
    )
    torch.testing.assert_close(every.exp().sum(0), torch.ones(tokens, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    _, entropy = linear_logprobs(
        hidden, weight, torch.zeros(tokens, dtype=torch.int64), temperature, vocab_size=vocab, entropy=True
    )
    assert entropy is not None
    torch.testing.assert_close(entropy, -(every.exp() * every).sum(0), rtol=1e-8, atol=1e-8)
    (grad,) = gradients(every.sum() + entropy.sum(), weight)
    assert torch.isfinite(grad).all() and torch.all(grad[vocab:] == 0)


def test_no_tensor_of_tokens_times_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor made on the way is a block, a weight or the hidden states."""
    monkeypatch.setattr(module, "BLOCK_BYTES", 64 * 8 * 50)
    hidden, weight, targets = made(tokens=64, vocab=500)
    sizes = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (out if isinstance(out, (tuple, list)) else [out]) if torch.is_tensor(x))
            return out

    with Sizes():
        linear_logprobs(hidden, weight, targets)[0].sum().backward()
    assert max(sizes) <= max(weight.numel(), 64 * 50) < 64 * 500


def test_a_tied_head_adds_to_the_gradient_of_the_embedding() -> None:
    _, weight, targets = made(seed=3, tokens=6)
    ids = torch.tensor([0, 1, 2, 3, 3, 12])

    def loss(log_probs: Any) -> Tensor:
        weight.grad = None
        value: Tensor = log_probs(torch.nn.functional.embedding(ids, weight).tanh(), weight, targets)[0].sum()
        value.backward()
        assert weight.grad is not None
        return weight.grad

    torch.testing.assert_close(loss(linear_logprobs), loss(plain), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(blocks: None, dtype: torch.dtype) -> None:
    hidden, weight, targets = made(seed=4, tokens=10, width=64, vocab=90, dtype=dtype)
    got, _ = linear_logprobs(hidden, weight, targets)
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    expected, _ = plain(exact[0], exact[1], targets)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients(got.sum(), hidden, weight), gradients(expected.sum(), *exact), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-2, atol=1e-3)


def test_autocast_chooses_the_operands() -> None:
    """As in a linear layer; what comes out is float32 all the same."""
    hidden, weight, targets = made(seed=5, width=64, vocab=300, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, _ = linear_logprobs(hidden, weight, targets)
    rounded, _ = linear_logprobs(hidden.bfloat16(), weight.bfloat16(), targets)
    assert got.dtype == torch.float32 and torch.equal(got, rounded)
    (grad,) = gradients(got.sum(), weight)
    assert grad.dtype == torch.float32


def test_large_logits_neither_overflow_nor_vanish() -> None:
    hidden, weight, targets = made(seed=6, dtype=torch.float32)
    with torch.no_grad():
        hidden.mul_(1e4)
    got, entropy = linear_logprobs(hidden, weight, targets, entropy=True)
    assert entropy is not None and torch.isfinite(got).all() and torch.isfinite(entropy).all()
    assert all(torch.isfinite(x).all() for x in gradients(got.sum() + entropy.sum(), hidden, weight))


def test_shapes_of_batches_and_of_nothing() -> None:
    hidden, weight, targets = made(seed=7)
    expected, _ = linear_logprobs(hidden, weight, targets)
    got, _ = linear_logprobs(hidden.reshape(2, 4, 5), weight, targets.reshape(2, 4))
    assert torch.equal(got, expected.reshape(2, 4))
    empty, entropy = linear_logprobs(hidden[:0], weight, targets[:0], entropy=True)
    assert entropy is not None and empty.shape == entropy.shape == (0,)
    (grad,) = gradients(empty.sum(), weight)
    assert torch.all(grad == 0)


def test_only_what_is_asked_for_is_differentiated() -> None:
    hidden, weight, targets = made(seed=8)
    frozen, _ = linear_logprobs(hidden, weight.detach(), targets)
    (grad,) = gradients(frozen.sum(), hidden)
    torch.testing.assert_close(grad, gradients(plain(hidden, weight, targets)[0].sum(), hidden)[0])
    assert not linear_logprobs(hidden.detach(), weight.detach(), targets)[0].requires_grad


def test_a_target_outside_the_vocabulary_is_not_a_number() -> None:
    hidden, weight, targets = made(seed=9)
    targets[0], targets[1] = -100, 12
    got, _ = linear_logprobs(hidden, weight, targets, vocab_size=12)
    assert got.isnan().tolist() == [True, True, *(target >= 12 for target in targets[2:].tolist())]
    (grad,) = gradients(torch.where(got.isnan(), 0.0, got).sum(), weight)
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize(
    ("named", "change"),
    [
        ("lm_head_weight", {"lm_head_weight": torch.zeros(13, 4)}),
        ("lm_head_weight", {"lm_head_weight": torch.zeros(5)}),
        ("targets", {"targets": torch.zeros(7, dtype=torch.int64)}),
        ("targets", {"targets": torch.zeros(8)}),
        ("temperature", {"temperature": 0.0}),
        ("temperature", {"temperature": float("nan")}),
        ("vocab_size", {"vocab_size": 14}),
        ("vocab_size", {"vocab_size": 0}),
    ],
)
def test_bad_arguments_are_named(named: str, change: dict[str, Any]) -> None:
    hidden, weight, targets = made()
    with pytest.raises(ValueError, match=f"^{named}:"):
        linear_logprobs(**({"hidden": hidden, "lm_head_weight": weight, "targets": targets} | change))
