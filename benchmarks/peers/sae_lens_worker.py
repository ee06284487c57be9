"""SAELens' BatchTopK autoencoder of a single snapshot, stepped by its own SAETrainer."""

from importlib.metadata import version

import numpy as np
from measurement import Problem, batches, main
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor


class SaeLens:
    """The package's autoencoder and trainer; `SAETrainer.step` is one iteration of its `fit`."""

    def __init__(self, x: Tensor, problem: Problem) -> None:
        config = BatchTopKTrainingSAEConfig(
            d_in=problem.d_model, d_sae=problem.n_features, k=problem.k, dtype="float32", device="cpu"
        )
        self.sae = BatchTopKTrainingSAE(config)
        self.trainer = SAETrainer(
            SAETrainerConfig(
                total_training_samples=1_000_000_000,
                train_batch_size_samples=problem.batch_size,
                lr=problem.lr,
                lr_end=problem.lr,
                lr_warm_up_steps=problem.lr_warmup_steps,
            ),
            self.sae,
            (batch[:, 0] for batch in batches(x, problem)),
        )
        self.facts = {"sae-lens": version("sae-lens")}

    def update(self) -> None:
        """Do one step as `fit` does."""
        self.trainer.maybe_reset_sparsity()
        self.trainer.step(next(self.trainer.data_provider))
        self.trainer.n_training_steps += 1

    def dictionary(self) -> dict[str, np.ndarray]:
        """Return the weights; a decoder bias that is subtracted from the input goes into the encoder's bias."""
        sae = self.sae
        bias = sae.b_enc - sae.b_dec @ sae.W_enc if sae.cfg.apply_b_dec_to_input else sae.b_enc
        weights = {
            "encoder": sae.W_enc[None],
            "encoder_bias": bias,
            "decoder": sae.W_dec[None],
            "decoder_bias": sae.b_dec[None],
        }
        return {name: tensor.detach().numpy() for name, tensor in weights.items()} | {"gate": np.array("per_snapshot")}


if __name__ == "__main__":
    main(SaeLens)
