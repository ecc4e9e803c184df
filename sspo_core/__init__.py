"""Objectives of policy optimisation on log-probabilities, and the diagnostics of their importance ratios.

Torch and the standard library only. The names below are loaded when they are first used (PEP 562), so that
`sspo_core.config` can be imported without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sspo_core.advantages import group_advantages, informative
    from sspo_core.config import OBJECTIVES, CorrectionConfig
    from sspo_core.diagnostics.ratio_diagnostics import RatioDiagnostics
    from sspo_core.logprobs import linear_logprobs
    from sspo_core.losses import policy_loss
    from sspo_core.types import Denominators, LossInputs, LossOutputs

__all__ = [
    "OBJECTIVES",
    "CorrectionConfig",
    "Denominators",
    "LossInputs",
    "LossOutputs",
    "RatioDiagnostics",
    "group_advantages",
    "informative",
    "linear_logprobs",
    "policy_loss",
]

_HOMES = {
    "OBJECTIVES": "sspo_core.config",
    "CorrectionConfig": "sspo_core.config",
    "Denominators": "sspo_core.types",
    "LossInputs": "sspo_core.types",
    "LossOutputs": "sspo_core.types",
    "RatioDiagnostics": "sspo_core.diagnostics.ratio_diagnostics",
    "group_advantages": "sspo_core.advantages",
    "informative": "sspo_core.advantages",
    "linear_logprobs": "sspo_core.logprobs",
    "policy_loss": "sspo_core.losses",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
