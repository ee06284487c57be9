"""Controls of a study: the same pipeline with one thing changed, to learn what a finding depends on.

A control is a study derived from the study's own configuration. It shares every file that the change does not reach, and
its own files lie in results/<study>/controls/<name>.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from snapcoder.study.field import setting

Kind = Literal["crosscoder_seed", "model_seed", "warmup", "token_centred", "untrained"]

MODEL_KINDS = ("model_seed", "warmup")
"""Kinds whose language model is trained anew, and scored on text."""


@dataclass(frozen=True)
class ControlSettings:
    """What else is trained to see whether a finding holds; everything is off by default (config/controls.yaml)."""

    crosscoder_seeds: tuple[int, ...] = setting(
        (), "Further seeds of the dictionary: seed stability of features and onsets.", minimum=0, unique=True
    )
    model_seeds: tuple[int, ...] = setting(
        (), "Further seeds of the language model (snapshots.source: pretrain).", minimum=0, unique=True
    )
    warmup_steps: tuple[int, ...] = setting(
        (),
        "Further lengths of the learning-rate warm-up (snapshots.source: pretrain).",
        unit="training steps",
        minimum=0,
        unique=True,
    )
    untrained: int = setting(
        0,
        "A dictionary over this many untrained models, one initialisation each, in place of snapshots; 0: none.",
        unit="models",
        minimum=0,
        maximum=64,
    )
    token_centred: bool = setting(
        False, "A dictionary of activations from which each token's mean activation is subtracted at every snapshot."
    )
    sae_series: bool = setting(
        False, "A sparse autoencoder for every base snapshot alone, to hold against the shared dictionary."
    )


@dataclass(frozen=True)
class Control:
    """One derived study: its name, what kind it is, and the keys of the configuration that differ."""

    name: str
    kind: Kind
    changed: Mapping[str, Any]

    @property
    def has_own_models(self) -> bool:
        """Return whether its language models are its own."""
        return self.kind in (*MODEL_KINDS, "untrained")

    @property
    def has_own_caches(self) -> bool:
        """Return whether its activation caches are its own."""
        return self.has_own_models or self.kind == "token_centred"


def controls_of(settings: ControlSettings, *, layers: tuple[int, ...]) -> tuple[Control, ...]:
    """Return the derived studies, in the order in which reports name them (the autoencoder series is none of them).

    layers: the blocks whose activations the study reads.
    """
    made = [
        Control(f"seed{seed}", "crosscoder_seed", {"crosscoder": {"seed": seed}}) for seed in settings.crosscoder_seeds
    ]
    made += [Control(f"model_seed{seed}", "model_seed", {"pretrain": {"seed": seed}}) for seed in settings.model_seeds]
    made += [
        Control(f"warmup{steps}", "warmup", {"pretrain": {"warmup_steps": steps}}) for steps in settings.warmup_steps
    ]
    if settings.token_centred:
        made.append(Control("token_centred", "token_centred", {}))
    if settings.untrained:
        # Models stand where snapshots do, numbered from 0. Nothing is pre-trained; that section only has to be possible.
        steps = list(range(settings.untrained))
        unused = {"save_steps": steps, "steps": settings.untrained, "warmup_steps": 0, "n_layers": max(layers) + 1}
        made.append(
            Control("untrained", "untrained", {"snapshots": {"source": "pretrain", "steps": steps}, "pretrain": unused})
        )
    return tuple(made)


def control_config(config: Mapping[str, Any], control: Control) -> dict[str, Any]:
    """Return the configuration of the derived study: base snapshots only, no sweep and no controls of its own.

    config: the study's own, as read from its files.
    """
    derived = {key: value for key, value in config.items() if key not in ("controls", "sweep")}
    derived["snapshots"] = {**config.get("snapshots", {}), "added": []}
    for section, values in control.changed.items():
        derived[section] = {**derived.get(section, {}), **values}
    return derived
