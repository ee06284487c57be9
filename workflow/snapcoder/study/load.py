"""From a configuration file to a validated study, or to one line that says what is wrong and what to do."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from snapcoder.study.crosscoder import PAPER2025
from snapcoder.study.explain import explain_problems
from snapcoder.study.field import from_mapping
from snapcoder.study.schema import config_schema
from snapcoder.study.study import Study
from snapcoder.study.sweep import ARMS, SPARSITY_KEY


class StudyError(ValueError):
    """A configuration that cannot be run; the message is one line that names the key and the fix."""


def load_study(config: Mapping[str, Any]) -> Study:
    """Validate a configuration and return the study with every default filled in.

    Raises `StudyError` for an unknown key, a wrong type, a value out of bounds, a duplicate, or settings that
    cannot go together.
    """
    errors = sorted(
        jsonschema.Draft202012Validator(config_schema()).iter_errors(config),
        key=lambda e: list(map(str, e.absolute_path)),
    )
    if errors:
        raise StudyError(_one_line(errors[0]))
    study = from_mapping(Study, _with_preset(config))
    for problem in _impossible(study):
        raise StudyError(problem)
    return study


def read_study(*paths: str | Path) -> Study:
    """Read and validate YAML files, later ones winning key by key, as Snakemake merges configuration files."""
    return load_study(read_config(*paths))


def read_config(*paths: str | Path) -> dict[str, Any]:
    """Read YAML files as one configuration, not yet validated; later files win key by key."""
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except FileNotFoundError as error:
            raise StudyError(f"{path}: no such configuration file") from error
        except yaml.YAMLError as error:
            raise StudyError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
        if not isinstance(content, dict):
            raise StudyError(f"{path}: expected keys and values, got {type(content).__name__}")
        merged = _merged(merged, content)
    return merged


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def _with_preset(config: Mapping[str, Any]) -> Mapping[str, Any]:
    crosscoder = config.get("crosscoder", {})
    if crosscoder.get("preset") == "paper2025":
        return {**config, "crosscoder": {**PAPER2025, **crosscoder}}
    return config


def _one_line(error: jsonschema.ValidationError) -> str:
    key = ".".join(str(part) for part in error.absolute_path if not isinstance(part, int)) or "the configuration"
    schema: Any = error.schema
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        wrong = next(name for name in instance if name not in known)
        full = wrong if key == "the configuration" else f"{key}.{wrong}"
        near = difflib.get_close_matches(str(wrong), known, n=1)
        return f"{full}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}")
    if error.validator == "uniqueItems":
        twice = next(item for item in instance if instance.count(item) > 1)
        return f"{key}: {twice} is listed twice; remove one"
    if error.validator == "type":
        wanted = schema["type"] if isinstance(schema["type"], str) else " or ".join(schema["type"])
        return f"{key}: expected {wanted}, got {error.instance!r}; correct the value"
    if error.validator == "enum":
        options = ", ".join(str(option) for option in schema["enum"] if option is not None)
        near = difflib.get_close_matches(str(error.instance), [str(o) for o in schema["enum"]], n=1)
        return f"{key}: {error.instance!r} is not one of {options}" + (
            f"; did you mean {near[0]}?" if near else "; choose one of them"
        )
    if error.validator in ("minimum", "maximum"):
        side = "at least" if error.validator == "minimum" else "at most"
        return f"{key}: {error.instance} is out of bounds; it must be {side} {schema[error.validator]}"
    return f"{key}: {error.message}"


def _impossible(study: Study) -> Iterable[str]:
    yield from _name_problems(study)
    yield from _snapshot_problems(study)
    yield from _model_problems(study)
    yield from _size_problems(study)
    yield from _sweep_problems(study)
    yield from _control_problems(study)
    yield from explain_problems(study.explain)


def _name_problems(study: Study) -> Iterable[str]:
    if not study.study or any(mark in study.study for mark in "/\\ \t\n{}*") or study.study.startswith("."):
        yield f"study: {study.study!r} cannot name a folder; use letters, digits, '-' and '_'"
    if not study.corpus.packages and not study.corpus.files:
        yield "corpus: no text; name at least one of corpus.packages or corpus.files"
    for package in study.corpus.packages:
        if package.count("==") != 1:
            yield f"corpus.packages: {package!r} has no exact version; write name==version"


def _snapshot_problems(study: Study) -> Iterable[str]:
    snapshots, pretrain = study.snapshots, study.pretrain
    both = sorted(set(snapshots.steps) & set(snapshots.added))
    if both:
        yield f"snapshots.added: {both[0]} is already in snapshots.steps; remove it from one of them"
    if len(snapshots.steps) < 2:
        yield f"snapshots.steps: {len(snapshots.steps)} snapshot; a crosscoder needs at least 2"
    wanted = sorted({*snapshots.steps, *snapshots.added})
    if snapshots.source == "pretrain":
        late = [step for step in pretrain.save_steps if step > pretrain.steps]
        if late:
            yield f"pretrain.save_steps: {late[0]} comes after the last training step {pretrain.steps}; remove it or raise pretrain.steps"
        unsaved = [step for step in wanted if step not in pretrain.save_steps]
        if unsaved:
            near = min(pretrain.save_steps, key=lambda step: abs(step - unsaved[0]), default=0)
            yield f"snapshots.steps: step {unsaved[0]} is not saved by pre-training; use {near} or add {unsaved[0]} to pretrain.save_steps"
    elif "{step}" not in snapshots.local.pattern:
        yield f"snapshots.local.pattern: {snapshots.local.pattern!r} has no {{step}} in it; write for example models/step{{step}}"
    else:
        for step in wanted:
            folder = Path(snapshots.local.pattern.replace("{step}", str(step)))
            if not (folder / "config.json").is_file():
                yield f"snapshots.local.pattern: no checkpoint for step {step} at {folder} (config.json is missing); correct the pattern or the steps"


def _model_problems(study: Study) -> Iterable[str]:
    pretrain = study.pretrain
    n_layers = pretrain.n_layers
    if study.snapshots.source == "pretrain":
        if pretrain.d_model % pretrain.n_heads:
            yield f"pretrain.n_heads: {pretrain.n_heads} heads do not divide pretrain.d_model {pretrain.d_model}; choose a divisor"
        if pretrain.warmup_steps >= pretrain.steps:
            yield f"pretrain.warmup_steps: {pretrain.warmup_steps} is not below pretrain.steps {pretrain.steps}; shorten the warm-up"
    else:
        n_layers = _local_layers(study) or max(study.activations.layers, default=0) + 1
    if not study.activations.layers:
        yield "activations.layers: no layer; name at least one block, counted from 0"
    for layer in study.activations.layers:
        if layer >= n_layers:
            yield f"activations.layers: block {layer} does not exist; the model has blocks 0 to {n_layers - 1}"


def _local_layers(study: Study) -> int | None:
    step = study.snapshots.steps[0] if study.snapshots.steps else 0
    config = Path(study.snapshots.local.pattern.replace("{step}", str(step))) / "config.json"
    if not config.is_file():
        return None
    facts = yaml.safe_load(config.read_text(encoding="utf-8"))
    return next((int(facts[key]) for key in ("num_hidden_layers", "n_layer", "n_layers") if key in facts), None)


def _size_problems(study: Study) -> Iterable[str]:
    activations, crosscoder, context = study.activations, study.crosscoder, study.corpus.context_length
    if activations.skip_positions >= context:
        yield f"activations.skip_positions: {activations.skip_positions} leaves nothing of sequences of {context} tokens; lower it"
    key, verb = ("stream_tokens", "stream") if activations.mode == "stream" else ("tokens", "cache")
    if crosscoder.batch_size > getattr(activations, key):
        yield f"crosscoder.batch_size: {crosscoder.batch_size} exceeds activations.{key} {getattr(activations, key)}; lower it or {verb} more tokens"
    if crosscoder.arm == "batchtopk" and crosscoder.k > crosscoder.n_features:
        yield f"crosscoder.k: {crosscoder.k} active features of {crosscoder.n_features}; lower k or raise crosscoder.n_features"
    n_shown = len(study.snapshots.steps) + len(study.snapshots.added)
    if study.phases.min_size > n_shown:
        yield f"phases.min_size: {study.phases.min_size} exceeds the {n_shown} snapshots; lower it"
    if study.tasks.min_examples > study.tasks.max_examples:
        yield f"tasks.min_examples: {study.tasks.min_examples} exceeds tasks.max_examples {study.tasks.max_examples}; lower it"


def _sweep_problems(study: Study) -> Iterable[str]:
    sweep = study.sweep
    values = {arm: getattr(sweep.arms, arm) for arm in ARMS}
    if sweep.n_features and not any(values.values()):
        yield "sweep.arms: no arm has a sparsity value; add some, for example arms: {batchtopk: [10, 20, 40]}, or empty sweep.n_features"
    if any(values.values()) and not sweep.n_features:
        yield "sweep.n_features: empty, but sweep.arms has values; add sizes, for example [512, 1024], or empty the arms"
    if sweep.n_features and not sweep.seeds:
        yield "sweep.seeds: empty; a sweep needs at least one seed, for example [0]"
    for arm, listed in values.items():
        smallest = min(sweep.n_features, default=0)
        if SPARSITY_KEY[arm] == "k" and max(listed, default=0) > smallest > 0:
            yield f"sweep.arms.{arm}: {max(listed)} active features of {smallest}; lower it or raise sweep.n_features"
    odd = sorted(set(sweep.baselines) - set(study.snapshots.steps))
    if odd:
        yield f"sweep.baselines: step {odd[0]} is no base snapshot; choose from snapshots.steps"


def _control_problems(study: Study) -> Iterable[str]:
    controls = study.controls
    if controls.untrained == 1:
        yield "controls.untrained: 1 model; a dictionary needs at least 2, or 0 for none"
    if study.snapshots.source != "pretrain":
        for key in ("model_seeds", "warmup_steps"):
            if getattr(controls, key):
                yield f"controls.{key}: only models that are trained here can be trained again; empty it or set snapshots.source to pretrain"
    if study.crosscoder.seed in controls.crosscoder_seeds:
        yield f"controls.crosscoder_seeds: {study.crosscoder.seed} is the study's own crosscoder.seed; remove it"
    if study.pretrain.seed in controls.model_seeds:
        yield f"controls.model_seeds: {study.pretrain.seed} is the study's own pretrain.seed; remove it"
    for steps in controls.warmup_steps:
        if steps == study.pretrain.warmup_steps:
            yield f"controls.warmup_steps: {steps} is the study's own pretrain.warmup_steps; remove it"
        if steps >= study.pretrain.steps:
            yield f"controls.warmup_steps: {steps} is not below pretrain.steps {study.pretrain.steps}; shorten it"
