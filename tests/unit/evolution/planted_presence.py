"""A planted world in which decoder norms mislead in known ways, and the tables that the pipeline makes of it.

Every feature has a code, a direction that may turn, and a snapshot from which the activations hold it. What the dictionary
says of it depends on its kind:

- start, turning: there from the first snapshot; the decoder says so; `turning` changes its direction by 90° on the way.
- late: the decoder follows the truth.
- shrunken: the decoder is zero for three more snapshots.
- covered: for three more snapshots the decoder of a copy of the feature is used instead (kind `copy`).
- leaked: the decoder has its full norm from the first snapshot on.
- silent: the decoder has just over half of its norm before, but below the threshold of the gate.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from planted_features import trajectories
from scipy.sparse import csr_array

from snapcoder.evolution.feature_onsets import feature_onsets
from snapcoder.evolution.presence import Block, Side, measure_presence
from snapcoder.evolution.rotation import rotation
from snapcoder.evolution.snapshot_decoders import alive_matrix, merge_decoders
from snapcoder.evolution.timing import timing
from snapcoder.storage.dictionaries import Dictionary
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.study.presence import PresenceSettings

STEPS = (0, 4, 16, 64, 128, 256, 512, 1024)
LAG = 3  # snapshots by which the norm comes too late
KINDS = ("start", "turning", "late", "shrunken", "covered", "leaked", "silent")
THRESHOLD = 1.0
SETTINGS, EVOLUTION = PresenceSettings(), EvolutionSettings(baseline_step=8)


@dataclass(frozen=True)
class World:
    """dictionary, code z [row, feature], raw activations [snapshot, row, model], documents [row]; kind, onset [feature]."""

    dictionary: Dictionary
    z: csr_array
    raw: np.ndarray
    doc: np.ndarray
    kind: np.ndarray
    onset: np.ndarray


def plant(*, seed=0, per_kind=7, n_rows=8000, d=56, rate=0.05, noise=0.3) -> World:
    rng = np.random.default_rng(seed)
    kind = np.repeat(KINDS, per_kind)
    n = len(kind)
    onset = np.where(np.isin(kind, ("start", "turning")), 0, rng.integers(2, 5, n))
    doc = np.repeat(np.arange(n_rows // 100), 100)
    doc_rate = np.clip(rate * rng.lognormal(0, 0.5, (doc[-1] + 1, n)), 0, 0.5)  # features come and go by document
    code = rng.uniform(1.3, 1.9, (n_rows, n)) * (rng.random((n_rows, n)) < doc_rate[doc])
    first = _directions(rng, n, d)
    turned = np.where((kind == "turning")[:, None], _directions(rng, n, d), first)
    truth, decoder = [], []
    for s in range(len(STEPS)):
        direction = first if s < 4 else turned
        there = s >= onset
        truth.append(direction * there[:, None])
        early, late = np.isin(kind, ("shrunken", "covered")), s >= onset + LAG
        said = np.select([early, kind == "leaked"], [late, True], there).astype(float)
        said[(kind == "silent") & ~there] = 0.52  # 0.52 · 1.9 < 1
        decoder.append(direction * said[:, None])
    copies = np.flatnonzero(kind == "covered")
    copied = np.stack([truth[s][copies] * (s < onset[copies] + LAG)[:, None] for s in range(len(STEPS))])
    x = np.einsum("rf,sfd->srd", code, np.stack(truth)) + noise * rng.standard_normal((len(STEPS), n_rows, d))
    decoders = np.concatenate([np.stack(decoder), copied], axis=1).astype(np.float32)
    n_all = n + len(copies)
    dictionary = Dictionary(
        encoder=np.ascontiguousarray(decoders.transpose(0, 2, 1)),
        decoder=decoders,
        encoder_bias=np.zeros(n_all, "f4"),
        decoder_bias=np.zeros((len(STEPS), d), "f4"),
        threshold=np.full(n_all, THRESHOLD, "f4"),
        scale=np.ones(len(STEPS), "f4"),
        center=np.zeros((len(STEPS), d), "f4"),
        steps=STEPS,
        gate="per_snapshot",
        arm="relu_l1",
        layer=1,
    )
    z = csr_array(np.concatenate([code, code[:, copies]], axis=1).astype(np.float32))
    return World(
        dictionary, z, x.astype(np.float32), doc, np.r_[kind, np.full(len(copies), "copy")], np.r_[onset, onset[copies]]
    )


def _directions(rng, n, d):
    direction = rng.standard_normal((n, d))
    return direction / np.linalg.norm(direction, axis=1, keepdims=True)


def renumbered(world: World, order: np.ndarray) -> World:
    """Return the same world with its features in another order."""
    d = world.dictionary
    parts = {name: getattr(d, name) for name in ("decoder_bias", "scale", "center", "steps", "gate", "arm", "layer")}
    parts |= {"encoder": d.encoder[:, :, order], "decoder": d.decoder[:, order]}
    parts |= {name: getattr(d, name)[order] for name in ("encoder_bias", "threshold")}
    z = csr_array(world.z.toarray()[:, order])
    return World(Dictionary(**parts), z, world.raw, world.doc, world.kind[order], world.onset[order])


def side_of(dictionary: Dictionary, s: int) -> Side:
    peak = dictionary.decoder_norms().argmax(axis=0)
    return Side(
        dictionary.decoder[s], dictionary.decoder_bias[s], dictionary.encoder[s], dictionary.threshold,
        dictionary.decoder[peak, np.arange(dictionary.n_features)], dictionary.gate == "shared",
    )  # fmt: skip


def measure(world: World, s: int, settings=SETTINGS, size=1000):
    def codes():
        return (world.z[i : i + size] for i in range(0, world.z.shape[0], size))

    def blocks():
        return (Block(z, None, x) for z, x in zip(codes(), _cut(world.raw[s], size), strict=True))

    return measure_presence(
        side_of(world.dictionary, s), codes=codes, blocks=blocks, doc=world.doc, settings=settings, stream=STEPS[s]
    )


def _cut(x, size):
    return (x[i : i + size] for i in range(0, len(x), size))


def onset_tables(world: World, *, settings=SETTINGS, evolution=EVOLUTION):
    """Return feature_onsets, feature_presence and feature_timing, made by the code that the steps run."""
    decoders = merge_decoders(world.dictionary)
    trajectory = trajectories(
        decoders, world.z, blocks=lambda step: _cut(world.raw[STEPS.index(step)], 1000), added_codes={},
        rate_floor=evolution.rate_floor,
    )  # fmt: skip
    turns, _ = rotation(decoders, alive=alive_matrix(trajectory, STEPS), cka=np.eye(len(STEPS)))
    times = timing(trajectory, turns, threshold=world.dictionary.threshold, settings=evolution, sigmoid_r2=0.8)
    parts = [measure(world, s, settings).assign(step=step, added=False, layer=1) for s, step in enumerate(STEPS)]
    onsets, rows = feature_onsets(
        pd.concat(parts), trajectory, times, alpha=evolution.alpha, consecutive=evolution.consecutive,
        fdr=settings.fdr, auroc=settings.probe_auroc,
    )  # fmt: skip
    return onsets, rows, times
