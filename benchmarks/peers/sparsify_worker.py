"""EleutherAI's sparsify (eai-sparsify): a TopK autoencoder of a single snapshot, stepped as its Trainer steps it.

Its Trainer wants a language model and a token data set, so the part of its loop that trains is written out here: unit
decoder rows, fraction of variance unexplained as the loss, gradients along the decoder rows removed, the optimiser.
"""

from importlib.metadata import version

import numpy as np
import torch
from measurement import Problem, batches, main
from sparsify import SparseCoder, SparseCoderConfig
from torch import Tensor


class Sparsify:
    """The package's SparseCoder; Adam, one of the three optimisers that its Trainer offers, as all arms have it."""

    def __init__(self, x: Tensor, problem: Problem) -> None:
        self.batches = batches(x, problem)
        self.sae = SparseCoder(problem.d_model, SparseCoderConfig(num_latents=problem.n_features, k=problem.k))
        self.sae.b_dec.data = x[: problem.batch_size, 0].mean(dim=0)
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=problem.lr)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / problem.lr_warmup_steps)
        )
        self.silent_tokens = torch.zeros(problem.n_features, dtype=torch.long)
        self.facts = {"eai-sparsify": version("eai-sparsify")}

    def update(self) -> None:
        """Do one step of its Trainer's loop."""
        x = next(self.batches)[:, 0]
        self.sae.set_decoder_norm_to_unit_norm()
        out = self.sae(x=x, y=x, dead_mask=None, total_variance=(x - x.mean(0)).pow(2).sum())
        self.silent_tokens += len(x)
        self.silent_tokens[out.latent_indices.flatten()] = 0
        out.fvu.backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()

    def dictionary(self) -> dict[str, np.ndarray]:
        """Return the weights; its encoder subtracts the decoder's bias first."""
        sae = self.sae
        weights = {
            "encoder": sae.encoder.weight.T[None],
            "encoder_bias": sae.encoder.bias - sae.encoder.weight @ sae.b_dec,
            "decoder": sae.W_dec[None],
            "decoder_bias": sae.b_dec[None],
        }
        return {name: tensor.detach().numpy() for name, tensor in weights.items()} | {"gate": np.array("per_snapshot")}


if __name__ == "__main__":
    main(Sparsify)
