from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from services.disk.layout import Layout
from services.reward.tokens import CompletionDecoder
from services.trajectories.codec import MalformedMessage, ints, read_ints
from sspo_proto.trajectory_pb2 import Group, Trajectory

from .conftest import MODEL


@pytest.fixture(scope="module")
def decoder(layout: Layout) -> CompletionDecoder:
    return CompletionDecoder(layout.model(MODEL))


@pytest.mark.parametrize("text", ["4", " 4\n", "naïve – 東京", "a , b ."])
def test_the_text_comes_back_exactly_without_the_stop_token(
    decoder: CompletionDecoder, make_group: Callable[..., Group], text: str
) -> None:
    group = make_group(0, text)
    assert decoder.text(group.trajectories[0], frozenset(group.task.sampling.stop_token_ids)) == text


def test_only_a_stop_token_at_the_end_is_stripped(decoder: CompletionDecoder, make_group: Callable[..., Group]) -> None:
    trajectory = make_group(0, "abca").trajectories[0]
    letter = int(read_ints(trajectory.completion_token_ids)[0])
    cut = Trajectory(completion_token_ids=trajectory.completion_token_ids[:-4])  # ends with "a", no special token
    assert decoder.text(cut, frozenset({letter})) == "abc"
    assert decoder.text(cut, frozenset()) == "abca"


def test_a_negative_token_id_is_malformed(decoder: CompletionDecoder) -> None:
    with pytest.raises(MalformedMessage, match="negative"):
        decoder.text(Trajectory(completion_token_ids=ints([3, -1])), frozenset())


def test_decoding_needs_no_torch(layout: Layout) -> None:
    code = (
        "import pathlib, sys; from services.reward.tokens import CompletionDecoder; "
        f"CompletionDecoder(pathlib.Path({str(layout.model(MODEL))!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
