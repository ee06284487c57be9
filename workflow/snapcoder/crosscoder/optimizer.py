"""Adam, and a lean variant of it whose state is a quarter as large.

Lean: the first moment is kept in bfloat16, and all entries of a feature's row share one second moment, the mean of
their squares. Directions of the residual stream have no privileged axes, so a row's entries need no step sizes of their
own; `benchmarks/planted` measures what that costs.
"""

from typing import Any

import torch
from torch import Tensor

from snapcoder.crosscoder.sharding import WHOLE, Shard


class LeanAdam(torch.optim.Optimizer):
    """Adam with a bfloat16 first moment and one second moment per row (the leading dimension); vectors keep one each.

    Rows are those of weights [feature, snapshot, model], of all snapshots wherever they are.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        shard: Shard = WHOLE,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        self.shard = shard

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Do one update of all parameters that have a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state, gradient = self.state[weight], weight.grad
                squared = gradient.square()
                if weight.dim() > 2:
                    total = self.shard.over_snapshots(squared.sum(dim=(1, 2), keepdim=True))
                    squared = total / (self.shard.total_snapshots(weight.shape[1]) * weight.shape[2])
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(gradient, dtype=torch.bfloat16)
                    state["exp_avg_sq"] = torch.zeros_like(squared)
                state["step"] += 1
                count = float(state["step"])
                mean, second = state["exp_avg"], state["exp_avg_sq"].lerp_(squared, 1 - beta2)
                mean.copy_(mean.float().lerp_(gradient, 1 - beta1))
                scale = (second / (1 - beta2**count)).sqrt_().add_(group["eps"]).reciprocal_()
                weight.addcmul_(mean.to(weight.dtype), scale, value=-group["lr"] / (1 - beta1**count))


def make_optimizer(
    weights: dict[str, Tensor], *, lr: float, beta2: float, state: str, shard: Shard = WHOLE
) -> torch.optim.Optimizer:
    """Return the optimiser of named weights, one group each (its `name`); state: fp32 or lean."""
    groups = [{"params": [tensor], "name": name} for name, tensor in weights.items()]
    if state == "lean":
        return LeanAdam(groups, lr=lr, betas=(0.9, beta2), shard=shard)
    return torch.optim.Adam(groups, lr=lr, betas=(0.9, beta2), fused=True)


def clip(gradients: list[Tensor], largest: float, norm: Tensor) -> None:
    """Scale gradients down in place so that their joint norm is at most `largest`; 0 leaves them alone.

    norm is their joint norm now, on their device: nothing is read back.
    """
    if largest > 0:
        factor = (largest / norm.clamp_min(1e-30)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)
