"""The update of `optimizer.LeanAdam` on a GPU, in Triton: one pass over weights, gradients and first moments."""

import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = 1024  # weights of one program


@triton.jit
def _lean_update(  # type: ignore[no-untyped-def]
    weight, gradient, mean, scale, factor, row_size, BETA1: tl.constexpr, BLOCK: tl.constexpr
):
    # One row and one block of its columns: m ← β₁ m + (1 − β₁) factor g, rounded to bfloat16; w ← w − scale m.
    i = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at, inside = i * row_size + c, c < row_size
    g = tl.load(gradient + at, mask=inside, other=0.0) * tl.load(factor)
    m = tl.load(mean + at, mask=inside, other=0.0).to(tl.float32)
    rounded = (m + (1.0 - BETA1) * (g - m)).to(tl.bfloat16)
    tl.store(mean + at, rounded, mask=inside)
    w = tl.load(weight + at, mask=inside, other=0.0)
    tl.store(weight + at, w - rounded.to(tl.float32) * tl.load(scale + i), mask=inside)


def lean_update(weight: Tensor, gradient: Tensor, mean: Tensor, scale: Tensor, factor: Tensor, beta1: float) -> None:
    """Update float32 weights [feature, …] and their bfloat16 first moments in place, on their device.

    scale [feature] is the learning rate over the root of the second moment; factor, 0-d, multiplies the gradients.
    """
    row_size = weight[0].numel()
    block = min(_COLUMNS, triton.next_power_of_2(row_size))
    _lean_update[(len(weight), triton.cdiv(row_size, block))](
        weight, gradient, mean, scale, factor, row_size, BETA1=beta1, BLOCK=block
    )
