"""The parts of a learner, and the functions that several of its duties share."""

from __future__ import annotations

from dataclasses import dataclass

from services.disk.layout import JobFolder, Layout
from services.job.spec import JobSpec
from services.journal.journal import Journal
from services.learner.backend import Backend
from services.learner.batches.assembler import Assembler
from services.learner.batches.batch_wait import BatchWait
from services.learner.guarding import Guarding
from services.learner.mismatch import MismatchProbe
from services.learner.publishing import Publisher
from services.learner.pulse import Pulse
from services.learner.recovery.attempts import Attempts
from services.learner.recovery.books import Books
from services.learner.recovery.checkpoint_writer import CheckpointWriter
from services.learner.recovery.recorded_training import Evidence
from services.learner.recovery.retention import Retention
from services.learner.reports.reporting import Reporter
from services.learner.reports.samples import Samples
from services.learner.training import Training
from services.store.client import Client
from services.trajectories.progress import Progress


@dataclass(frozen=True)
class Parts:
    """The parts of one learner, each made once."""

    spec: JobSpec
    layout: Layout
    pulse: Pulse
    progress: Progress
    journal: Journal
    books: Books
    attempts: Attempts
    backend: Backend
    training: Training
    evidence: Evidence
    assembler: Assembler
    wait: BatchWait
    publisher: Publisher
    probe: MismatchProbe
    guarding: Guarding
    reporter: Reporter
    samples: Samples
    writer: CheckpointWriter

    @classmethod
    def make(cls, spec: JobSpec, client: Client, layout: Layout, backend: Backend, pulse: Pulse) -> Parts:
        """All of them around a backend; touches neither Redis nor the journal."""
        folder, learner = layout.job(spec.job_id), spec.learner
        progress, journal, reporter = Progress(client), Journal(folder.journal), Reporter(spec, client, layout)
        training, attempts = Training(spec, backend), Attempts(journal)
        assembler = Assembler(
            spec.job_id,
            learner.batch_size,
            learner.max_staleness,
            drop_uninformative=learner.drop_uninformative_groups,
            vocab_size=backend.vocab_size,
        )
        return cls(
            spec=spec,
            layout=layout,
            pulse=pulse,
            progress=progress,
            journal=journal,
            books=Books(spec, client, journal),
            attempts=attempts,
            backend=backend,
            training=training,
            evidence=Evidence(journal, attempts, training, learner.checkpoint_every),
            assembler=assembler,
            wait=BatchWait(spec, client, assembler),
            publisher=Publisher(spec.job_id, progress, folder.weights, journal, backend),
            probe=MismatchProbe(learner, backend),
            guarding=Guarding(spec, client),
            reporter=reporter,
            samples=Samples(folder.samples, layout.model(spec.model)),
            writer=CheckpointWriter(
                Retention(folder, journal, learner).save, reporter.checkpoint, learner.wait_seconds
            ),
        )

    @property
    def folder(self) -> JobFolder:
        """The job's folder."""
        return self.layout.job(self.spec.job_id)

    def enter(self, phase: str) -> None:
        """Tell other threads and Redis that another phase begins."""
        self.pulse.enter(phase)
        known = {"records": len(self.books.outlines)} if self.books.outlines else {}
        self.progress.set(self.spec.job_id, phase=phase, **known)

    def publish(self) -> None:
        """Publish the weights of this moment. Raises Fenced."""
        self.publisher.publish(self.training.step)
        self.pulse.version = self.publisher.version
        self.probe.published(self.publisher.version, self.training.step)
