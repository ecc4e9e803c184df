"""The configs of objectives: frozen dataclasses, and `OBJECTIVES`, the one list of their names.

Standard library only, so that a service can validate a request without loading torch. Every config is checked when it
is made: a ValueError starts with the name of the field at fault. Defaults are those of each objective's paper, except
where a docstring says that they are our own choice.

Beside its fields a config says of its objective: `needs` (what the trainer must supply beyond the usual inputs),
`advantage` (the kind that its paper uses), `source` and `gradient_weight` (for the table in docs/objectives.md).
"""

from __future__ import annotations

from typing import Any

from sspo_core.config.base import (
    AdvantageKind,
    AggregationName,
    ClipSides,
    KLEstimator,
    Need,
    ObjectiveConfig,
)
from sspo_core.config.clipped import (
    DAPOConfig,
    DrGRPOConfig,
    GMPOConfig,
    GRPOConfig,
    GSPOConfig,
    GSPOTokenConfig,
    PPOConfig,
    RatioClipConfig,
    ReinforcePPConfig,
    SORLConfig,
)
from sspo_core.config.corrections import CorrectionConfig, CorrectionLevel, ImportanceWeight
from sspo_core.config.gated import (
    GATES_OFF_ONE,
    TAU_RANGE,
    GatedConfig,
    GateName,
    PowerMeanConfig,
    SAPOConfig,
    Sides,
    SSPOConfig,
)
from sspo_core.config.matching import Divergence, FlowRLConfig, LADConfig, LADRatio
from sspo_core.config.weighted import CISPOConfig, ReinforceConfig, RLOOConfig, VESPOConfig

__all__ = [
    "GATES_OFF_ONE",
    "OBJECTIVES",
    "TAU_RANGE",
    "AdvantageKind",
    "AggregationName",
    "CISPOConfig",
    "ClipSides",
    "CorrectionConfig",
    "CorrectionLevel",
    "DAPOConfig",
    "Divergence",
    "DrGRPOConfig",
    "FlowRLConfig",
    "GMPOConfig",
    "GRPOConfig",
    "GSPOConfig",
    "GSPOTokenConfig",
    "GateName",
    "GatedConfig",
    "ImportanceWeight",
    "KLEstimator",
    "LADConfig",
    "LADRatio",
    "Need",
    "ObjectiveConfig",
    "PPOConfig",
    "PowerMeanConfig",
    "RLOOConfig",
    "RatioClipConfig",
    "ReinforceConfig",
    "ReinforcePPConfig",
    "SAPOConfig",
    "SORLConfig",
    "SSPOConfig",
    "Sides",
    "VESPOConfig",
]

OBJECTIVES: dict[str, type[Any]] = {
    "sspo": SSPOConfig,
    "sapo": SAPOConfig,
    "gmpo": GMPOConfig,
    "gspo": GSPOConfig,
    "gspo_token": GSPOTokenConfig,
    "grpo": GRPOConfig,
    "dr_grpo": DrGRPOConfig,
    "dapo": DAPOConfig,
    "ppo": PPOConfig,
    "cispo": CISPOConfig,
    "vespo": VESPOConfig,
    "power_mean": PowerMeanConfig,
    "sorl": SORLConfig,
    "lad": LADConfig,
    "flowrl": FlowRLConfig,
    "rloo": RLOOConfig,
    "reinforce": ReinforceConfig,
    "reinforce_pp": ReinforcePPConfig,
}
"""Objective name → its config class, an `ObjectiveConfig`; typed so that it can be called with keywords."""
