"""The auditor finds what it is there to find, from the files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.journal.errors import JournalDamaged
from services.journal.journal import Draft, Journal
from services.trajectories.codec import encode, floats, ints, mask
from sspo_proto.trajectory_pb2 import Group, PromptTask, Reward, Sampling, Trajectory, VersionSpan
from tests.chaos.auditor import Finding, inspect

STEPS, BATCH_SIZE = 3, 2


def group(number: int, step: int) -> bytes:
    task = PromptTask(
        job_id="ftjob-1", group_number=number, prompt_token_ids=ints([1]), sampling=Sampling(group_size=1)
    )
    trajectory = Trajectory(
        completion_token_ids=ints([5, 2]),
        behaviour_logprobs=floats([-0.1, -0.2]),
        loss_mask=mask([1, 1]),
        version_spans=[VersionSpan(version=step + 1, step=step, start=0, end=2)],
        reward=Reward(value=1.0),
    )
    return encode(Group(schema_version=1, task=task, trajectories=[trajectory]))


def step_of(step: int, numbers: list[int], **changes: Any) -> Draft:
    groups = [(number, group(number, changes.pop("sampled_at", step))) for number in numbers]
    return Draft(**{"kind": "step", "step": step, "cursor": 6, "groups": groups, "policy_version": step + 1, **changes})


def journal(folder: Path, *drafts: Draft, closed: bool = True) -> Path:
    """Three steps of two groups, with `drafts` in the places of those of the same step."""
    written = Journal(folder)
    written.claim_epoch()
    changed = {draft.step: draft for draft in drafts}
    for step in range(STEPS):
        written.commit(changed.get(step, step_of(step, [2 * step, 2 * step + 1])))
    if closed:
        written.commit(Draft(kind="close", step=STEPS, cursor=6))
    return folder


def look(folder: Path, *allowed_drops: str) -> Finding:
    return inspect(folder, steps=STEPS, batch_size=BATCH_SIZE, max_staleness=1, allowed_drops=allowed_drops)


def test_a_good_journal(tmp_path: Path) -> None:
    assert look(journal(tmp_path)) == Finding(records=4, steps=3, trained=6)


@pytest.mark.parametrize(
    ("draft", "complaint"),
    [
        (step_of(1, [2, 0]), "more than one outcome"),
        (step_of(1, [2, 3], cursor=7), "are lost: [6]"),
        (step_of(1, [2, 3], policy_version=0), "policy version 0 after 1"),
        (step_of(2, [4, 5], sampled_at=0), "is too old"),
        (step_of(0, [0, 1], sampled_at=1), "names a version newer than 1"),
        (step_of(1, [2]), "5 groups were trained"),
        (step_of(1, [2, 3], dropped={"stale": [6]}, cursor=7), "dropped for ['stale'], which nobody injected"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, draft: Draft, complaint: str) -> None:
    assert any(complaint in wrong for wrong in look(journal(tmp_path, draft)).wrong)


def test_an_injected_drop_is_no_surprise(tmp_path: Path) -> None:
    folder = journal(tmp_path, step_of(1, [2, 3], dropped={"poison": [6]}, cursor=7))
    finding = look(folder, "poison")
    assert finding.wrong == [] and finding.dropped == {"poison": 1}


def test_a_journal_without_an_end(tmp_path: Path) -> None:
    assert "the journal is not closed" in look(journal(tmp_path, closed=False)).wrong


def test_what_a_cut_undoes_is_trained_once(tmp_path: Path) -> None:
    written = Journal(tmp_path)
    written.claim_epoch()
    for step in range(2):
        written.commit(step_of(step, [2 * step, 2 * step + 1]))
    written.commit(Draft(kind="skip", step=1, cursor=6, dropped={"poison": [2, 3]}, policy_version=3))
    for step in range(1, STEPS):
        numbers = [2 * step + 2, 2 * step + 3]
        written.commit(step_of(step, numbers, cursor=8, policy_version=step + 3))
    written.commit(Draft(kind="close", step=STEPS, cursor=8))
    finding = look(tmp_path, "poison")
    assert finding.wrong == [] and (finding.trained, finding.dropped) == (6, {"poison": 2})


@pytest.mark.parametrize("at", [20, -1])
def test_a_changed_byte_is_refused(tmp_path: Path, at: int) -> None:
    path = journal(tmp_path) / "00000001.rec"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises((ValueError, JournalDamaged)):
        look(tmp_path)
