"""Which settings each step gets: what a rule passes as its one `settings` parameter, and what audit compares with.

A step gets no more than it needs, so that a change in the configuration reruns exactly what it reaches.
"""

import dataclasses
from typing import Any

from snapcoder.storage.hashing import canonical_json
from snapcoder.study.study import Study
from snapcoder.study.sweep import SweepPoint, settings_at

_SECTIONS: dict[str, tuple[str, ...]] = {
    "corpus": ("corpus",),
    "ngrams": ("ngrams",),
    "pretrain": ("pretrain",),
    "activations": ("activations",),
    "crosscoder": ("crosscoder",),
    "extension": ("crosscoder",),
    "sweep_point": ("crosscoder",),
    "sweep_sae": ("crosscoder",),
    "trajectories": ("evolution",),
    "rotation": ("evolution",),
    "dimensionality": ("evolution",),
    "timing": ("evolution",),
    "tasks": ("tasks",),
    "behaviour": ("behaviour",),
    "task_performance": ("tasks",),
    "prompts": ("tasks",),
    "attribution": ("tasks",),
    "phase_metrics": ("phases",),
    "phase_segments": ("phases",),
    "examples": ("features",),
    "logits": ("features",),
    "report": ("report",),
}

_MAKING = frozenset({"files", "built_in", "max_examples", "min_examples", "prefix_tokens"})
_CARRYING = frozenset({"attribution_examples", "ig_steps", "top_features", "k_grid", "random_draws", "bootstrap"})
"""Keys of `tasks` that make the examples, and those that say how abilities are traced to features."""

_UNUSED: dict[str, frozenset[str]] = {
    "corpus": frozenset({"packages", "files"}),  # reach the step as inputs
    # One job per layer: adding one must not touch the others. Caches are the same whether or not training streams.
    "activations": frozenset({"layers", "mode", "stream_tokens"}),
    "crosscoder": frozenset({"extension"}),
    "sweep_point": frozenset({"extension", "preset", "gpus", "sharding"}),
    "sweep_sae": frozenset({"extension", "preset", "gpus", "sharding"}),
    "phase_metrics": frozenset({"models", "permutations", "interval_draws"}),
    "tasks": _CARRYING | {"files"},  # files reach the step as inputs
    "task_performance": _MAKING | (_CARRYING - {"bootstrap"}),
    "prompts": _MAKING | (_CARRYING - {"attribution_examples"}) | {"seed"},
    "attribution": _MAKING,
}
"""Keys of a section that a step does not read; left out, so that changing them does not rerun it."""

_CACHED_ONLY = frozenset({"layers", "tokens", "heldout_tokens"})
"""Keys of `activations` that reach streaming training only through the caches that it reads."""


def step_settings(
    study: Study,
    step: str,
    *,
    layer: int | None = None,
    snapshot: int | None = None,
    point: SweepPoint | None = None,
    **more: Any,
) -> str:
    """Return the settings of one job as canonical JSON.

    `layer`, `snapshot` (a training step) and `point` (of the sweep) are those of the job; `more` are further plain values.
    """
    if point is not None:
        moved = settings_at(study.crosscoder, point, steps=study.sweep.steps)
        study = dataclasses.replace(study, crosscoder=moved)
    chosen: dict[str, Any] = {}
    for name in _SECTIONS.get(step, ()):
        section = dataclasses.asdict(getattr(study, name))
        chosen[name] = {key: value for key, value in section.items() if key not in _UNUSED.get(step, ())}
    if step == "crosscoder" and study.activations.mode == "stream":
        section = dataclasses.asdict(study.activations)
        chosen["activations"] = {key: value for key, value in section.items() if key not in _CACHED_ONLY}
    if layer is not None:
        chosen["layer"] = layer
    if snapshot is not None:
        chosen["step"] = snapshot
    if step in ("pretrain", "snapshot"):
        chosen["fixed_batch"] = study.snapshots.fixed_batch
    if step == "snapshot":
        chosen["folder"] = study.snapshots.local.pattern.replace("{step}", str(snapshot))
        chosen["tokens_per_step"] = study.snapshots.local.tokens_per_step
    if step == "phase_segments":
        chosen["warmup_steps"] = study.snapshots.local.warmup_steps if study.snapshots.source == "local" else None
    if step == "integrity":
        chosen["added"] = sorted(study.snapshots.added)
    if step in ("figures", "sweep_figure", "report", "landing"):
        chosen["study"] = study.study
    return canonical_json({**chosen, **more})
