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
from sspo_core.objectives.compositions import compose
from sspo_core.objectives.corrections import SHARED_RATIOS

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
    ("gspo_token", "clip_high", {"clip_high": 0.0}),
    ("grpo", "clip_sides", {"clip_sides": "three"}),
    ("grpo", "dual_clip", {"dual_clip": 1.0}),
    ("grpo", "kl_estimator", {"kl_estimator": "k4"}),
    ("dr_grpo", "norm_tokens", {"norm_tokens": 0}),
    ("dapo", "clip_low", {"clip_low": True}),
    ("ppo", "dual_clip", {"dual_clip": "3"}),
    ("cispo", "clip_low", {"clip_low": 1.5}),
    ("cispo", "clip_high", {"clip_high": 0}),
    ("vespo", "power_neg", {"power_neg": -1.0}),
    ("vespo", "decay_pos", {"decay_pos": float("nan")}),
    ("power_mean", "exponent", {"exponent": 21.0}),
    ("power_mean", "sides", {"gate": "sigmoid_raw", "sides": "outward"}),
    ("sorl", "clip_high", {"clip_high": -1.0}),
    ("lad", "eta", {"eta": 0.0}),
    ("lad", "divergence", {"divergence": "kl"}),
    ("lad", "ratio", {"ratio": "turn"}),
    ("flowrl", "beta", {"beta": -1.0}),
    ("flowrl", "importance_clip", {"importance_clip": 1.0}),
    ("rloo", "aggregation", {"aggregation": "mean"}),
    ("reinforce", "kl_coefficient", {"kl_coefficient": float("inf")}),
    ("reinforce_pp", "norm_tokens", {"norm_tokens": "many"}),
]


@pytest.mark.parametrize(("name", "field", "fields"), REFUSED)
def test_refusals_name_their_field(name: str, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{field}:"):
        OBJECTIVES[name](**fields)


DEFAULTS: list[tuple[str, dict[str, Any]]] = [
    ("gspo_token", {"clip_low": 3e-4, "clip_high": 4e-4}),
    ("dr_grpo", {"clip_low": 0.2, "clip_high": 0.2, "aggregation": "sum-norm", "norm_tokens": 3000}),
    ("dapo", {"clip_low": 0.2, "clip_high": 0.28, "aggregation": "token-mean", "dual_clip": None}),
    ("ppo", {"clip_low": 0.2, "clip_high": 0.2, "aggregation": "token-mean", "clip_sides": "one"}),
    ("cispo", {"clip_low": 1.0, "clip_high": 4.0, "aggregation": "token-mean"}),
    ("vespo", {"power_pos": 2.0, "decay_pos": 3.0, "power_neg": 3.0, "decay_neg": 2.0, "aggregation": "token-mean"}),
    ("power_mean", {"exponent": 1.0, "gate": "identity", "clip_low": 0.2, "clip_high": 0.2}),
    ("sorl", {"clip_low": 0.2, "clip_high": 0.2}),
    ("lad", {"eta": 0.25, "divergence": "jensen_shannon", "ratio": "sequence_product"}),
    ("flowrl", {"beta": 15.0, "importance_clip": 0.2}),
    ("rloo", {"aggregation": "seq-mean-token-sum"}),
    ("reinforce", {"aggregation": "seq-mean-token-sum"}),
    ("reinforce_pp", {"clip_low": 0.2, "clip_high": 0.2, "aggregation": "token-mean"}),
]


@pytest.mark.parametrize(("name", "fields"), DEFAULTS)
def test_defaults_of_the_papers(name: str, fields: dict[str, Any]) -> None:
    config = OBJECTIVES[name]()
    assert {field: getattr(config, field) for field in fields} == fields
    assert (config.kl_coefficient, config.kl_estimator) == (0.0, "k3")


def test_what_an_objective_says_of_itself() -> None:
    """Needs and advantage are the class's: a request can't set them, and they are no part of a job's spec."""
    needs = {name: set(config.needs) for name, config in OBJECTIVES.items() if config.needs}
    assert needs == {"flowrl": {"reference", "log_partition"}, "sorl": {"turn_ids", "clipping_bias"}}
    kinds = {name: config.advantage for name, config in OBJECTIVES.items() if config.advantage != "group_std"}
    assert kinds == {
        "dr_grpo": "group_mean",
        "ppo": "batch_whitened",
        "vespo": "group_mean",
        "rloo": "leave_one_out",
        "reinforce": "group_mean",
        "reinforce_pp": "batch_whitened",
    }
    for config in OBJECTIVES.values():
        fields = {field.name for field in dataclasses.fields(config)}
        assert not fields & {"needs", "advantage", "source", "gradient_weight"}
        assert config.source and config.gradient_weight and config.__doc__


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
    "statement", ["import sspo_core.config", "from sspo_core import OBJECTIVES", "import sspo_core.diagnostics.figures"]
)
def test_configs_and_figures_load_no_torch(statement: str) -> None:
    modules = loaded_after(statement)
    assert "sspo_core" in modules
    assert not modules & {"torch", "numpy", "pydantic"}


BLOCKED = """
import sys, torch

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names | {"torch", "sspo_core"}:
            raise ImportError(f"blocked: {name}")

sys.meta_path.insert(0, Blocker())
import pkgutil, sspo_core
for module in pkgutil.walk_packages(sspo_core.__path__, "sspo_core."):
    __import__(module.name)
logprobs = torch.zeros(2, 3, requires_grad=True)
inputs = sspo_core.LossInputs(logprobs, torch.zeros(2, 3), torch.tensor([1.0, -1.0]), torch.ones(2, 3))
outputs = sspo_core.policy_loss(inputs, sspo_core.OBJECTIVES["sspo"]())
outputs.loss.backward()
print(len(sspo_core.RatioDiagnostics(outputs.metrics).figures()) > 30)
"""


def test_torch_is_all_it_needs() -> None:
    """With every import refused that is neither torch's own nor the standard library's."""
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_lazy_names_resolve() -> None:
    from sspo_core.losses import policy_loss

    assert sspo_core.policy_loss is policy_loss and sspo_core.OBJECTIVES is OBJECTIVES
    assert all(getattr(sspo_core, name) is not None for name in sspo_core.__all__)
    assert set(sspo_core.__all__) <= set(dir(sspo_core))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = sspo_core.no_such_name


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_what_a_config_says_of_its_ratio_is_what_is_composed(name: str) -> None:
    config = OBJECTIVES[name]()
    composition = compose(config)
    assert config.has_ratio == composition.corrects
    assert config.shares_ratio == (composition.ratio in SHARED_RATIOS)
