"""The learner's model in this process, on one device: a `Policy` and its `Trainer` behind the seam."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from services.disk.layout import Layout
from services.job.spec import JobSpec, derived_seed
from services.learner.backend import Comparison, TokenWeights, TrainingState
from services.learner.model import gate_curve, recomputing, snapshot
from services.learner.model.memory import typed_memory_errors
from services.learner.model.policy import Policy
from services.learner.model.snapshot import HostCopy, host_copy
from services.learner.model.trainer import Trainer
from services.records.ratios import RatioFigures
from services.records.samples import GateCurve
from services.records.step import StepFigures
from services.weights.canary import canary_tokens, compute
from services.weights.manifest import Canary
from services.weights.publish import publish
from sspo_proto.trajectory_pb2 import Group


def open_backend(spec: JobSpec, layout: Layout) -> LocalBackend:
    """The backend of a job. Raises UnknownModel, OutOfMemory."""
    return LocalBackend(spec, layout.model(spec.model))


class LocalBackend:
    """Implements `services.learner.backend.Backend`."""

    @typed_memory_errors()
    def __init__(self, spec: JobSpec, model: Path) -> None:
        torch.set_num_threads(spec.learner.threads)
        self._spec = spec
        self._policy = Policy(model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self._trainer = Trainer(spec, self._policy)
        self._canary = canary_tokens(self._policy.vocab_size, derived_seed(spec.seed, "canary"))
        self._kept: dict[str, Tensor] | None = None

    @property
    def vocab_size(self) -> int:
        return self._policy.vocab_size

    @property
    def state(self) -> TrainingState:
        return self._trainer.state

    @typed_memory_errors()
    def train(self, groups: Sequence[Group], step: int, spec: JobSpec) -> StepFigures:
        self._use(spec)
        return self._trainer.train(groups, step)

    @typed_memory_errors()
    def token_weights(self) -> Mapping[int, TokenWeights]:
        return self._trainer.token_log.read()

    @typed_memory_errors()
    def keep(self) -> None:
        self._kept = host_copy(self._policy.tensors())

    def forget(self) -> None:
        self._kept = None

    @typed_memory_errors()
    def recompute(self, group: Group) -> RatioFigures:
        if self._kept is None:
            raise ValueError("no weights are kept")
        return recomputing.recompute(self._policy, self._kept, group, self._spec)

    @typed_memory_errors()
    def capture(self) -> HostCopy:
        return HostCopy(host_copy(self._policy.tensors()), host_copy(self._trainer.optimiser_tensors()))

    @typed_memory_errors()
    def load(self, folder: Path, hashes: Mapping[str, str], state: TrainingState) -> None:
        found = snapshot.read(folder, hashes)
        self._policy.load(found.model)
        self._trainer.load(found.optimiser, state)

    @typed_memory_errors()
    def compare(self, folder: Path, hashes: Mapping[str, str]) -> list[Comparison]:
        return snapshot.compare(snapshot.read(folder, hashes), self.capture())

    @typed_memory_errors()
    def weights_sha256(self, *, most_bytes: int | None = None) -> str | None:
        tensors = self._policy.tensors()
        if most_bytes is not None and sum(tensor.nbytes for tensor in tensors.values()) > most_bytes:
            return None
        return weights_sha256(tensors)

    def environment(self) -> dict[str, str | int]:
        import transformers

        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        }

    @typed_memory_errors()
    def publish(self, root: Path, *, version: int, step: int) -> Path:
        return publish(
            root,
            self._policy.tensors(),
            version=version,
            step=step,
            canary=Canary(token_ids=self._canary, logprobs=compute(self._policy.model, self._canary)),
            model_files=self._policy.folder,
            dtype=getattr(torch, self._spec.rollout.dtype),
        )

    @typed_memory_errors()
    def export(self, folder: Path) -> None:
        self._policy.export(folder)

    @typed_memory_errors()
    def gate_curve(self, spec: JobSpec) -> GateCurve:
        return gate_curve.gate_curve(spec)

    def _use(self, spec: JobSpec) -> None:
        """Train with other settings from now on; optimiser and counters go along."""
        if spec == self._spec:
            return
        before = self._trainer
        self._spec = spec
        torch.set_num_threads(spec.learner.threads)
        self._trainer = Trainer(spec, self._policy, before.reference)
        self._trainer.load(before.optimiser_tensors(), before.state)


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
