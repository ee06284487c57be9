"""What scale a file of llamascopium was trained at, and how often that scale was folded into its biases."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from snapcoder.interop.files import InteropError
from snapcoder.interop.folding import MOST_FOLDS, detect_folds, plausible
from snapcoder.interop.llamascopium import LlamascopiumFile
from snapcoder.interop.options import ImportOptions
from snapcoder.interop.probe import Probe, mean_ev
from snapcoder.storage.dictionaries import Dictionary

_NORM_FACTOR = 3.0  # mean norms of one model on other text, or with and without its sink tokens, differ by less
_EV_MARGIN = 0.01  # explained variances closer than this do not tell one number of foldings from another


def norms_of(
    file: LlamascopiumFile, options: ImportOptions, probe: Probe | None, order: np.ndarray
) -> np.ndarray | None:
    """Return μ [snapshot] in the file's order, or None for raw activations. order: each snapshot's place by step."""
    n_snapshots = len(file.hook_points)
    if options.norms == "raw":
        return None
    if options.norms is not None:
        given = np.array(options.norms, dtype=np.float64)
        if len(given) != n_snapshots or not plausible(given):
            raise InteropError(f"--norms: needs {n_snapshots} positive numbers, one for each snapshot of {file.path}")
        return given
    if file.norms is not None and plausible(file.norms):
        return file.norms.astype(np.float64)
    stored = (
        "has no" if file.norms is None else f"has impossible ({listed(file.norms)}: never set, so arbitrary memory)"
    )
    measured = "" if probe is None else f"; the probe's mean norms are {listed(probe.mean_norms()[order])}"
    raise InteropError(
        f"{file.path}: {stored} dataset_average_activation_norm, so that its input scale is unknown; give the mean norms "
        f"of its training activations with --norms, or --norms raw if it reads unscaled activations{measured}"
    )


def require_fitting(path: Path, norms: np.ndarray, measured: np.ndarray) -> None:
    """Raise `InteropError` when stored mean norms cannot be those of the probe's activations, both [snapshot]."""
    if (np.abs(np.log(norms / measured)) > np.log(_NORM_FACTOR)).any():
        raise InteropError(
            f"{path}: its mean activation norms are {listed(norms)}, the probe's {listed(measured)}: it belongs to other "
            "activations, or the norms were never set; correct them with --norms"
        )


def folds_of(
    file: LlamascopiumFile,
    options: ImportOptions,
    norms: np.ndarray | None,
    build: Callable[[int], Dictionary],
    probe: Probe | None,
) -> tuple[int, str]:
    """Return how often the biases were folded, and how that is known."""
    if options.folds is not None:
        return options.folds, "as told"
    if norms is None:
        return 0, "it reads raw activations"
    if not file.encoder_bias.any() and not file.decoder_bias.any():
        return 0, "its biases are zero"
    seen = detect_folds(file.encoder_bias, norms, file.d_model)
    if probe is None:
        if seen is None:
            raise InteropError(
                f"{file.path}: cannot tell whether its biases were folded (norm_activation is {file.norm_mode!r}, and its "
                "encoder biases do not show it); try it on activations with --probe, or say so with --folds 0 or --folds 1"
            )
        if seen == 0 and file.norm_mode == "inference" and options.norms is None:
            raise InteropError(
                f"{file.path}: its config.json says inference, but its biases were never folded: it was trained on "
                "activations that were scaled before or not at all, and its stored norms are arbitrary; give --norms, or try "
                "it with --probe"
            )
        return seen, "by the ratios of its encoder biases"
    ev = [mean_ev(probe.scores(build(times))) for times in range(MOST_FOLDS + 1)]
    best = int(np.argmax(ev))
    if seen is not None and ev[best] > ev[seen] + _EV_MARGIN:
        raise InteropError(
            f"{file.path}: its encoder biases say folded {times_of(seen)} (explained variance {ev[seen]:.3f} on the probe), "
            f"the probe {times_of(best)} ({ev[best]:.3f}); its norms or the probe are of other activations: check, or decide with --folds"
        )
    if seen is not None:
        return seen, "by the ratios of its encoder biases"
    rivals = [times for times in range(MOST_FOLDS + 1) if times != best and ev[times] > ev[best] - _EV_MARGIN]
    if not rivals:
        return best, "by explained variance on the probe"
    # With norms near √d a folding changes next to nothing: the config's word then decides between equals.
    word = 1 if file.norm_mode == "inference" else 0
    if word in (best, *rivals):
        return word, "as its config.json says; on the probe it makes no difference"
    return best, "by explained variance on the probe"


def times_of(folds: int) -> str:
    """Return a number of foldings in words."""
    return ("never", "once", "twice")[folds] if folds < 3 else f"{folds} times"


def listed(values: np.ndarray) -> str:
    """Return numbers as text."""
    return ", ".join(f"{value:.6g}" for value in values)
