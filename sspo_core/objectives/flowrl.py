"""log Z of FlowRL (arXiv 2509.15207): a small network on the prompt, trained together with the policy.

It is state of the objective. How a trainer keeps it:

- `LogPartition(hidden_size)` is made once, with the policy, from the job's seed. Its input is the mean of the policy's
  last hidden states over the prompt's tokens, [B, H], and its output is `LossInputs.log_partition`, [B].
- Its parameters go into the policy's optimiser (the public code has one learning rate for both), and its gradient
  through the prompt's hidden states into the policy; to keep it out, detach the input.
- It is part of a checkpoint (`state_dict()`), and a replay needs it; it is no part of what is published to the rollout
  engines, which don't use it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LogPartition(nn.Module):
    """[B, H] prompt states → [B] log Z: linear layers with GELU and LayerNorm between them, as in the public code.

    Without the code's dropout: a replay has to give the same bits.
    """

    def __init__(self, hidden_size: int, layers: int = 3) -> None:
        """Raises ValueError naming the argument."""
        super().__init__()
        for name, value in (("hidden_size", hidden_size), ("layers", layers)):
            if value < 1:
                raise ValueError(f"{name}: must be at least 1, got {value!r}")
        inner = [
            nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.LayerNorm(hidden_size))
            for _ in range(layers - 1)
        ]
        self.network = nn.Sequential(*inner, nn.Linear(hidden_size, 1))

    def forward(self, prompt_states: Tensor) -> Tensor:
        log_z: Tensor = self.network(prompt_states)
        return log_z.squeeze(-1)


def mean_prompt_states(hidden: Tensor, prompt_mask: Tensor) -> Tensor:
    """Mean over the prompt's tokens, [B, T, H] and [B, T] → [B, H]; 0 for a row without a prompt."""
    kept = torch.where(prompt_mask.bool().unsqueeze(-1), hidden, 0.0)
    return kept.sum(dim=1) / prompt_mask.bool().sum(dim=1, keepdim=True).clamp(min=1)
