"""Adam, and a lean variant of it whose state is a quarter as large.

Lean: the first moment is kept in bfloat16, and all entries of a feature's row share one second moment, the mean of
their squares. Directions of the residual stream have no privileged axes, so a row's entries need no step sizes of their
own; `benchmarks/planted` measures what that costs.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from snapcoder.crosscoder.sharding import WHOLE, Shard

_CHUNK = 16 << 20  # weights that are updated at a time, so that work space stays small


class LeanAdam(torch.optim.Optimizer):
    """Adam with a bfloat16 first moment and one second moment per row (the leading dimension); vectors keep one each.

    Rows are those of weights [feature, snapshot, model], of all snapshots wherever they are. As in torch's fused Adam,
    gradients are divided by the attribute `grad_scale`, a 0-d tensor on their device, when it is there.
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
        self.grad_scale: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Do one update of all parameters that have a gradient. Nothing is read back from their device."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(
                        weight, weight.grad, self.state[weight], **{k: group[k] for k in ("lr", "betas", "eps")}
                    )

    def _update(
        self,
        weight: Tensor,
        gradient: Tensor,
        state: dict[str, Tensor],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        beta1, beta2 = betas
        factor = weight.new_ones(()) if self.grad_scale is None else self.grad_scale.reciprocal()
        squared = self._mean_square(gradient) * factor.square()
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float64, device=weight.device)
            state["exp_avg"] = torch.zeros_like(gradient, dtype=torch.bfloat16)
            state["exp_avg_sq"] = torch.zeros_like(squared)
        count = state["step"].add_(1)
        second = state["exp_avg_sq"].lerp_(squared, 1 - beta2)
        scale = (second / (1 - beta2**count)).sqrt().add(eps).reciprocal()
        scale = (scale * (lr / (1 - beta1**count))).to(weight.dtype)
        if weight.dim() > 1 and weight.is_cuda and find_spec("triton") is not None:
            from snapcoder.crosscoder.lean_triton import lean_update

            lean_update(weight, gradient, state["exp_avg"], scale.flatten(), factor, beta1)
            return
        rows = max(1, _CHUNK // max(1, weight[0].numel()))
        for w, g, mean, own in zip(*(t.split(rows) for t in (weight, gradient, state["exp_avg"], scale)), strict=True):
            mean.copy_(mean.to(g.dtype).lerp_(g * factor, 1 - beta1))
            w.sub_(mean.to(w.dtype) * own)

    def _mean_square(self, gradient: Tensor) -> Tensor:
        """Return the mean of squares of each row, [feature, 1, 1]; of a vector, its squares."""
        if gradient.dim() < 3:
            return gradient.square()
        norms = torch.linalg.vector_norm(gradient, dim=(1, 2), keepdim=True)
        total = self.shard.over_snapshots(norms.square())
        return total / (self.shard.total_snapshots(gradient.shape[1]) * gradient.shape[2])


def make_optimizer(
    weights: dict[str, Tensor], *, lr: float, beta2: float, state: str, shard: Shard = WHOLE
) -> torch.optim.Optimizer:
    """Return the optimiser of named weights, one group each (its `name`); state: fp32 or lean."""
    groups = [{"params": [tensor], "name": name} for name, tensor in weights.items()]
    if state == "lean":
        return LeanAdam(groups, lr=lr, betas=(0.9, beta2), shard=shard)
    return torch.optim.Adam(groups, lr=lr, betas=(0.9, beta2), fused=True)


def clip(optimizer: torch.optim.Optimizer, largest: float, norm: Tensor) -> Tensor:
    """Let the next step use gradients scaled down so that their joint norm is at most `largest`; 0 leaves them alone.

    norm is their joint norm now, on their device. Gradients stay as they are: the optimiser divides by what is returned,
    `grad_scale` ≥ 1, while it reads them, which spares a pass over all weights. Nothing is read back.
    """
    scale = (norm / largest).clamp_min(1.0) if largest > 0 else torch.ones_like(norm)
    # The attribute is what torch.amp sets, too; it has to be float32.
    optimizer.grad_scale = scale.float() if largest > 0 else None  # type: ignore[attr-defined]
    return scale
