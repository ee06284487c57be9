"""The training losses and their slopes in closed form (CROSSCODER 1.4; Ge et al., eq. 4)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Penalty:
    """A sparsity penalty on v = f · ‖decoder‖ ≥ 0, averaged over tokens and snapshots.

    kind: none; l1: Σ_i q_i with q_i = mean v_i; tanh: the same of tanh(c v); tanh_quad: Σ_i q_i (1 + q_i / ρ), with
    q_i averaged over tokens and snapshots before it is squared.
    """

    kind: str
    weight: float = 0.0  # λ
    stretch: float = 4.0  # c
    frequency_scale: float = 0.01  # ρ

    def value(self, v: Tensor) -> Tensor:
        """Return the penalty's value per entry, before averaging."""
        return v if self.kind == "l1" else torch.tanh(self.stretch * v)

    def slope(self, v: Tensor) -> Tensor:
        """Return the derivative of `value`."""
        return torch.ones_like(v) if self.kind == "l1" else self.stretch * (1 - torch.tanh(self.stretch * v).square())

    def total(self, q: Tensor) -> Tensor:
        """Return the penalty of the mean values q [feature]."""
        quadratic = q / self.frequency_scale if self.kind == "tanh_quad" else 0.0
        return self.weight * (q * (1 + quadratic)).sum()

    def marginal(self, q: Tensor) -> Tensor:
        """Return the derivative of `total`, [feature]."""
        quadratic = 2 * q / self.frequency_scale if self.kind == "tanh_quad" else torch.zeros_like(q)
        return self.weight * (1 + quadratic)


def reconstruction_loss(error: Tensor) -> Tensor:
    """Return mean over tokens and snapshots of ‖x̂ − x‖², for errors [token, snapshot, model]."""
    return error.square().sum(dim=-1).mean()
