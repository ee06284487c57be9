"""Snapcoder's own trainer, one `update` per step.

Variants of the default arm, BatchTopK: constant has the same k and learning rate at every step, as the other arms have,
so that training may end at any step; shared is that with one gate for all snapshots; schedule is the default recipe of a
study of `planned_steps` steps, with its falling number of active features and its falling learning rate.
"""

import numpy as np
import torch
from measurement import Problem, main
from torch import Tensor

import snapcoder
from snapcoder.crosscoder import training
from snapcoder.study.crosscoder import CrosscoderSettings

GATES = {"per_snapshot": "per_snapshot", "shared": "rms"}
WITHOUT_SCHEDULE = {"steps": 1_000_000, "k_start": 1.0, "lr_decay_share": 0.0}


class Snapcoder:
    """The trainer behind `snapcoder.crosscoder.training.train`, with every setting at its default but those below."""

    def __init__(self, x: Tensor, problem: Problem) -> None:
        scheduled = problem.variant == "schedule"
        self.gate = "shared" if problem.variant == "shared" else "per_snapshot"
        settings = CrosscoderSettings(
            n_features=problem.n_features,
            k=problem.k,
            gate=self.gate,
            batch_size=problem.batch_size,
            lr=problem.lr,
            lr_warmup_steps=problem.lr_warmup_steps,
            eval_every=1_000_000,
            seed=problem.seed,
            **({"steps": problem.planned_steps} if scheduled else WITHOUT_SCHEDULE),
        )
        self.trainer = training.Trainer(
            lambda indices: x[torch.from_numpy(indices)], problem.n_train, len(x) - problem.n_train, settings
        )
        self.facts = {
            "snapcoder": snapcoder.__version__,
            "settings": f"batchtopk, gate {self.gate}, {settings.precision} products, path {settings.path}, "
            f"{settings.optimizer_state} optimiser state",
        }

    def update(self) -> None:
        """Do one optimiser step."""
        self.trainer.update()

    def dictionary(self) -> dict[str, np.ndarray]:
        """Return the weights and the tracked threshold."""
        parameters = self.trainer.parameters
        weights = {
            "encoder": parameters.encoder,
            "encoder_bias": parameters.encoder_bias,
            "decoder": parameters.decoder,
            "decoder_bias": parameters.decoder_bias,
            "threshold": self.trainer.inference_threshold(),
        }
        return {name: tensor.detach().numpy() for name, tensor in weights.items()} | {
            "gate": np.array(GATES[self.gate])
        }


if __name__ == "__main__":
    main(Snapcoder)
