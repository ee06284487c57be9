"""Settings of a sweep: dictionary size × sparsity × arm × seed, and the points that they span."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from snapcoder.study.crosscoder import CrosscoderSettings
from snapcoder.study.field import setting

SPARSITY_KEY = {"batchtopk": "k", "topk": "k", "jumprelu": "sparsity_weight", "relu_l1": "sparsity_weight"}
"""The key of `crosscoder` that sets how sparse an arm is: what a sweep varies."""

ARMS = tuple(SPARSITY_KEY)


@dataclass(frozen=True)
class SweepArms:
    """The arms of a sweep and their sparsity values; an arm without a value is left out."""

    batchtopk: tuple[int, ...] = setting(
        (), "Values of crosscoder.k for batchtopk.", unit="features/token", minimum=1, unique=True
    )
    topk: tuple[int, ...] = setting(
        (), "Values of crosscoder.k for topk.", unit="features/token", minimum=1, unique=True
    )
    jumprelu: tuple[float, ...] = setting(
        (), "Values of crosscoder.sparsity_weight for jumprelu.", minimum=0.0, unique=True
    )
    relu_l1: tuple[float, ...] = setting(
        (), "Values of crosscoder.sparsity_weight for relu_l1.", minimum=0.0, unique=True
    )


@dataclass(frozen=True)
class SweepSettings:
    """Dictionaries of other sizes, sparsities, arms and seeds on the same caches (also of a study that streams: on its cached sample); off while n_features is empty."""

    n_features: tuple[int, ...] = setting(
        (), "Dictionary sizes; empty: no sweep.", unit="features", minimum=8, maximum=10_000_000, unique=True
    )
    arms: SweepArms = setting(SweepArms, "Sparsity values of each arm.")
    seeds: tuple[int, ...] = setting((0,), "Seeds of initialisation and row order.", minimum=0, unique=True)
    steps: int | None = setting(
        None, "Length of training of every point; empty: crosscoder.steps.", unit="optimiser steps", minimum=1
    )
    baselines: tuple[int, ...] = setting(
        (),
        "Base snapshots for which every point is also trained as a sparse autoencoder of that snapshot alone; empty: see n_baselines.",
        unit="training steps",
        minimum=0,
        unique=True,
    )
    n_baselines: int = setting(
        3,
        "While baselines is empty: this many base snapshots, evenly spaced from the first to the last (all when there are fewer); 0: none.",
        unit="snapshots",
        minimum=0,
    )
    keep_dictionaries: bool = setting(
        False, "Keep the trained dictionary of every point beside its scores; switching it on trains the points again."
    )


@dataclass(frozen=True)
class SweepPoint:
    """One dictionary of a sweep; `sparsity` is the value of the key that `SPARSITY_KEY` names for its arm."""

    arm: str
    n_features: int
    sparsity: float
    seed: int

    @property
    def sparsity_text(self) -> str:
        """Return the sparsity as file names write it: the shortest text that reads back as the same number."""
        return repr(float(self.sparsity)).removesuffix(".0")

    @classmethod
    def of(cls, crosscoder: Mapping[str, Any]) -> "SweepPoint":
        """Return the point at which the settings that a job got, its section `crosscoder`, train."""
        arm = str(crosscoder["arm"])
        return cls(arm, int(crosscoder["n_features"]), float(crosscoder[SPARSITY_KEY[arm]]), int(crosscoder["seed"]))


def sweep_points(sweep: SweepSettings) -> Iterator[SweepPoint]:
    """Yield every point of the sweep, arm by arm, size by size."""
    for arm in ARMS:
        for n_features in sorted(sweep.n_features):
            for sparsity in sorted(getattr(sweep.arms, arm)):
                for seed in sorted(sweep.seeds):
                    yield SweepPoint(arm, n_features, float(sparsity), seed)


def baseline_steps(sweep: SweepSettings, steps: tuple[int, ...]) -> tuple[int, ...]:
    """Return the base snapshots (of `steps`) that get sparse autoencoders of their own, by step."""
    ordered = sorted(steps)
    if sweep.baselines:
        return tuple(sorted(sweep.baselines))
    if sweep.n_baselines < 2:
        return tuple(ordered[-1:] * sweep.n_baselines)  # a single one describes the finished model
    if sweep.n_baselines >= len(ordered):
        return tuple(ordered)
    last, gaps = len(ordered) - 1, sweep.n_baselines - 1
    return tuple(ordered[(2 * number * last + gaps) // (2 * gaps)] for number in range(sweep.n_baselines))


def settings_at(crosscoder: CrosscoderSettings, point: SweepPoint, *, steps: int | None) -> CrosscoderSettings:
    """Return the study's crosscoder settings moved to a point of the sweep.

    The sparsity key that the point's arm does not read gets its default, so that changing it reruns no point.
    """
    key = SPARSITY_KEY[point.arm]
    sparsity = {name: getattr(CrosscoderSettings(), name) for name in set(SPARSITY_KEY.values())}
    sparsity[key] = int(point.sparsity) if key == "k" else point.sparsity
    return dataclasses.replace(
        crosscoder,
        arm=point.arm,
        n_features=point.n_features,
        seed=point.seed,
        steps=steps or crosscoder.steps,
        **sparsity,
    )
