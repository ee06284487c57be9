"""Import a dictionary of another library: recognise its format, complete what its file does not say, and try it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from snapcoder.crosscoder.metrics import Scores
from snapcoder.interop import dictionary_learning, llamascopium
from snapcoder.interop.dictionary_learning import DictionaryLearningFile
from snapcoder.interop.files import InteropError, find_weights, read_config, read_tensors
from snapcoder.interop.llamascopium import LlamascopiumFile
from snapcoder.interop.options import ImportOptions
from snapcoder.interop.probe import Probe, mean_ev
from snapcoder.interop.scaling import folds_of, listed, norms_of, require_fitting, times_of
from snapcoder.storage.dictionaries import Dictionary
from snapcoder.storage.hashing import file_sha256


@dataclass(frozen=True)
class Imported:
    """An imported dictionary, what was done to get it, and its scores on the probe before (as saved) and after."""

    dictionary: Dictionary
    notes: tuple[str, ...]
    provenance: dict[str, object]
    before: list[Scores] | None
    after: list[Scores] | None

    def report(self) -> list[str]:
        """Return the lines to print: what was done, and how well it reconstructs the probe."""
        lines = list(self.notes)
        if self.after is None:
            return [*lines, "not tried on activations: give --probe to measure what it explains"]
        scored = {"": self.after} if self.before is None else {"as saved ": self.before, "imported ": self.after}
        for index, step in enumerate(self.dictionary.steps):
            found = [f"{name}EV {scores[index].ev:.3f} L0 {scores[index].l0:.1f}" for name, scores in scored.items()]
            lines.append(f"probe, step {step}: {', '.join(found)}")
        found = [f"{name}EV {mean_ev(scores):.3f} L0 {scores[-1].l0:.1f}" for name, scores in scored.items()]
        return [*lines, f"probe, mean of snapshots: {', '.join(found)}"]


def import_dictionary(source: Path, options: ImportOptions, probe: Probe | None = None) -> Imported:
    """Read a dictionary of llamascopium or dictionary_learning from a folder or weight file.

    Raises `InteropError`, one clear line, when it cannot be expressed exactly, when the file leaves something open that
    no option says, or when it explains the probe worse than the mean activation does.
    """
    path = find_weights(source)
    tensors, config = read_tensors(path), read_config(path)
    if llamascopium.is_llamascopium(tensors):
        imported = _llamascopium(llamascopium.parse(path, tensors, config), options, probe)
    elif dictionary_learning.is_dictionary_learning(tensors):
        imported = _dictionary_learning(dictionary_learning.parse(path, tensors, config), options, probe)
    else:
        raise InteropError(
            f"{path}: neither llamascopium's nor dictionary_learning's tensors (found {', '.join(sorted(tensors)[:8])})"
        )
    if imported.after is not None and not mean_ev(imported.after) > 0:
        raise InteropError(
            f"{path}: explains the probe's activations worse than their mean does (explained variance "
            f"{mean_ev(imported.after):.3f}); it was trained on another model, layer or scaling"
        )
    return imported


def _llamascopium(file: LlamascopiumFile, options: ImportOptions, probe: Probe | None) -> Imported:
    steps = _steps(file.path, options, file.steps(), len(file.hook_points), f"hook_points {list(file.hook_points)}")
    layer = _layer(file.path, options, file.layer(), probe)
    if probe is not None:
        probe.require(tuple(sorted(steps)), file.d_model)
    norms = norms_of(file, options, probe, np.argsort(np.argsort(steps)))
    if probe is not None and norms is not None:
        require_fitting(file.path, norms, probe.mean_norms()[np.argsort(np.argsort(steps))])

    def build(folds: int, norms: np.ndarray | None) -> Dictionary:
        base = llamascopium.to_dictionary(
            file, norms=norms, folds=folds, threshold=np.zeros(file.encoder.shape[2]), steps=steps, layer=layer
        )
        base = in_step_order(base)
        threshold = file.threshold
        if threshold is None:
            value = _cut(file.path, options, probe, base, base.decoder_norms(), file.k)
            threshold = np.full(base.n_features, value, dtype=np.float32)
        return replace(base, threshold=threshold)

    folds, reason = folds_of(file, options, norms, lambda times: build(times, norms), probe)
    dictionary = build(folds, norms)
    as_saved = build(0, norms if file.norm_mode == "dataset-wise" else None)
    notes = [
        f"llamascopium {file.act_fn} dictionary: {len(steps)} snapshots, {dictionary.n_features} features of width {file.d_model}",
        "reads raw activations" if norms is None else f"mean activation norms {listed(norms)}",
        f"biases folded {times_of(folds)} ({reason}){', undone' if folds else ''}",
    ]
    if file.threshold is None:
        notes.append(f"batchtopk: threshold {dictionary.threshold[0]:.6g} for k = {file.k:g}")
    return Imported(
        dictionary=dictionary,
        notes=tuple(notes),
        provenance=_provenance(file.path, "llamascopium", options, folds=folds, norm_mode=file.norm_mode),
        before=probe.scores(as_saved) if probe is not None else None,
        after=probe.scores(dictionary) if probe is not None else None,
    )


def _dictionary_learning(file: DictionaryLearningFile, options: ImportOptions, probe: Probe | None) -> Imported:
    n_snapshots, d_model = len(file.dictionary.decoder), file.dictionary.decoder.shape[2]
    if options.norms is not None or options.folds is not None:
        raise InteropError("--norms and --folds belong to files of llamascopium; this one is of dictionary_learning")
    steps = _steps(file.path, options, None, n_snapshots, "the format does not name them")
    layer = _layer(file.path, options, file.layer, probe)
    threshold = file.threshold
    if threshold is None:
        if probe is not None:
            probe.require(tuple(sorted(steps)), d_model)
        base = in_step_order(replace(file.dictionary, steps=steps))
        threshold = np.array([_cut(file.path, options, probe, base, row[None], file.k) for row in file.weights])
    dictionary = in_step_order(dictionary_learning.to_dictionary(file, threshold=threshold, steps=steps, layer=layer))
    if probe is not None:
        probe.require(dictionary.steps, d_model)
    notes = [
        f"dictionary_learning {file.kind}: {n_snapshots} snapshots, {dictionary.n_features} features of width {d_model}",
        f"gate {dictionary.gate}, arm {dictionary.arm}",
    ]
    if file.threshold is None:
        notes.append(f"it never tracked its threshold; {listed(threshold)} for k = {file.k or float('nan'):g}")
    return Imported(
        dictionary=dictionary,
        notes=tuple(notes),
        provenance=_provenance(file.path, "dictionary_learning", options, kind=file.kind),
        before=None,
        after=probe.scores(dictionary) if probe is not None else None,
    )


def in_step_order(dictionary: Dictionary) -> Dictionary:
    """Return the same dictionary with its snapshots in the order of their steps."""
    order = np.argsort(dictionary.steps)
    if (order == np.arange(len(order))).all():
        return dictionary  # a dictionary of gigabytes is not copied for nothing
    return replace(
        dictionary,
        steps=tuple(dictionary.steps[index] for index in order),
        encoder=np.ascontiguousarray(dictionary.encoder[order]),
        decoder=np.ascontiguousarray(dictionary.decoder[order]),
        decoder_bias=dictionary.decoder_bias[order],
        scale=dictionary.scale[order],
        center=dictionary.center[order],
    )


def _cut(
    path: Path, options: ImportOptions, probe: Probe | None, base: Dictionary, weights: np.ndarray, k: float | None
) -> float:
    """Return the threshold of z · weights [gate, feature] of a batchtopk dictionary that stores none."""
    if options.threshold is not None:
        return options.threshold
    if probe is None or k is None:
        raise InteropError(
            f"{path}: batchtopk without a stored threshold, which only a batch can show; measure it with --probe or give "
            "it with --threshold"
        )
    probe.require(base.steps, base.decoder.shape[2])
    return probe.threshold(base, weights, k=k)


def _steps(
    path: Path, options: ImportOptions, found: tuple[int, ...] | None, n_snapshots: int, why: str
) -> tuple[int, ...]:
    steps = options.steps or found
    if steps is None:
        raise InteropError(
            f"{path}: the training steps of its {n_snapshots} snapshots are unknown ({why}); give them in the file's order "
            "with --steps"
        )
    if len(steps) != n_snapshots or len(set(steps)) != n_snapshots or min(steps) < 0:
        raise InteropError(f"--steps: needs {n_snapshots} different training steps, one for each snapshot of {path}")
    return steps


def _layer(path: Path, options: ImportOptions, found: int | None, probe: Probe | None) -> int:
    said = (options.layer, found, None if probe is None else probe.layer)
    layer = next((layer for layer in said if layer is not None), None)
    if layer is None:
        raise InteropError(f"{path}: does not say which block its activations are from; give it with --layer")
    if probe is not None and probe.layer != layer:
        raise InteropError(f"{path}: is of layer {layer}, the probe's caches of layer {probe.layer}")
    return layer


def _provenance(path: Path, library: str, options: ImportOptions, **facts: object) -> dict[str, object]:
    said = {name: value for name, value in vars(options).items() if value is not None}
    return {"imported": {"library": library, "file": path.name, "sha256": file_sha256(path), "options": said, **facts}}
