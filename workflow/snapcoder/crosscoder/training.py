"""The training loop: batches in one seeded order, Adam, a tracked threshold; resumable, and stoppable, at any step."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder.allocation import keep_freed_memory
from snapcoder.crosscoder.auxiliary import Opened
from snapcoder.crosscoder.checkpoints import Checkpoint, CheckpointStore
from snapcoder.crosscoder.convergence import late_growth, onset_counts, onsets
from snapcoder.crosscoder.gates import batch_threshold, device_batch_threshold, gate_norms, row_thresholds
from snapcoder.crosscoder.gradients import Activation, Step, loss_and_gradients
from snapcoder.crosscoder.initialisation import initial_parameters
from snapcoder.crosscoder.interruption import Interrupted, stop_on_sigterm
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.metrics import evaluate
from snapcoder.crosscoder.model import Parameters, encode
from snapcoder.crosscoder.optimizer import clip, make_optimizer
from snapcoder.crosscoder.paths import is_sparse
from snapcoder.crosscoder.progress import Progress
from snapcoder.crosscoder.schedules import active_features, batch_rows, learning_rate_factor, sparsity_factor
from snapcoder.crosscoder.sharding import WHOLE, Shard
from snapcoder.crosscoder.sparse import sparse_loss_and_gradients, use_threads
from snapcoder.crosscoder.sparse_auxiliary import add_auxiliary
from snapcoder.crosscoder.sparse_auxiliary_gpu import add_auxiliary_on_gpu
from snapcoder.crosscoder.sparse_gpu import Capacity, gpu_loss_and_gradients, kernels_for
from snapcoder.study.crosscoder import CrosscoderSettings

logger = logging.getLogger(__name__)

SAMPLE_ROWS = 256  # rows of a batch that BatchTopK's threshold is found on, and that dead features learn from
EVALUATION_ROWS = 4096  # held-out rows scored while training runs
THRESHOLD_DECAY = 0.95  # of the moving average that becomes the inference threshold

Rows = Callable[[np.ndarray], Tensor]
"""Returns normalised activations x [token, snapshot, model] of row numbers, on the training device."""

Order = Callable[[int], np.ndarray]
"""Returns the row numbers of an update."""


@dataclass(frozen=True)
class Trained:
    """A trained crosscoder: parameters, inference threshold [feature], and the history of held-out scores.

    history rows: train_step, snapshot, ev, l0, loss, threshold, dead, onsets, moved.
    """

    parameters: Parameters
    threshold: Tensor
    history: list[dict[str, float]]

    def whole(self, shard: Shard) -> "Trained":
        """Return all of it, in main memory, from the parts of all processes; all take part."""
        parameters = {name: shard.whole(name, tensor) for name, tensor in self.parameters.named().items()}
        return Trained(Parameters(**parameters), shard.whole("log_threshold", self.threshold), self.history)


def train(
    rows: Rows,
    *,
    n_train: int,
    n_heldout: int,
    settings: CrosscoderSettings,
    checkpoint: CheckpointStore | None = None,
    stop_after: int | None = None,
    order: Order | None = None,
    shard: Shard = WHOLE,
) -> Trained:
    """Train a crosscoder on rows 0 … n_train − 1 and score it on the n_heldout rows that follow.

    order gives the rows of each update, by default one global permutation of the train rows per epoch. With a
    checkpoint file, training continues from it and leaves it behind; on a CPU the result is bit for bit that of an
    unbroken run. SIGTERM saves and ends the process (Interrupted). stop_after ends the run early, as a kill would.
    When several processes train one crosscoder, rows returns and the result holds what is this one's (shard).
    """
    if n_train < 1 or n_heldout < 1:
        raise ValueError(
            f"training needs train and held-out rows, got {n_train} and {n_heldout}; see activations.tokens"
        )
    trainer = Trainer(rows, n_train, n_heldout, settings, order, shard)
    saved = checkpoint.load() if checkpoint else None
    if saved is not None:
        trainer.restore(saved)
        logger.info("crosscoder: continues after step %d", trainer.step)
    progress = Progress(settings.steps, trainer.step)
    with stop_on_sigterm() as stop:
        while trainer.step < min(settings.steps, stop_after or settings.steps):
            trainer.update()
            stop.asked = shard.agree(stop.asked)
            if trainer.step % settings.eval_every == 0 or trainer.step == settings.steps:
                trainer.score()
            if checkpoint and (stop.asked or trainer.step % settings.checkpoint_every == 0):
                checkpoint.save(trainer.state())
            if stop.asked:
                logger.warning("crosscoder: asked to stop after step %d; run again to continue", trainer.step)
                raise Interrupted(trainer.step)
            progress.report(trainer.step, lambda: trainer.loss)
    late, growth = late_growth(trainer.history)
    logger.info("crosscoder: %d features with a late onset, %+.0f%% over the last half of training", late, 100 * growth)
    return Trained(trainer.parameters, trainer.inference_threshold(), trainer.history)


@dataclass
class Tracked:
    """What a run follows beside its weights; all that survives in a checkpoint.

    threshold: BatchTopK's cut of the last update; mean_threshold: its moving average, the inference threshold (on a GPU
    both are 0-d tensors, which nobody waits for); idle [gate, feature]: updates since a gate last opened; fired: opened
    since the last score; onsets at the last score.
    """

    threshold: float | Tensor
    mean_threshold: float | Tensor
    idle: Tensor
    fired: Tensor
    onsets: Tensor
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One run: its weights, its optimiser and what it tracks. `update` is one optimiser step."""

    def __init__(
        self,
        rows: Rows,
        n_train: int,
        n_heldout: int,
        settings: CrosscoderSettings,
        order: Order | None = None,
        shard: Shard = WHOLE,
    ) -> None:
        self.rows, self.n_train, self.n_heldout, self.settings, self.shard = rows, n_train, n_heldout, settings, shard
        self.order = order or (
            lambda step: batch_rows(step, batch_size=settings.batch_size, n_rows=n_train, seed=settings.seed)
        )
        self.activation = Activation(
            gate=settings.gate,
            learns_threshold=settings.arm == "jumprelu",
            window=settings.threshold_window,
            include_negative=settings.ste_include_negative,
        )
        use_threads(torch.get_num_threads())
        keep_freed_memory()
        first = rows(self.order(0))
        self.device, self.on_gpu = first.device, first.is_cuda  # on a GPU, no update waits for it
        self.parameters = initial_parameters(first, settings, shard)
        weights = weights_of(self.parameters)
        if settings.arm != "jumprelu":
            weights.pop("log_threshold")
        self.optimizer = make_optimizer(
            weights, lr=settings.lr, beta2=settings.beta2, state=settings.optimizer_state, shard=shard
        )
        gates = gate_norms(self.parameters.norms(), gate=settings.gate, shard=shard)
        idle = torch.zeros(gates.shape, dtype=torch.int32, device=self.device)
        none = torch.full((self.parameters.n_features,), -1, dtype=torch.int32, device=self.device)
        self.tracked = Tracked(0.0, 0.0, idle, torch.zeros_like(idle, dtype=torch.bool), none)
        self.capacity = Capacity.for_k(
            settings.k * settings.k_start, gate=settings.gate, n_features=self.parameters.n_features
        )
        self._losses: tuple[float | Tensor, float | Tensor] | None = None

    @property
    def step(self) -> int:
        """Updates done."""
        return self.tracked.step

    @property
    def history(self) -> list[dict[str, float]]:
        """Held-out scores so far."""
        return self.tracked.history

    @property
    def loss(self) -> float:
        """Loss of the last update; NaN before the first. Reading it waits for the device."""
        return float(sum(self._losses)) if self._losses else float("nan")

    def update(self) -> None:
        """Do one optimiser step."""
        settings, tracked = self.settings, self.tracked
        k = active_features(
            self.step, k=settings.k, start=settings.k_start, steps=settings.steps, share=settings.k_anneal_share
        )
        x = self.rows(self.order(self.step))
        z = encode(self.parameters, x, precision=settings.precision, shard=self.shard)
        norms = self.parameters.norms()
        cut, lift = self._thresholds(z, norms, k)
        step = self._computed(x, z, norms, cut, lift, sparse=self._is_sparse(k))
        if settings.arm == "batchtopk" and settings.auxiliary_weight > 0:
            self._add_auxiliary(step, x[:SAMPLE_ROWS], z[:SAMPLE_ROWS], norms, cut)
        self._apply(step.gradients)
        tracked.idle = torch.where(step.fired, 0, tracked.idle + 1)
        tracked.fired |= step.fired
        self._losses = step.reconstruction, step.sparsity  # not the step: its gradients must not outlive it
        tracked.step += 1

    def _is_sparse(self, k: float) -> bool:
        return is_sparse(self.settings, k=k, d_model=self.parameters.decoder.shape[2], device=self.device.type)

    def _computed(
        self, x: Tensor, z: Tensor, norms: Tensor, cut: Tensor | float, lift: Tensor | None, *, sparse: bool
    ) -> Step:
        """Return the step's loss and gradients, computed the way that `paths` chose; norms are the decoder's."""
        penalty = penalty_of(self.settings, self.step)
        shared: dict[str, Any] = {"activation": self.activation, "penalty": penalty, "lift": lift}
        if sparse and not self.on_gpu:
            return sparse_loss_and_gradients(self.parameters, x, z, cut, **shared, shard=self.shard, norms=norms)
        if sparse:
            return gpu_loss_and_gradients(
                self.parameters, x, z, cut, **shared, capacity=self.capacity, norms=norms, shard=self.shard
            )
        return loss_and_gradients(
            self.parameters, x, z, cut, **shared, precision=self.settings.precision, shard=self.shard
        )

    def _thresholds(self, z: Tensor, norms: Tensor, k: float) -> tuple[Tensor | float, Tensor | None]:
        """Return the cut of this update, and for TopK what is added to it for each gate and token."""
        settings, tracked = self.settings, self.tracked
        if settings.arm in ("jumprelu", "relu_l1"):
            return self.inference_threshold(), None
        gating = gate_norms(norms, gate=settings.gate, shard=self.shard)
        cut: Tensor | float = 0.0
        lift: Tensor | None = None
        if settings.arm == "topk":
            lift = row_thresholds(z, gating, k=round(k), shard=self.shard)
            mean = self.shard.mean(lift[:, :SAMPLE_ROWS])
            tracked.threshold = mean if self.on_gpu else float(mean)
        else:
            cut = self._batch_threshold(z[:SAMPLE_ROWS], gating, k)  # rows are in random order: a random sample
            tracked.threshold = cut
        decay = min(THRESHOLD_DECAY, self.step / (self.step + 1))  # a plain mean until the average has filled
        tracked.mean_threshold = decay * tracked.mean_threshold + (1 - decay) * tracked.threshold
        return cut, lift

    def _batch_threshold(self, z: Tensor, gating: Tensor, k: float) -> float | Tensor:
        gate, shard = self.settings.gate, self.shard
        if self.on_gpu:
            return device_batch_threshold(z, gating, k=k, places=self.capacity.places, gate=gate, shard=shard)
        floor = 0.8 * float(self.tracked.threshold)  # it moves slowly, and the search falls back to 0
        return batch_threshold(z, gating, k=k, floor=floor, gate=gate, shard=shard)

    def _add_auxiliary(self, step: Step, x: Tensor, z: Tensor, norms: Tensor, cut: Tensor | float) -> None:
        settings, shard, k = self.settings, self.shard, max(1, x.shape[2] // 2)
        dead = self.tracked.idle >= settings.dead_after
        if not self.on_gpu and not shard.agree(bool(dead.any())):  # a GPU is not asked: it would have to be waited for
            return
        residual = step.error[: len(x)] * (-0.5 * len(step.error) * shard.total_snapshots(x.shape[1]))
        opened = Opened.to_the_dead(z, norms, dead, cut, gate=settings.gate, k=k, shard=shard)
        parts = step.gradients, self.parameters, opened, x, residual
        shared: dict[str, Any] = {"weight": settings.auxiliary_weight, "shard": shard}
        if self.on_gpu:
            places, kernels = self.capacity.places + k, kernels_for(self.device)
            add_auxiliary_on_gpu(*parts, **shared, places=places, kernels=kernels)
        else:
            add_auxiliary(*parts, **shared)

    def _apply(self, gradients: Parameters) -> None:
        settings = self.settings
        factor = learning_rate_factor(
            self.step,
            steps=settings.steps,
            warmup=settings.lr_warmup_steps,
            decay_share=settings.lr_decay_share,
            final=settings.lr_final,
        )
        named = weights_of(gradients)
        # The threshold is left out of the clipping, as in the paper's code.
        clipped = {name: gradient for name, gradient in named.items() if name != "log_threshold"}
        scale = clip(self.optimizer, settings.clip, self.shard.joint_norm(clipped))
        named["log_threshold"].mul_(scale)  # the optimiser divides by it
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
        value = 0.0 if self.settings.arm == "relu_l1" else self.tracked.mean_threshold
        return torch.zeros_like(self.parameters.encoder_bias) + value

    def score(self) -> None:
        """Append held-out scores of every snapshot to the history."""
        if overflow := self.capacity.overflow():
            logger.warning("crosscoder: %s", overflow)
        tracked, shard = self.tracked, self.shard
        n_snapshots = shard.total_snapshots(self.parameters.n_snapshots)
        spread = np.linspace(0, self.n_heldout - 1, min(self.n_heldout, EVALUATION_ROWS)).astype(np.int64)
        scores = evaluate(
            self.parameters,
            self.inference_threshold(),
            lambda: self._batches(self.n_train + spread),
            gate=self.settings.gate,
            scale=np.ones(n_snapshots),
            precision=self.settings.precision,
            shard=shard,
        )
        alive = shard.largest_over_snapshots((tracked.idle < self.settings.dead_after).any(dim=0).to(torch.uint8)) > 0
        now = onsets(shard.join_snapshots(self.parameters.norms(), 0), alive).int()
        before, after = shard.join_features(tracked.onsets, 0), shard.join_features(now, 0)
        counts, moved = onset_counts(after, before, n_snapshots)
        fired = shard.join_gates(shard.join_features(tracked.fired.to(torch.uint8), 1), gate=self.settings.gate)
        silent = (fired == 0).double().mean(dim=1).tolist()
        threshold, loss = float(shard.mean(self.inference_threshold().double())), self.loss
        for score in scores[:-1]:
            s = score.snapshot
            tracked.history.append(
                {
                    "train_step": self.step,
                    "snapshot": s,
                    "ev": score.ev,
                    "l0": score.l0,
                    "loss": loss,
                    "threshold": threshold,
                    "dead": silent[s % len(silent)],
                    "onsets": counts[s],
                    "moved": moved[s],
                }
            )
        tracked.onsets = now
        tracked.fired.zero_()

    def _batches(self, indices: np.ndarray) -> Iterable[Tensor]:
        size = self.settings.batch_size
        return (self.rows(indices[start : start + size]) for start in range(0, len(indices), size))

    def state(self) -> Checkpoint:
        """Return everything that the next step depends on."""
        tracked = self.tracked
        tensors = {f"parameters.{name}": tensor for name, tensor in weights_of(self.parameters).items()}
        for group in self.optimizer.param_groups:
            for name, tensor in self.optimizer.state[group["params"][0]].items():
                tensors[f"adam.{group['name']}.{name}"] = tensor
        tensors |= {"idle": tracked.idle, "fired": tracked.fired.to(torch.uint8), "onsets": tracked.onsets}
        facts = {
            "step": tracked.step,
            "threshold": float(tracked.threshold),
            "mean_threshold": float(tracked.mean_threshold),
            "history": tracked.history,
        }
        return Checkpoint(tensors, facts)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over a saved state."""
        tensors, facts = checkpoint.tensors, checkpoint.facts
        for name, tensor in weights_of(self.parameters).items():
            tensor.copy_(tensors[f"parameters.{name}"])
        for group in self.optimizer.param_groups:
            prefix, (tensor,) = f"adam.{group['name']}.", group["params"]
            moments = {key: value for key, value in tensors.items() if key.startswith(prefix)}
            self.optimizer.state[tensor] = {
                key.removeprefix(prefix): value.to(tensor.device) for key, value in moments.items()
            }
        self.tracked = Tracked(
            **facts,
            idle=tensors["idle"].to(self.device),
            fired=tensors["fired"].to(self.device).bool(),
            onsets=tensors["onsets"].to(self.device),
        )


def weights_of(parameters: Parameters) -> dict[str, Tensor]:
    """Return the tensors by name, encoder and decoder [feature, snapshot, model] as they lie in memory."""
    named = parameters.named()
    return named | {"encoder": named["encoder"].permute(2, 0, 1), "decoder": named["decoder"].permute(1, 0, 2)}


def penalty_of(settings: CrosscoderSettings, step: int) -> Penalty:
    """Return the sparsity penalty of update `step`."""
    kind = {"relu_l1": "l1", "jumprelu": settings.sparsity}.get(settings.arm, "none")
    rise = sparsity_factor(step, steps=settings.steps, warmup_share=settings.sparsity_warmup_share)
    return Penalty(kind, settings.sparsity_weight * rise, settings.tanh_stretch, settings.frequency_scale)
