"""One onset per feature from all evidence, and what became of the onset that its decoder norm alone would give.

At a snapshot the dictionary says that a feature is present when its norm is at least α of its largest and it fires. All
tokens are correlated, so that activations nearly always say *something* about the code: regression and probe are necessary
for presence, not sufficient. Latent scaling asks what is left when the other features have had their share. Hence a feature is

- present where the dictionary says so, or where latent scaling finds its amplitude in the error (`shrinkage`: its decoder
  was made too small) or in other features beyond what they cover at its peak (`decoupled`);
- absent where neither holds, and wherever nothing in the activations speaks for it (`unsupported`);
- undecided where an interval of the latent scaling spans the bound, or where it could not be measured and regression or
  probe say present; this makes the interval of the onset wider. Evidence that could not be measured abstains.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.presence_evidence import Evidence, Independent, Measured, certain, independent
from snapcoder.evolution.timing import Onset, presence_by_norm

VERDICTS = (
    "dead", "absent", "present_from_start", "confirmed", "unclear", "shrinkage", "decoupled", "silent", "unsupported",
)  # fmt: skip
AT_SNAPSHOT = ("present", "unsupported", "shrinkage", "decoupled", "confirmed", "unclear")
EVIDENCE = ("norm", "firing", "regression", "probe", "scaling")


@dataclass(frozen=True)
class Combined:
    """The combined evidence and the verdict on each snapshot, one of `AT_SNAPSHOT`; both [snapshot, feature]."""

    evidence: Evidence
    verdict: np.ndarray
    dictionary: np.ndarray


def combine(by_norm: np.ndarray, alive: np.ndarray, found: Independent) -> Combined:
    """Combine what the dictionary says (by_norm, alive [snapshot, feature]) with the independent evidence."""
    dictionary = by_norm & alive
    shrunken, covered = found.scaling, found.covered
    seen = ~found.unseen
    present = seen & (dictionary | shrunken.present | covered.present)
    undecided = (shrunken.known & shrunken.possible) | (covered.known & covered.possible)
    # Without latent scaling, activations that tell of the code may or may not hold the feature.
    open_ = ~shrunken.known & (found.regression.present | found.probe.present)
    possible = present | (seen & ~dictionary & (undecided | open_))
    unmeasured = seen & ~shrunken.known
    verdict = np.select(
        [
            dictionary & found.unseen,
            dictionary,
            seen & shrunken.present,
            seen & covered.present,
            possible | unmeasured,
        ],
        ["unsupported", "present", "shrinkage", "decoupled", "unclear"],
        default="confirmed",
    )
    return Combined(Evidence(present, possible, np.ones_like(present)), verdict, dictionary)


def feature_onsets(
    presence: pd.DataFrame,
    trajectory: pd.DataFrame,
    timing: pd.DataFrame,
    *,
    alpha: float,
    consecutive: int,
    fdr: float,
    auroc: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables feature_onsets and feature_presence.

    presence: the tables of all snapshots; trajectory: norm, alive and added of the same; timing: class and onsets by
    norm and firing.
    """
    rows = trajectory[["feature", "snapshot", "step", "norm", "norm_rel", "alive"]].merge(
        presence, on=["feature", "step"], how="inner", validate="one_to_one"
    )
    rows = rows.sort_values(["step", "feature"], ignore_index=True)
    steps = np.sort(rows["step"].unique())
    if len(rows) != len(trajectory):
        raise ValueError("the presence tables and feature_trajectory are of different snapshots; rerun presence")

    def curve(name: str) -> np.ndarray:
        return rows[name].to_numpy().reshape(len(steps), -1)  # [snapshot, feature]

    norms, alive = curve("norm").astype(np.float64), curve("alive").astype(bool)
    base = ~curve("added")[:, 0].astype(bool)
    peak = np.flatnonzero(base)[norms[base].argmax(axis=0)]
    names = ("regress_excess", "free_eps", "free_eps_se", "free_rest", "free_rest_se")
    measured = Measured(
        peak,
        q=curve("q_present"),
        probe_lo=curve("probe_ci_lo"),
        probe_hi=curve("probe_ci_hi"),
        **{name: curve(name).astype(np.float64) for name in names},
    )
    found = independent(measured, alpha=alpha, fdr=fdr, auroc=auroc)
    by_norm = presence_by_norm(norms, alpha=alpha) & alive.any(axis=0)
    combined = combine(by_norm, alive, found)
    timing = timing.sort_values("feature", ignore_index=True)
    onsets = {
        "norm": _given(timing, "onset"),
        "firing": _given(timing, "onset_alive"),
        **{
            name: evidence.onset(steps, consecutive=consecutive)
            for name, evidence in (
                ("regression", found.regression), ("probe", found.probe), ("scaling", found.scaling)
            )
        },
    }  # fmt: skip
    table = _onset_table(timing, steps, onsets, combined, found, consecutive)
    rows["peak"] = (np.arange(len(steps))[:, None] == peak).ravel()
    for name, values in (
        ("by_norm", by_norm), ("by_regression", found.regression.states()), ("by_probe", found.probe.states()),
        ("by_scaling", found.scaling.states()), ("combined", combined.evidence.states()),
        ("verdict", combined.verdict), ("nu_eps", found.nu_eps), ("nu_r", found.nu_r),
        ("nu_ref", _relative(curve("beta_eps"), measured)),
    ):  # fmt: skip
        rows[name] = values.ravel()
    return table, rows.drop(columns="norm")


def _given(timing: pd.DataFrame, name: str) -> Onset:
    lo, hi = (timing[f"{name}_{end}"].astype("float64").to_numpy() for end in ("lo", "hi"))
    return Onset(lo, hi, np.where(np.isnan(hi), "right", np.where(np.isnan(lo), "left", "interval")))


def _relative(beta: np.ndarray, measured: Measured) -> np.ndarray:
    whole = measured.at_peak(beta)
    return np.divide(beta, whole, out=np.full(beta.shape, np.nan), where=np.broadcast_to(whole > 0, beta.shape))


def _onset_table(
    timing: pd.DataFrame,
    steps: np.ndarray,
    onsets: dict[str, Onset],
    combined: Combined,
    found: Independent,
    consecutive: int,
) -> pd.DataFrame:
    whole = combined.evidence.onset(steps, consecutive=consecutive)
    said = certain(combined.dictionary).onset(steps, consecutive=consecutive)
    kind = timing["class"].to_numpy()
    verdict = _verdicts(kind, steps, whole, said, onsets["norm"], combined)
    columns: dict[str, object] = {
        "layer": timing["layer"].to_numpy(),
        "feature": timing["feature"].to_numpy(),
        "class": kind,
        "onset_lo": _step(whole.lo),
        "onset_hi": _step(whole.hi),
        "onset_censoring": whole.censoring,
        "evidence": _deciding(steps, whole, onsets, verdict, found),
        "verdict": verdict,
        "agreement": _agreement(steps, whole, onsets, found),
    }
    for name, one in onsets.items():
        columns |= {f"{name}_lo": _step(one.lo), f"{name}_hi": _step(one.hi)}
    return pd.DataFrame(columns)


def _place(steps: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Return the index of the snapshot of an onset, [feature]; the number of snapshots when there is none."""
    return np.where(np.isnan(hi), len(steps), np.searchsorted(steps, np.nan_to_num(hi)))


def _verdicts(
    kind: np.ndarray, steps: np.ndarray, whole: Onset, said: Onset, by_norm: Onset, combined: Combined
) -> np.ndarray:
    at, dictionary, norm = (_place(steps, one.hi) for one in (whole, said, by_norm))
    index = np.arange(len(steps))[:, None]
    clean = ((combined.verdict == "confirmed") | (index >= at)).all(axis=0)
    # Between the combined onset and the dictionary's own, what first made up for the decoder.
    early = (index >= at) & (index < dictionary)
    shrunken, covered = (early & (combined.verdict == name) for name in ("shrinkage", "decoupled"))
    first = (shrunken | covered).argmax(axis=0)
    column = np.arange(len(at))
    last = len(steps)
    return np.select(
        [
            kind == "dead",
            (at == last) & (dictionary == last),
            at > dictionary,
            shrunken[first, column],
            covered[first, column],
            (at == 0) & np.isnan(whole.lo),
            dictionary > norm,
            clean,
        ],
        ["dead", "absent", "unsupported", "shrinkage", "decoupled", "present_from_start", "silent", "confirmed"],
        default="unclear",
    )


def _deciding(
    steps: np.ndarray, whole: Onset, onsets: dict[str, Onset], verdict: np.ndarray, found: Independent
) -> np.ndarray:
    """Return which evidence set the combined onset, [feature]; "none" where there is none."""
    at = _place(steps, whole.hi)
    before = np.clip(at - 1, 0, len(steps) - 1)
    column = np.arange(len(at))
    regression_turns = found.regression.absent[before, column]
    return np.select(
        [
            at == len(steps),
            np.isin(verdict, ("shrinkage", "decoupled")),
            verdict == "unsupported",
            verdict == "silent",
        ],
        ["none", "scaling", np.where(regression_turns, "regression", "probe"), "firing"],
        default="norm",
    )


def _agreement(steps: np.ndarray, whole: Onset, onsets: dict[str, Onset], found: Independent) -> np.ndarray:
    """Return the share of the evidences measured whose onset lies within one snapshot of the combined one, [feature]."""
    at = _place(steps, whole.hi)
    everywhere = np.ones(len(at), dtype=bool)
    measured = {
        "norm": everywhere,
        "firing": everywhere,
        "regression": found.regression.known.any(axis=0),
        "probe": found.probe.known.any(axis=0),
        "scaling": found.scaling.known.any(axis=0),
    }
    near = {name: np.abs(_place(steps, one.hi) - at) <= 1 for name, one in onsets.items()}
    n = sum(known.astype(int) for known in measured.values())
    return np.asarray(sum((near[name] & measured[name]).astype(float) for name in onsets) / n)


def _step(values: np.ndarray) -> pd.arrays.IntegerArray:
    """Turn steps with NaN for undefined into nullable integers."""
    missing = np.isnan(values)
    return pd.arrays.IntegerArray(np.where(missing, 0, values).astype(np.int64), missing)
