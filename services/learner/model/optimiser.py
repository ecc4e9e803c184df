"""The optimiser of the policy: how it is made, and its state as named tensors for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from services.job.learner import LearnerSpec


def make_optimiser(parameters: Sequence[Tensor], learner: LearnerSpec) -> torch.optim.Optimizer:
    """AdamW with the job's learning rate and weight decay."""
    return torch.optim.AdamW(list(parameters), lr=learner.learning_rate, weight_decay=learner.weight_decay)


def state_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Its state under `INDEX.NAME`, the parameter's index and the state's name."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(value) for index, item in state.items() for name, value in item.items()}


def restore_state(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take over what `state_tensors` gave."""
    restored: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        restored.setdefault(int(index), {})[name] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": restored, "param_groups": groups})
