"""Which settings each step gets: what a rule passes as its one `settings` parameter, and what audit compares with.

A step gets no more than it needs, so that a change in the configuration reruns exactly what it reaches.
"""

import dataclasses
from typing import Any

from snapcoder.storage.hashing import canonical_json
from snapcoder.study.controls import MODEL_KINDS, controls_of
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
    "sae_series": ("crosscoder",),
    "sae_series_check": ("evolution",),
    "seed_stability": ("evolution",),
    "snapshot_features": ("evolution",),
    "trajectories": ("evolution",),
    "rotation": ("evolution",),
    "dimensionality": ("evolution",),
    "timing": ("evolution", "timing"),
    "onset_distribution": ("timing",),
    "onset_sensitivity": ("evolution", "timing"),
    "heldout_snapshots": ("timing",),
    "presence": ("presence",),
    "feature_onsets": ("evolution", "presence"),
    "formation_rows": ("formation",),
    "formation": ("formation",),
    "formation_table": ("evolution",),
    "order_tests": ("order",),
    "tasks": ("tasks",),
    "ngram_text": ("behaviour",),
    "cloze": ("tasks",),
    "behaviour": ("behaviour",),
    "token_classes": ("behaviour",),
    "task_performance": ("tasks",),
    "prompts": ("tasks",),
    "attribution": ("tasks",),
    "ablation": ("tasks",),
    "attribution_tables": ("tasks",),
    "reconstruction_loss": ("evaluation", "tasks"),
    "harness": ("evaluation",),
    "attribution_report": ("carriers",),
    "phase_metrics": ("phases",),
    "phase_segments": ("phases",),
    "examples": ("features",),
    "complexity": ("features",),
    "context_length": ("context",),
    "explanations": ("explain",),
    "logits": ("features",),
    "report": ("report",),
}

_CLOZE = frozenset({"cloze_examples", "cloze_contexts"})
_MAKING = frozenset({"files", "built_in", "max_examples", "min_examples", "prefix_tokens"}) | _CLOZE
_ABLATING = frozenset({"k_grid", "k_shares", "control_sizes", "random_draws", "matched_draws", "single_features"})
_ATTRIBUTING = frozenset(
    {
        "attributions",
        "ig_steps",
        "ig_tolerance",
        "sign_flips",
        "exact_top",
        "exact_random",
        "shown_examples",
        "shown_features",
        "batch_tokens",
    }
)
_CARRYING = _ATTRIBUTING | _ABLATING | {"attribution_examples", "top_features", "bootstrap"}
"""Keys of `tasks` that make cloze examples, all that make examples; that ablation or attribution alone read; and all that
say how abilities are traced."""

_EVOLUTION_DRAWS = frozenset({"null_draws", "bootstrap", "seed"})
_TIMING = frozenset(
    {"sigmoid_r2", "alpha_grid", "consecutive_grid", "thinning", "shuffles", "heldout_rows", "null_draws"}
)
"""Keys of `evolution` that only random draws read, and those of `timing` that one step or another reads alone."""
_DECIDING = frozenset({"fdr", "probe_auroc"})
"""Keys of `presence` that decide on what was measured; the others say how it is."""

_UNUSED: dict[str, frozenset[str]] = {
    "corpus": frozenset({"packages", "files"}),  # reach the step as inputs
    # One job per layer: adding one must not touch the others. Caches are the same whether or not training streams.
    "activations": frozenset({"layers", "mode", "stream_tokens"}),
    "crosscoder": frozenset({"extension"}),
    "sweep_point": frozenset({"extension", "preset", "gpus", "sharding"}),
    "sweep_sae": frozenset({"extension", "preset", "gpus", "sharding"}),
    "sae_series": frozenset({"extension", "preset", "gpus", "sharding"}),
    "presence": _DECIDING,
    "feature_onsets": frozenset(
        {
            "permutations",
            "null_features",
            "min_active",
            "min_positives",
            "probe_positives",
            "probe_negatives",
            "probe_ridge",
            "segments",
            "seed",
            "bootstrap",
            "null_draws",
            "rate_floor",
            "baseline_step",
            "dense_rate",
            "transient_lifetime",
            "flat_range",
        }
    ),
    "ngram_text": frozenset({"sequences", "bootstrap", "batch_size"}),
    "behaviour": frozenset({"text_sequences"}),
    "token_classes": frozenset({"sequences", "batch_size", "text_sequences"}),
    "phase_metrics": frozenset({"models", "permutations", "interval_draws"}),
    "tasks": _CARRYING | _CLOZE | {"files"},  # files reach the step as inputs
    "task_performance": _MAKING | (_CARRYING - {"bootstrap", "attribution_examples"}),
    "prompts": _MAKING | (_CARRYING - {"attribution_examples"}) | {"seed"},
    "attribution": _MAKING | _ABLATING | {"top_features"},
    "ablation": _MAKING | (_ATTRIBUTING - {"batch_tokens"}) | {"top_features"},
    "timing": _EVOLUTION_DRAWS | (_TIMING - {"sigmoid_r2"}),
    "onset_distribution": _TIMING - {"null_draws"},
    "onset_sensitivity": frozenset({"sigmoid_r2", "heldout_rows", "bootstrap"}),
    "heldout_snapshots": _TIMING - {"heldout_rows"},
    "formation_rows": frozenset({"permutations", "directions"}),
    "formation": frozenset({"top", "memory_gb"}),
    "formation_table": frozenset(
        {
            "rate_floor",
            "baseline_step",
            "dense_rate",
            "transient_lifetime",
            "flat_range",
            "null_draws",
            "bootstrap",
            "seed",
        }
    ),
}
"""Keys of a section that a step does not read; left out, so that changing them does not rerun it."""

_USED: dict[str, frozenset[str]] = {
    "snapshot_features": frozenset({"memory_gb"}),
    "trajectories": frozenset({"rate_floor"}),
    "complexity": frozenset({"memory_gb"}),
    "attribution_tables": frozenset({"top_features"}),
    "cloze": _CLOZE | {"min_examples", "prefix_tokens", "seed"},
    "reconstruction_loss": frozenset({"sequences", "bootstrap", "seed", "attribution_examples"}),
    "harness": frozenset({"harness"}),
}
"""The only keys that a step reads of its section, where these are few."""

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
        used = _USED.get(step, section.keys()) - _UNUSED.get(step, frozenset())
        chosen[name] = {key: value for key, value in section.items() if key in used}
    if step == "crosscoder" and study.activations.mode == "stream":
        section = dataclasses.asdict(study.activations)
        chosen["activations"] = {key: value for key, value in section.items() if key not in _CACHED_ONLY}
    if layer is not None:
        chosen["layer"] = layer
    if snapshot is not None:
        chosen["step"] = snapshot
    if step in ("pretrain", "snapshot", "untrained"):
        chosen["fixed_batch"] = study.snapshots.fixed_batch
    if step == "snapshot":
        chosen["folder"] = study.snapshots.local.pattern.replace("{step}", str(snapshot))
        chosen["tokens_per_step"] = study.snapshots.local.tokens_per_step
    if step == "phase_segments":
        chosen["warmup_steps"] = study.snapshots.local.warmup_steps if study.snapshots.source == "local" else None
    if step == "integrity":
        chosen["added"] = sorted(study.snapshots.added)
    if step == "harness":
        chosen["end_of_text"] = study.corpus.tokenizer.end_of_text
    if step == "control_statistics":
        chosen["controls"] = studies_compared(study)
    if step == "seed_stability":
        chosen["seeds"] = list(study.controls.crosscoder_seeds)
    if step in ("figures", "task_figures", "sweep_figure", "controls_figure", "report", "landing"):
        chosen["study"] = study.study
    return canonical_json({**chosen, **more})


def studies_compared(study: Study) -> list[dict[str, Any]]:
    """Return name, kind, warm-up and whether it reads text with models of its own, of the study and of each control."""
    pretrained = study.snapshots.source == "pretrain"
    own = study.pretrain.warmup_steps if pretrained else study.snapshots.local.warmup_steps
    compared = [{"name": "study", "kind": "study", "warmup_steps": own, "has_text": True}]
    for control in controls_of(study.controls, layers=study.activations.layers):
        warmup = control.changed.get("pretrain", {}).get("warmup_steps", own)
        compared.append(
            {
                "name": control.name,
                "kind": control.kind,
                "warmup_steps": None if control.kind == "untrained" else warmup,
                "has_text": control.kind in MODEL_KINDS,
            }
        )
    return compared
