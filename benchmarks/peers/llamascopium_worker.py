"""llamascopium's crosscoder, trained by the methods of its own Trainer, on a CPU.

Trainer.fit itself does not run here: it asks every batch for a mask, and with a mask the crosscoder's loss stops with an
error, as its loss terms carry a snapshot axis that the mask lacks. So the loop of `fit` is written out below, in fit's
order, without its logging and progress bar; normalisation, loss, clipping, optimiser and schedule are the package's.
The variant is the activation function: jumprelu with the tanh penalty, or batchtopk; `_bf16` takes fit's autocast.
"""

import math
import tempfile
import warnings
from importlib.metadata import version

import numpy as np
import torch
from measurement import Problem, batches, main
from torch import Tensor

warnings.filterwarnings("ignore", message="CUDA is not available")

from llamascopium.initializer import Initializer, InitializerConfig  # noqa: E402
from llamascopium.models.crosscoder import Crosscoder, CrosscoderConfig  # noqa: E402
from llamascopium.optim import clip_grad_norm  # noqa: E402
from llamascopium.trainer import Trainer, TrainerConfig  # noqa: E402

SEARCH_ROWS = 128  # rows of the search for the initial decoder norm, which runs 70 forward passes


class Llamascopium:
    """The package's model, initialiser and trainer under the benchmark's loop."""

    def __init__(self, x: Tensor, problem: Problem) -> None:
        self.problem, self.batches = problem, batches(x, problem)
        activation, _, precision = problem.variant.partition("_")
        self.hooks = [f"snapshot{s}" for s in range(problem.n_snapshots)]
        config = CrosscoderConfig(
            d_model=problem.d_model,
            expansion_factor=problem.n_features / problem.d_model,
            hook_points=self.hooks,
            act_fn=activation,
            top_k=problem.k,
            jumprelu_threshold_window=4.0,
            norm_activation="inference",  # the rows are scaled already
            device="cpu",
            dtype=torch.float32,
        )
        self.model = Crosscoder(config)
        initialiser = Initializer(
            InitializerConfig(grid_search_init_norm=True, init_log_jumprelu_threshold_value=math.log(0.1))
        )
        initialiser.initialize_parameters(self.model)
        initialiser.initialization_search(self.model, self._batch(x[:SEARCH_ROWS]))
        self.trainer = self._trainer(activation, precision)
        one = torch.ones(problem.batch_size)
        self.trainer._initialize_trainer(self.model, [{"tokens": one, "mask": one}])
        self.trainer._initialize_optimizer(self.model)
        self.facts = {
            "llamascopium": version("llamascopium"),
            "transformer-lens": version("transformer-lens"),
            "does not run": f"sparsity_loss_type='tanh-quad': {self._tanh_quad_error(x)}",
        }

    def _trainer(self, activation: str, precision: str) -> Trainer:
        jumprelu = activation == "jumprelu"
        return Trainer(
            TrainerConfig(
                lr=self.problem.lr,
                lr_warm_up_steps=self.problem.lr_warmup_steps,
                lr_cool_down_steps=1,  # with 0 its schedule divides by zero
                jumprelu_lr_factor=0.1,
                sparsity_loss_type="tanh" if jumprelu else None,
                l1_coefficient=0.3 if jumprelu else None,
                l1_coefficient_warmup_steps=self.problem.lr_warmup_steps,
                initial_k=self.problem.k,
                k_warmup_steps=0,
                amp_dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
                clip_grad_norm=1.0,
                total_training_tokens=1_000_000_000,
                n_checkpoints=0,
                exp_result_path=tempfile.mkdtemp(),
            )
        )

    def _batch(self, x: Tensor) -> dict[str, Tensor]:
        return {hook: x[:, s] for s, hook in enumerate(self.hooks)} | {"tokens": torch.zeros(len(x))}

    def _tanh_quad_error(self, x: Tensor) -> str:
        try:
            self.model.compute_loss(self._batch(x[:8]), sparsity_loss_type="tanh-quad", frequency_scale=0.01)
        except Exception as error:
            return str(error).splitlines()[0]
        return "runs in this version"

    def update(self) -> None:
        """Do one pass through the body of Trainer.fit's loop."""
        trainer = self.trainer
        batch = self.model.normalize_activations(self._batch(next(self.batches)))
        self.model.train()
        half = trainer.cfg.amp_dtype == torch.bfloat16
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16, enabled=half):
            context = trainer._training_step(self.model, batch)
        context["loss"].backward()
        clip_grad_norm(
            [
                weights
                for name, weights in self.model.named_parameters()
                if weights.grad is not None and "log_jumprelu_threshold" not in name
            ],
            max_norm=trainer.cfg.clip_grad_norm,
        )
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        trainer.scheduler.step()
        trainer.cur_step += 1

    def dictionary(self) -> dict[str, np.ndarray]:
        """Return the weights; the encoder's bias is the sum of the snapshots' own ones."""
        model = self.model
        weights = {
            "encoder": model.W_E,
            "encoder_bias": model.b_E.sum(dim=0),
            "decoder": model.W_D,
            "decoder_bias": model.b_D,
        }
        if self.problem.variant.startswith("jumprelu"):
            weights["threshold"] = model.activation_function.get_jumprelu_threshold()
        return {name: tensor.detach().float().numpy() for name, tensor in weights.items()} | {
            "gate": np.array("per_snapshot")
        }


if __name__ == "__main__":
    main(Llamascopium)
