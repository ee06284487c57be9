"""Ways of training that are no settings of Snapcoder: `run.py --ablation` tries them on planted truth.

Each is a `Trainer` with one thing changed, or a treatment of its rows or of what it trained. None of those run so far is
better than the default (docs/crosscoder.md).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder import auxiliary, gates, gradients, initialisation, sparse, training
from snapcoder.crosscoder.codes import entries_above
from snapcoder.crosscoder.device import choose_device
from snapcoder.crosscoder.extension import ridge_decoder
from snapcoder.crosscoder.gates import gate_norms
from snapcoder.crosscoder.gradients import Step
from snapcoder.crosscoder.model import Parameters, encode
from snapcoder.crosscoder.sharding import WHOLE
from snapcoder.crosscoder.training import Trained, Trainer
from snapcoder.study.crosscoder import CrosscoderSettings

_USERS = (auxiliary, gates, gradients, initialisation, sparse, training)  # modules that ask for the gate's norms


class SnapshotDropout(Trainer):
    """Hide each snapshot from the encoder with probability 1/4, batch by batch; the others are scaled up."""

    def _computed(self, x: Tensor, z: Tensor, norms: Tensor, cut: Any, lift: Any, *, sparse: bool) -> Step:
        step = super()._computed(x, z, norms, cut, lift, sparse=sparse)
        step.gradients.encoder.mul_(self._kept[:, None, None])
        return step

    def update(self) -> None:
        """Do one optimiser step with some snapshots hidden: z and the encoder's gradient see kept ones only."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        kept = (torch.rand(self.parameters.n_snapshots, generator=generator) > 0.25).float()
        self._kept = (kept * (len(kept) / kept.sum().clamp_min(1))).to(self.device)
        whole = training.encode
        training.encode = lambda parameters, x, **more: whole(parameters, x * self._kept[:, None], **more)  # type: ignore[assignment]
        try:
            super().update()
        finally:
            training.encode = whole  # type: ignore[assignment]


class Matryoshka(Trainer):
    """Add the losses of the first quarter and the first half of the features on their own (nested dictionaries)."""

    def _computed(self, x: Tensor, z: Tensor, norms: Tensor, cut: Any, lift: Any, *, sparse: bool) -> Step:
        step = super()._computed(x, z, norms, cut, lift, sparse=sparse)
        whole, n = self.parameters, self.parameters.n_features
        for size in (n // 4, n // 2):
            first = Parameters(
                whole.encoder[:, :, :size], whole.decoder[:, :size].contiguous(), whole.encoder_bias[:size],
                whole.decoder_bias, whole.log_threshold[:size],
            )  # fmt: skip
            self.parameters = first
            try:
                z_part, norms_part = z[:, :size].contiguous(), norms[:, :size].contiguous()
                part = super()._computed(x, z_part, norms_part, cut, lift, sparse=sparse).gradients
            finally:
                self.parameters = whole
            step.gradients.encoder[:, :, :size] += part.encoder
            step.gradients.decoder[:, :size] += part.decoder
            step.gradients.encoder_bias[:size] += part.encoder_bias
            step.gradients.decoder_bias.add_(part.decoder_bias)
        return step


class OwnDirections(Trainer):
    """Start each snapshot with decoder directions of its own instead of one direction for all."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        generator = torch.Generator().manual_seed(self.settings.seed + 17)
        with torch.no_grad():
            norm = self.parameters.decoder.norm(dim=-1, keepdim=True)
            fresh = torch.randn(self.parameters.decoder.shape, generator=generator)
            self.parameters.decoder.copy_(fresh / fresh.norm(dim=-1, keepdim=True) * norm)
            self.parameters.encoder.copy_(self.parameters.decoder.transpose(1, 2))


class RowDirections(Trainer):
    """Start with rows of data as directions: each feature the activations of one token at all snapshots."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        chosen = np.random.default_rng(self.settings.seed).choice(
            self.n_train, self.parameters.n_features, replace=True
        )
        rows = self.rows(np.sort(chosen)).permute(1, 0, 2)  # [snapshot, feature, model]
        with torch.no_grad():
            norm = self.parameters.decoder.norm(dim=-1, keepdim=True)
            self.parameters.decoder.copy_(rows / rows.norm(dim=-1, keepdim=True) * norm)
            self.parameters.encoder.copy_(self.parameters.decoder.transpose(1, 2))


class BalancedLoss(Trainer):
    """Weigh each snapshot's error by the inverse of its share of the unexplained variance, tracked over updates.

    The gradients of a snapshot's decoder are unchanged in direction under Adam; what changes is how much a snapshot has
    to say about the shared code.
    """

    def update(self) -> None:
        """Do one optimiser step on activations scaled so that every snapshot leaves as much unexplained."""
        if not hasattr(self, "_weight"):
            self._weight, self._plain = torch.ones(self.parameters.n_snapshots, device=self.device), self.rows
            self.rows = lambda index: self._plain(index) * self._weight[:, None]
        super().update()
        left = self._error.square().sum(dim=(0, 2)) / self._weight.square()
        wanted = (left.mean() / left).sqrt().clamp(0.5, 2.0)
        self._weight = 0.98 * self._weight + 0.02 * wanted

    def _computed(self, x: Tensor, z: Tensor, norms: Tensor, cut: Any, lift: Any, *, sparse: bool) -> Step:
        step = super()._computed(x, z, norms, cut, lift, sparse=sparse)
        self._error = step.error
        return step

    def score(self) -> None:
        """Score on the activations as they are."""
        weight, self._weight = self._weight, torch.ones_like(self._weight)
        super().score()
        self._weight = weight


def one_scale(x: Tensor) -> Tensor:
    """Undo the scaling of each snapshot: norms grow over snapshots as they do in training, up to tenfold."""
    growth = torch.logspace(0, 1, x.shape[1])
    return x * (growth / growth.square().mean().sqrt())[:, None]


def refitted(trained: Trained, x: Tensor, gate: str) -> Trained:
    """Fit every snapshot's decoder anew by ridge regression on the gated code, twice, as gates follow the norms."""
    parameters = trained.parameters
    for _ in range(2):
        norms = gate_norms(parameters.norms(), gate=gate)
        z = torch.cat([encode(parameters, part) for part in x.split(8192)])
        decoder, bias = parameters.decoder.clone(), parameters.decoder_bias.clone()
        for s in range(parameters.n_snapshots):
            code = entries_above(z, norms[min(s, len(norms) - 1)], trained.threshold)
            fit = ridge_decoder(code, x[:, s].numpy(), ridge=1e-3)
            decoder[s], bias[s] = torch.from_numpy(fit.decoder).float(), torch.from_numpy(fit.bias).float()
        parameters = Parameters(parameters.encoder, decoder, parameters.encoder_bias, bias, parameters.log_threshold)
    return Trained(parameters, trained.threshold, trained.history)


@dataclass(frozen=True)
class Variant:
    """What is different: the trainer, the rows, the trained dictionary, or the norm that a shared gate asks for."""

    trainer: type[Trainer] = Trainer
    rows: Callable[[Tensor], Tensor] | None = None
    after: Callable[[Trained, Tensor, str], Trained] | None = None
    selection: Callable[[Tensor], Tensor] | None = None


def train_variant(variant: Variant, x: Tensor, *, n_train: int, settings: CrosscoderSettings) -> Trained:
    """Train one variant on x [row, snapshot, model], where `settings.device` says; rows from n_train on are held out.

    What is returned is in main memory.
    """
    rows = variant.rows(x) if variant.rows else x
    held = rows.to(choose_device(settings.device))
    with _selection(variant.selection):
        trainer = variant.trainer(
            lambda index: held[torch.from_numpy(index).to(held.device)], n_train, len(rows) - n_train, settings
        )
        while trainer.step < settings.steps:
            trainer.update()
        trainer.score()
    trained = Trained(trainer.parameters, trainer.inference_threshold(), trainer.history).whole(WHOLE)
    return variant.after(trained, rows[:n_train], settings.gate) if variant.after else trained


@contextmanager
def _selection(selection: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """Let a shared gate multiply z with `selection` of the norms [snapshot, feature] instead of their root mean square."""
    if selection is None:
        yield
        return

    def norms_of(norms: Tensor, *, gate: str, shard: Any = None) -> Tensor:
        return selection(norms)[None] if gate == "shared" else norms

    for module in _USERS:
        module.gate_norms = norms_of  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in _USERS:
            module.gate_norms = gate_norms  # type: ignore[attr-defined]


VARIANTS: dict[str, tuple[dict[str, Any], Variant]] = {
    "loss balanced by what each snapshot leaves unexplained": ({}, Variant(trainer=BalancedLoss)),
    "one scale for all snapshots": ({}, Variant(rows=one_scale)),
    "selection by the mean of norms": ({"gate": "shared"}, Variant(selection=lambda norms: norms.mean(dim=0))),
    "selection by the largest norm": ({"gate": "shared"}, Variant(selection=lambda norms: norms.amax(dim=0))),
    "snapshots hidden from the encoder (1 in 4)": ({}, Variant(trainer=SnapshotDropout)),
    "nested dictionaries (Matryoshka)": ({}, Variant(trainer=Matryoshka)),
    "a direction of its own for each snapshot at the start": ({}, Variant(trainer=OwnDirections)),
    "rows of data as directions at the start": ({}, Variant(trainer=RowDirections)),
    "decoders fitted anew after training": ({}, Variant(after=refitted)),
}
"""Name → settings that go with it, and what is different."""
