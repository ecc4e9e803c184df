"""Configs: defaults, refusals that name their field, and a package that can be asked without torch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

import sspo_core
from sspo_core.config import GATES_OFF_ONE, OBJECTIVES, GateName

NAMES = ["sspo", "sapo", "gmpo", "gspo", "gspo_token", "grpo", "dr_grpo", "dapo", "ppo", "cispo", "vespo", "power_mean"]
NAMES += ["sorl", "lad", "flowrl", "rloo", "reinforce", "reinforce_pp"]


def test_names_and_defaults() -> None:
    assert list(OBJECTIVES) == NAMES
    sspo = OBJECTIVES["sspo"]()
    assert (sspo.gate, sspo.sides, sspo.tau_pos, sspo.tau_neg) == ("logarctan_a", "both", 3.0, 3.5)
    sapo = OBJECTIVES["sapo"]()
    assert (sapo.gate, sapo.sides, sapo.tau_pos, sapo.tau_neg) == ("sigmoid_raw", "both", 1.0, 1.05)
    assert (OBJECTIVES["grpo"]().clip_low, OBJECTIVES["grpo"]().clip_high) == (0.2, 0.2)
    assert (OBJECTIVES["gspo"]().clip_low, OBJECTIVES["gspo"]().clip_high) == (3e-4, 4e-4)
    assert (OBJECTIVES["gmpo"]().clip_log_low, OBJECTIVES["gmpo"]().clip_log_high) == (0.4, 0.4)


def test_the_call_of_the_readme() -> None:
    config = OBJECTIVES["sspo"](gate="arctan", tau_pos=10.0, tau_neg=12.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.gate = "erf"


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("sspo", "gate", {"gate": "tanh"}),
    ("sspo", "gate", {"gate": ["arctan"]}),
    ("sspo", "sides", {"sides": "inward"}),
    ("sspo", "sides", {"sides": "outward", "gate": "sigmoid_raw"}),
    ("sspo", "sides", {"sides": "outward", "gate": "sigmoid_shifted"}),
    ("sspo", "tau_pos", {"tau_pos": 0.0}),
    ("sspo", "tau_pos", {"tau_pos": float("nan")}),
    ("sspo", "tau_neg", {"tau_neg": -1.0}),
    ("sspo", "tau_neg", {"tau_neg": float("inf")}),
    ("sspo", "tau_neg", {"tau_neg": "3"}),
    ("sspo", "tau_neg", {"tau_neg": True}),
    ("sspo", "tau_pos", {"gate": "logarctan_b", "tau_pos": 1.5}),
    ("sspo", "tau_neg", {"gate": "logarctan_b", "tau_neg": 1.5}),
    ("sspo", "alpha", {"alpha": 0.0}),
    ("sspo", "centre", {"gate": "sigmoid_shifted", "alpha": 50.0, "centre": 2.0}),
    ("sspo", "clip_log", {"clip_log": 0.0}),
    ("sspo", "kl_coefficient", {"kl_coefficient": -0.1}),
    ("sapo", "tau_pos", {"tau_pos": -1.0}),
    ("grpo", "clip_low", {"clip_low": 1.0}),
    ("grpo", "clip_high", {"clip_high": 0.0}),
    ("grpo", "aggregation", {"aggregation": "mean"}),
    ("gspo", "clip_low", {"clip_low": -3e-4}),
    ("gmpo", "clip_log_low", {"clip_log_low": 0.0}),
    ("gmpo", "clip_log_high", {"clip_log_high": float("inf")}),
]


@pytest.mark.parametrize(("name", "field", "fields"), REFUSED)
def test_refusals_name_their_field(name: str, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{field}:"):
        OBJECTIVES[name](**fields)


@pytest.mark.parametrize("gate", [gate for gate in get_args(GateName) if gate not in GATES_OFF_ONE])
def test_outward_takes_every_gate_through_one(gate: str) -> None:
    assert OBJECTIVES["sspo"](gate=gate, sides="outward").sides == "outward"


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_configs_survive_json(name: str) -> None:
    """A job's spec is JSON: what a config becomes there must validate back into an equal config."""
    config = OBJECTIVES[name]()
    assert TypeAdapter(OBJECTIVES[name]).validate_python(json.loads(json.dumps(dataclasses.asdict(config)))) == config


def loaded_after(statement: str) -> set[str]:
    """Top-level modules of a fresh interpreter after a statement."""
    code = f"import sys; {statement}; print(' '.join(sorted(m.split('.')[0] for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import sspo_core.config", "from sspo_core import OBJECTIVES", "import sspo_core.figures"]
)
def test_configs_and_figures_load_no_torch(statement: str) -> None:
    modules = loaded_after(statement)
    assert "sspo_core" in modules
    assert not modules & {"torch", "numpy", "pydantic"}


def test_lazy_names_resolve() -> None:
    from sspo_core.losses import policy_loss

    assert sspo_core.policy_loss is policy_loss and sspo_core.OBJECTIVES is OBJECTIVES
    assert all(getattr(sspo_core, name) is not None for name in sspo_core.__all__)
    assert set(sspo_core.__all__) <= set(dir(sspo_core))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = sspo_core.no_such_name
