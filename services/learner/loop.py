"""The learner's order of things.

    claim an epoch → restore the newest checkpoint → replay the records behind it → assert to Redis → publish anew →
    { wait for a batch → commit its record → finish its numbers → train → publish → report, checkpoint } → export

Invariants: nothing is trained before its record is linked; nothing is finished in Redis before that either; between
replayed records nothing is published; every write to Redis carries the epoch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import structlog
import torch

from services.layout import Layout
from services.learner import checkpoint
from services.learner.assembler import Assembler, Batch
from services.learner.batch_wait import BatchWait
from services.learner.errors import JournalDamaged
from services.learner.journal import Draft, Header, Journal, finished_numbers
from services.learner.policy import Policy
from services.learner.step import Trainer
from services.spec import JobSpec, derived_seed
from services.store.client import Client
from services.store.events import Events
from services.store.steps import Checkpoints, Steps
from services.trajectories import streams
from services.trajectories.codec import decode_group
from services.trajectories.progress import Progress
from services.weights.canary import canary_tokens, compute
from services.weights.file_store import collect_garbage, publish, versions
from services.weights.manifest import Canary

log = structlog.get_logger()

KEEP_VERSIONS = 4


class Learner:
    """Trains one job from wherever its journal stands to its last step."""

    def __init__(self, spec: JobSpec, client: Client, layout: Layout) -> None:
        self._spec = spec
        self._client = client
        self._layout = layout
        self._folder = layout.job(spec.job_id)
        self._progress = Progress(client)
        self._steps = Steps(client)
        self._events = Events(client)
        self._stop = False
        self.phase = "starting"
        self.version = 0

    def stop(self) -> None:
        """End after the current step, with a checkpoint."""
        self._stop = True

    def run(self) -> str:
        """Train to the end ("finished") or until stopped ("drained"). Raises LearnerError, Fenced, SequenceTaken."""
        torch.set_num_threads(self._spec.learner.threads)
        self._enter("starting")
        self._journal = Journal(self._folder.journal)
        self._epoch = self._journal.claim_epoch()
        self._policy = Policy(self._layout.model(self._spec.model), _device())
        self._trainer = Trainer(self._spec, self._policy)
        self._canary_tokens = canary_tokens(self._policy.vocab_size, derived_seed(self._spec.seed, "canary"))
        self._restore()
        self._publish()
        if self.step == 0 and self._spec.evaluation is not None:
            self._progress.set(self._spec.job_id, evaluation_step=0)
        while self.step < self._spec.learner.steps and not self._stop:
            self._one_step()
        self._checkpoint()
        if self.step < self._spec.learner.steps:
            return "drained"
        self._export()
        return "finished"

    @property
    def step(self) -> int:
        """The step that comes next."""
        return self._trainer.state.next_step

    def _restore(self) -> None:
        found = checkpoint.newest(self._folder.checkpoints)
        if found is not None:
            self._policy.load(found.model)
            self._trainer.load(found.optimiser, found.state)
        self._enter("replaying")
        headers: list[Header] = []
        for record in self._journal.records():
            headers.append(record.header)
            self.version = max(self.version, record.header.policy_version)
            if record.header.kind == "step" and record.header.step == self.step:
                figures = self._trainer.train([decode_group(payload) for payload in record.payloads], self.step)
                self._report(record.header, figures, started=time.time(), replayed=True)
        self._check_complete(headers)
        self._headers = headers
        self._assert_training()
        self._assembler = Assembler(
            self._spec.job_id,
            self._spec.learner.batch_size,
            self._spec.learner.max_staleness,
            [number for numbers in finished_numbers(headers).values() for number in numbers],
        )
        self._wait = BatchWait(self._spec, self._client, self._assembler)
        log.info("learner_restored", step=self.step, epoch=self._epoch, records=len(headers))

    def _check_complete(self, headers: list[Header]) -> None:
        """A journal that ends before what was trained must never be taken for a fresh start. Raises JournalDamaged."""
        committed = 1 + max((header.step for header in headers if header.kind == "step"), default=-1)
        known = self._progress.read(self._spec.job_id).next_step
        if self.step != committed or known > committed:
            raise JournalDamaged(
                f"the journal holds {committed} steps, the checkpoint continues at {self.step}, Redis knows {known}"
            )

    def _assert_training(self) -> None:
        """Tell Redis what the journal says of finished numbers."""
        self._progress.assert_training(
            self._spec.job_id,
            epoch=self._epoch,
            next_step=self.step,
            cursor_at_least=max([0, *(header.cursor for header in self._headers)]),
            numbers=finished_numbers(self._headers),
        )

    def _remind(self) -> None:
        """Assert again what Redis has forgotten while we live: nothing is dispatched before it knows."""
        known = self._progress.read(self._spec.job_id)
        if known.asserted_epoch < self._epoch or known.next_step < self.step:
            log.warning("redis_forgot", next_step=known.next_step, step=self.step)
            self._assert_training()
            self._enter(self.phase)
        if known.policy_version < self.version:
            self._name_published()

    def _one_step(self) -> None:
        self._enter("waiting_for_batch")
        waiting_since = time.time()
        batch = self._wait.next_batch(self.step, settle=self._settle, remind=self._remind, stopping=lambda: self._stop)
        if batch is None:
            return
        started = time.time()
        header = self._settle(batch)
        self._enter("training")
        figures = self._trainer.train([scored.group for scored in batch.groups], header.step)
        self._enter("publishing")
        self._publish()
        figures["wait_seconds"] = started - waiting_since
        self._report(header, figures, started=started, replayed=False)
        if self.step % self._spec.learner.checkpoint_every == 0:
            self._checkpoint()

    def _settle(self, batch: Batch) -> Header:
        """Commit a batch (or only drops) to the journal, then finish its numbers in Redis."""
        draft = Draft(
            kind="step" if batch.groups else "drop",
            step=self.step,
            cursor=streams.cursor(self._client, self._spec.job_id),
            groups=[(scored.number, scored.payload) for scored in batch.groups],
            dropped=batch.dropped,
            settings={"learner": self._spec.learner.model_dump(), "objective": self._spec.objective},
            policy_version=self.version,
        )
        header = self._journal.commit(draft)
        self._headers.append(header)
        self._progress.finish(
            self._spec.job_id,
            epoch=self._epoch,
            next_step=self.step + (1 if batch.groups else 0),
            numbers=finished_numbers([header]),
            entry_ids=batch.entry_ids,
        )
        return header

    def _publish(self) -> None:
        stored = max(versions(self._folder.weights), default=0)
        known = self._progress.read(self._spec.job_id).policy_version
        self.version = max(self.version, stored, known) + 1
        tokens = self._canary_tokens
        self._published = publish(
            self._folder.weights,
            self._policy.tensors(),
            version=self.version,
            step=self.step,
            canary=Canary(token_ids=tokens, logprobs=compute(self._policy.model, tokens)),
            model_files=self._policy.folder,
            dtype=getattr(torch, self._spec.rollout.dtype),
        )
        self._name_published()
        collect_garbage(self._folder.weights, keep=KEEP_VERSIONS)

    def _name_published(self) -> None:
        """Tell Redis where the newest weights are; repeating it changes nothing."""
        path = str(self._published)
        self._progress.publish(self._spec.job_id, epoch=self._epoch, version=self.version, step=self.step, path=path)

    def _report(self, header: Header, figures: dict[str, Any], *, started: float, replayed: bool) -> None:
        record = {
            "step": header.step,
            "time": header.written_at,
            "epoch": self._epoch,
            "policy_version": header.policy_version if replayed else self.version,
            "seconds": time.time() - started,
            "replayed": replayed,
            "groups": len(header.trained),
            **figures,
        }
        self._steps.put(self._spec.job_id, header.step, record)
        self._progress.set(self._spec.job_id, trained_tokens=self._trainer.state.trained_tokens)
        evaluation = self._spec.evaluation
        done = header.step + 1
        if evaluation is not None and (done % evaluation.every == 0 or done == self._spec.learner.steps):
            self._progress.set(self._spec.job_id, evaluation_step=done)
        if not replayed:
            self._events.add(
                self._spec.job_id,
                f"Step {done}/{self._spec.learner.steps}: reward {record['reward_mean']:.3f}",
                type="metrics",
                data={"step": done, "train_mean_reward": record["reward_mean"], "loss": record["loss"]},
            )

    def _checkpoint(self) -> None:
        self._enter("checkpointing")
        path = checkpoint.save(
            self._folder.checkpoints, self._policy.tensors(), self._trainer.optimiser_tensors(), self._trainer.state
        )
        latest = self._steps.latest(self._spec.job_id) or {}
        record = {"step": self.step, "path": str(path), "created_at": int(time.time())}
        checkpoints = Checkpoints(self._client)
        checkpoints.put(self._spec.job_id, self.step, {**record, "train_mean_reward": latest.get("reward_mean")})
        for known in checkpoints.list(self._spec.job_id):
            if not Path(known["path"]).exists():
                checkpoints.remove(self._spec.job_id, known["step"])

    def _export(self) -> None:
        self._enter("exporting")
        self._policy.export(self._folder.export)
        self._enter("finished")

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self._progress.set(self._spec.job_id, phase=phase)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
