"""The bare encoder product, x [batch, snapshot · model] times the encoder: what no step can be faster than."""

import numpy as np
import torch
from measurement import Problem, main
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class EncoderProduct:
    """One dense product of a step's size; nothing is trained."""

    facts: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, x: Tensor, problem: Problem) -> None:
        dtype = DTYPES[problem.variant]
        self.x = x[: problem.batch_size].flatten(1).to(dtype)
        self.encoder = torch.randn(self.x.shape[1], problem.n_features).to(dtype)
        self.product = torch.empty(problem.batch_size, problem.n_features, dtype=dtype)

    def update(self) -> None:
        """Multiply once."""
        torch.mm(self.x, self.encoder, out=self.product)

    def dictionary(self) -> dict[str, np.ndarray]:
        """Return nothing: there is no dictionary."""
        return {}


if __name__ == "__main__":
    main(EncoderProduct)
