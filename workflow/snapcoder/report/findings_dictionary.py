"""Findings about the dictionary itself: whether what follows rests on something."""

from collections.abc import Mapping

import pandas as pd

from snapcoder.report.finding import Finding, Statistic, Verdict, number, percent, plural, step, undecidable

GOOD_EV = 0.8  # a dictionary that explains less of some snapshot says little about it
LEVEL_GROWTH = 0.05  # of the number of features with an onset after the first snapshot
LEVEL_GAIN = 0.01  # explained variance still gained in the last fifth of training
EXTENSION_LOSS = 0.02  # explained variance that an added snapshot may lack against its neighbours


def dictionary_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about reconstruction, convergence and extensions."""
    found = [_reconstruction(tables["recon_metrics"]), _convergence(tables["crosscoder_training"])]
    extensions = tables["extension_metrics"]
    return found if extensions.empty else [*found, _extensions(extensions)]


def _reconstruction(metrics: pd.DataFrame) -> Finding:
    claim, name = "The dictionary reconstructs every snapshot", "recon_metrics"
    if metrics.empty:
        return undecidable("reconstruction", "dictionary", claim, "No snapshot was scored.", name)
    base = metrics[metrics["snapshot"] >= 0].sort_values("step")
    pooled = metrics[metrics["snapshot"] == -1].iloc[0] if (metrics["snapshot"] == -1).any() else base.mean()
    ev = base["ev"].to_numpy()
    worst, best = base.iloc[int(ev.argmin())], base.iloc[int(ev.argmax())]
    sentence = (
        f"It explains {percent(pooled['ev'])} of the variance of held-out activations over all base snapshots, from "
        f"{percent(worst['ev'])} ({step(worst['step'])}) to {percent(best['ev'])} ({step(best['step'])}), with "
        f"{number(pooled['l0'], 1)} active features per token; {percent(pooled['dead'])} of its "
        f"{plural(int(pooled['dict_size']), 'feature')} never fire on held-out text."
    )
    return Finding(
        "reconstruction",
        "dictionary",
        claim,
        "found" if worst["ev"] >= GOOD_EV else "not_found",
        sentence,
        (
            Statistic("explained variance, pooled", float(pooled["ev"]), name),
            Statistic("explained variance, worst snapshot", float(worst["ev"]), name),
            Statistic("explained variance, best snapshot", float(best["ev"]), name),
            Statistic("L0", float(pooled["l0"]), name, unit="features/token"),
            Statistic("dead features", float(pooled["dead"]), name, unit="share"),
        ),
        caveat=f"Counted as found when every snapshot has at least {GOOD_EV:.0%}.",
    )


def _convergence(training: pd.DataFrame) -> Finding:
    claim, name = "Training of the dictionary has levelled off", "crosscoder_training"
    means = training.groupby("train_step", sort=True)["ev"].mean() if not training.empty else pd.Series(dtype=float)
    if len(means) < 3:
        return undecidable("convergence", "dictionary", claim, "There are fewer than three scored moments.", name)
    last = float(means.index[-1])
    before = means[means.index <= 0.8 * last]
    reference = before if len(before) else means.iloc[:1]
    gain = float(means.iloc[-1] - reference.iloc[-1])
    at = float(reference.index[-1])
    late = training[training["step"] > training["step"].min()].groupby("train_step", sort=True)["onsets"].sum()
    half = late.index[late.index <= 0.5 * last]
    middle = float(late[half[-1]]) if len(half) else float(late.iloc[0])
    growth = (float(late.iloc[-1]) - middle) / max(middle, 1.0)
    verdict: Verdict = "found" if gain < LEVEL_GAIN and growth < LEVEL_GROWTH else "not_found"
    sentence = (
        f"Mean held-out explained variance changes by {gain:+.4f} from training {step(at)} to {step(last)}, the end "
        f"({percent(float(means.iloc[-1]))}); features with a late onset went from {middle:.0f} to {late.iloc[-1]:.0f} "
        f"over the last half of training ({growth:+.0%})."
    )
    return Finding(
        "convergence",
        "dictionary",
        claim,
        verdict,
        sentence,
        (
            Statistic("change of explained variance, last fifth of training", gain, name),
            Statistic("growth of the number of late onsets, last half of training", growth, name),
        ),
        caveat=f"Counted as found below {LEVEL_GAIN} and {LEVEL_GROWTH:.0%}. Late and short-lived features are learnt last: "
        "if training has not "
        "levelled off, their number is underestimated. The learning rate decays towards the end, "
        "which also flattens the curve.",
    )


def _extensions(extensions: pd.DataFrame) -> Finding:
    claim, name = "Added snapshots are described as well as their neighbours", "extension_metrics"
    used = extensions[extensions["used"]].sort_values("step")
    gap = used["ev"] - used["ev_neighbours"]
    outside = used.loc[used["extrapolated"], "step"]
    parts = [
        f"{step(at)}: explained variance {number(ev, 3)} against {number(neighbours, 3)}, code correlation "
        f"{number(correlation)}"
        for at, ev, neighbours, correlation in zip(
            used["step"], used["ev"], used["ev_neighbours"], used["code_correlation"], strict=True
        )
    ]
    shown = parts if len(parts) <= 4 else [*parts[:4], f"and {len(parts) - 4} more"]
    verdict: Verdict = "found" if (gap >= -EXTENSION_LOSS).all() else "not_found"
    caveat = f"Counted as found when none lacks more than {EXTENSION_LOSS}. The base dictionary is frozen."
    if len(outside):
        caveat += f" Outside the range of the base snapshots, so trust less: {', '.join(step(s) for s in outside)}."
    return Finding(
        "extensions",
        "dictionary",
        claim,
        verdict,
        f"{'; '.join(shown)}.",
        (Statistic("worst gap in explained variance", float(gap.min()), name),),
        caveat=caveat,
    )
