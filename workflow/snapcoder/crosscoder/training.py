"""The training loop: batches in one seeded global order, Adam, a tracked threshold, resumable at any checkpoint."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder.auxiliary import auxiliary_loss
from snapcoder.crosscoder.checkpoints import Checkpoint, CheckpointFile
from snapcoder.crosscoder.gates import batch_threshold, gate_norms
from snapcoder.crosscoder.gradients import Activation, Step, loss_and_gradients, reconstruction_error
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.metrics import evaluate
from snapcoder.crosscoder.model import Parameters, encode, initialise, search_initial_norm, with_norm
from snapcoder.crosscoder.schedules import batch_rows, learning_rate_factor, sparsity_factor
from snapcoder.study.crosscoder import CrosscoderSettings

logger = logging.getLogger(__name__)

SAMPLE_ROWS = 256  # rows of a batch that BatchTopK's threshold is found on
AUXILIARY_ROWS = 256  # rows of a batch that dead features learn from
EVALUATION_ROWS = 4096  # held-out rows scored while training runs
THRESHOLD_DECAY = 0.95  # of the moving average that becomes the inference threshold
PROGRESS_SECONDS = 5.0

Rows = Callable[[np.ndarray], Tensor]
"""Returns normalised activations x [token, snapshot, model] of row numbers, on the training device."""


@dataclass(frozen=True)
class Trained:
    """A trained crosscoder: parameters, inference threshold [feature], and the history of held-out scores.

    history rows: train_step, snapshot, ev, l0, loss, threshold, dead.
    """

    parameters: Parameters
    threshold: Tensor
    history: list[dict[str, float]]


def train(
    rows: Rows,
    *,
    n_train: int,
    n_heldout: int,
    settings: CrosscoderSettings,
    checkpoint: CheckpointFile | None = None,
    stop_after: int | None = None,
) -> Trained:
    """Train a crosscoder on rows 0 … n_train − 1 and score it on the n_heldout rows that follow.

    With a checkpoint file, training continues from it and leaves it behind; on a CPU the result is bit for bit that of
    an unbroken run. stop_after ends the run early, as a kill would (for tests).
    """
    if n_train < 1 or n_heldout < 1:
        raise ValueError(
            f"training needs train and held-out rows, got {n_train} and {n_heldout}; see activations.tokens"
        )
    trainer = _Trainer(rows, n_train, n_heldout, settings)
    saved = checkpoint.load() if checkpoint else None
    if saved is not None:
        trainer.restore(saved)
        logger.info("crosscoder: continues after step %d", trainer.step)
    progress = _Progress(settings.steps, trainer.step)
    while trainer.step < min(settings.steps, stop_after or settings.steps):
        trainer.update()
        if trainer.step % settings.eval_every == 0 or trainer.step == settings.steps:
            trainer.score()
        if checkpoint and trainer.step % settings.checkpoint_every == 0 and trainer.step < settings.steps:
            checkpoint.save(trainer.state())
        progress.report(trainer.step, trainer.loss)
    return Trained(trainer.parameters, trainer.inference_threshold(), trainer.history)


class _Trainer:
    """The mutable state of one run."""

    def __init__(self, rows: Rows, n_train: int, n_heldout: int, settings: CrosscoderSettings) -> None:
        self.rows, self.n_train, self.n_heldout, self.settings = rows, n_train, n_heldout, settings
        self.activation = Activation(
            gate=settings.gate,
            learns_threshold=settings.arm == "jumprelu",
            window=settings.threshold_window,
            include_negative=settings.ste_include_negative,
        )
        first = rows(batch_rows(0, batch_size=settings.batch_size, n_rows=n_train, seed=settings.seed))
        self.parameters = initial_parameters(first, settings).map(lambda tensor: tensor.to(first.device))
        trained = self.parameters.named()
        if settings.arm != "jumprelu":
            trained.pop("log_threshold")
        self.optimizer = torch.optim.Adam(
            [{"params": [tensor], "name": name} for name, tensor in trained.items()],
            lr=settings.lr,
            betas=(0.9, settings.beta2),
            fused=first.dtype == torch.float32,
        )
        n_gates = len(gate_norms(self.parameters.norms(), gate=settings.gate))
        self.idle = torch.zeros(n_gates, self.parameters.n_features, dtype=torch.int32, device=first.device)
        self.fired = torch.zeros_like(self.idle, dtype=torch.bool)  # since the last row of the history
        self.step, self.loss = 0, float("nan")
        self.threshold, self.tracked = 0.0, 0.0
        self.history: list[dict[str, float]] = []

    def update(self) -> None:
        """Do one optimiser step."""
        settings = self.settings
        indices = batch_rows(self.step, batch_size=settings.batch_size, n_rows=self.n_train, seed=settings.seed)
        x = self.rows(indices)
        z = encode(self.parameters, x, precision=settings.precision)
        self._track_threshold(z)
        cut = self.threshold if settings.arm == "batchtopk" else self.inference_threshold()
        step = self._step(x, z, cut)
        self._apply(step.gradients)
        self.idle = torch.where(step.fired, 0, self.idle + 1)
        self.fired |= step.fired
        self.loss = step.reconstruction + step.sparsity
        self.step += 1

    def _track_threshold(self, z: Tensor) -> None:
        settings = self.settings
        if settings.arm != "batchtopk":
            return
        norms = gate_norms(self.parameters.norms(), gate=settings.gate)
        # Rows of a batch are in random order, so the first ones are a random sample.
        self.threshold = batch_threshold(z[:SAMPLE_ROWS], norms, k=settings.k, floor=0.5 * self.threshold)
        decay = min(THRESHOLD_DECAY, self.step / (self.step + 1))  # a plain mean until the average has filled
        self.tracked = decay * self.tracked + (1 - decay) * self.threshold

    def _step(self, x: Tensor, z: Tensor, cut: Tensor | float) -> Step:
        settings, extra = self.settings, None
        if settings.arm == "batchtopk" and settings.auxiliary_weight > 0:
            dead = self.idle >= settings.dead_after
            if bool(dead.any()):
                extra = self._auxiliary(x[:AUXILIARY_ROWS], z[:AUXILIARY_ROWS], cut, dead)
        return loss_and_gradients(
            self.parameters,
            x,
            z,
            cut,
            activation=self.activation,
            penalty=penalty_of(settings, self.step),
            precision=settings.precision,
            extra=extra,
        )

    def _auxiliary(self, x: Tensor, z: Tensor, cut: Tensor | float, dead: Tensor) -> tuple[Tensor, Tensor] | None:
        settings = self.settings
        gating = gate_norms(self.parameters.norms(), gate=settings.gate)
        residual = torch.empty_like(x)
        for s in range(x.shape[1]):
            f = torch.where(z * gating[s % len(gating)] > cut, z, 0.0)
            residual[:, s] = x[:, s] - f @ self.parameters.decoder[s] - self.parameters.decoder_bias[s]
        _, gradients = auxiliary_loss(
            self.parameters,
            z,
            residual,
            dead,
            cut,
            gate=settings.gate,
            k=max(1, x.shape[2] // 2),
            weight=settings.auxiliary_weight,
        )
        return gradients

    def _apply(self, gradients: Parameters) -> None:
        settings = self.settings
        factor = learning_rate_factor(
            self.step,
            steps=settings.steps,
            warmup=settings.lr_warmup_steps,
            decay_share=settings.lr_decay_share,
            final=settings.lr_final,
        )
        named = gradients.named()
        if settings.clip > 0:  # the threshold is left out, as in the paper's code
            clipped = [gradient for name, gradient in named.items() if name != "log_threshold"]
            norm = torch.stack([gradient.norm() for gradient in clipped]).norm()
            for gradient in clipped:
                gradient.mul_((settings.clip / norm.clamp_min(1e-30)).clamp(max=1.0))
        for group in self.optimizer.param_groups:
            (tensor,) = group["params"]
            tensor.grad = named[group["name"]].contiguous()
            share = settings.threshold_lr_factor if group["name"] == "log_threshold" else 1.0
            group["lr"] = settings.lr * factor * share
        self.optimizer.step()
        for group in self.optimizer.param_groups:
            group["params"][0].grad = None

    def inference_threshold(self) -> Tensor:
        """Return the threshold [feature], in units of z · norm, that the dictionary is used with."""
        if self.settings.arm == "jumprelu":
            return self.parameters.log_threshold.exp()
        value = self.tracked if self.settings.arm == "batchtopk" else 0.0
        return torch.full_like(self.parameters.encoder_bias, value)

    def score(self) -> None:
        """Append held-out scores of every snapshot to the history."""
        spread = np.linspace(0, self.n_heldout - 1, min(self.n_heldout, EVALUATION_ROWS)).astype(np.int64)
        scores = evaluate(
            self.parameters,
            self.inference_threshold(),
            lambda: self._batches(self.n_train + spread),
            gate=self.settings.gate,
            scale=np.ones(self.parameters.n_snapshots),
            precision=self.settings.precision,
        )
        shared = {
            "train_step": self.step,
            "loss": self.loss,
            "threshold": float(self.inference_threshold().double().mean()),
        }
        silent = (~self.fired).double().mean(dim=1).tolist()
        for score in scores[:-1]:
            own = {"snapshot": score.snapshot, "ev": score.ev, "l0": score.l0}
            self.history.append({**shared, **own, "dead": silent[score.snapshot % len(silent)]})
        self.fired.zero_()

    def _batches(self, indices: np.ndarray) -> Iterable[Tensor]:
        size = self.settings.batch_size
        return (self.rows(indices[start : start + size]) for start in range(0, len(indices), size))

    def state(self) -> Checkpoint:
        """Return everything that the next step depends on."""
        tensors = {f"parameters.{name}": tensor for name, tensor in self.parameters.named().items()}
        for group in self.optimizer.param_groups:
            for name, tensor in self.optimizer.state[group["params"][0]].items():
                tensors[f"adam.{group['name']}.{name}"] = tensor
        tensors |= {"idle": self.idle, "fired": self.fired.to(torch.uint8)}
        facts = {
            "step": self.step,
            "threshold": self.threshold,
            "tracked": self.tracked,
            "loss": self.loss,
            "history": self.history,
        }
        return Checkpoint(tensors, facts)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over a saved state."""
        for name, tensor in self.parameters.named().items():
            tensor.copy_(checkpoint.tensors[f"parameters.{name}"])
        for group in self.optimizer.param_groups:
            prefix, (tensor,) = f"adam.{group['name']}.", group["params"]
            moments = {key: value for key, value in checkpoint.tensors.items() if key.startswith(prefix)}
            self.optimizer.state[tensor] = {
                key.removeprefix(prefix): value.to(tensor.device) for key, value in moments.items()
            }
        self.idle = checkpoint.tensors["idle"].to(self.idle.device)
        self.fired = checkpoint.tensors["fired"].to(self.fired.device).bool()
        facts = checkpoint.facts
        self.step, self.threshold, self.tracked = facts["step"], facts["threshold"], facts["tracked"]
        self.loss, self.history = facts["loss"], facts["history"]


def initial_parameters(x: Tensor, settings: CrosscoderSettings) -> Parameters:
    """Return the initial parameters for data like x [token, snapshot, model], the norm found on its first rows."""
    generator = torch.Generator().manual_seed(settings.seed)
    parameters = initialise(
        x.shape[1],
        x.shape[2],
        settings.n_features,
        norm=settings.init_norm or 1.0,
        threshold=settings.threshold_init,
        generator=generator,
    ).map(lambda tensor: tensor.to(x))
    if settings.init_norm is not None:
        return parameters
    sample = x[: max(1, SAMPLE_ROWS // 2)]

    def error(norm: float) -> float:
        candidate = with_norm(parameters, norm)
        cut: float | Tensor = candidate.log_threshold.exp() if settings.arm == "jumprelu" else 0.0
        if settings.arm == "batchtopk":
            gating = gate_norms(candidate.norms(), gate=settings.gate)
            cut = batch_threshold(encode(candidate, sample[:64]), gating, k=settings.k)
        return reconstruction_error(candidate, sample, cut, gate=settings.gate)

    return with_norm(parameters, search_initial_norm(error))


def penalty_of(settings: CrosscoderSettings, step: int) -> Penalty:
    """Return the sparsity penalty of update `step`."""
    kind = {"batchtopk": "none", "relu_l1": "l1", "jumprelu": settings.sparsity}[settings.arm]
    rise = sparsity_factor(step, steps=settings.steps, warmup_share=settings.sparsity_warmup_share)
    return Penalty(kind, settings.sparsity_weight * rise, settings.tanh_stretch, settings.frequency_scale)


class _Progress:
    """One log line every few seconds, with the time that is left."""

    def __init__(self, steps: int, first: int) -> None:
        self.steps, self.first = steps, first
        self.started = self.reported = time.monotonic()

    def report(self, step: int, loss: float) -> None:
        now = time.monotonic()
        if now - self.reported < PROGRESS_SECONDS and step < self.steps:
            return
        self.reported = now
        rest = (now - self.started) / max(step - self.first, 1) * (self.steps - step)
        logger.info("crosscoder: step %d of %d, loss %.3f, %.0f s left", step, self.steps, loss, rest)
