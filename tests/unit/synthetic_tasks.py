"""Made-up tables about tasks: one is acquired and carried by a few features, one is not, one was dropped."""

import numpy as np
import pandas as pd
from synthetic_sizes import ADDED, HOSTILE, LAYER, N_FEATURES, STEPS

from snapcoder.attribution.carriers import FeatureHistory
from snapcoder.attribution.connection import connect
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders
from snapcoder.study.carriers import CarrierSettings


def task_tables(rng) -> dict[str, pd.DataFrame]:
    tasks = pd.DataFrame(
        [
            {"task": "agreement_his_their", "kind": "agreement", "attributable": True, "n_examples": 120,
             "n_clusters": 120, "n_rejected": 8, "status": "ready", "reason": ""},
            {"task": "induction", "kind": "induction", "attributable": True, "n_examples": 200, "n_clusters": 200,
             "n_rejected": 0, "status": "ready", "reason": ""},
            {"task": "cloze_beyond_trigram", "kind": "cloze", "attributable": True, "n_examples": 100, "n_clusters": 90,
             "n_rejected": 2900, "status": "ready", "reason": ""},
            {"task": "cloze_within_trigram", "kind": "cloze", "attributable": True, "n_examples": 100, "n_clusters": 90,
             "n_rejected": 2900, "status": "ready", "reason": ""},
            {"task": "rare$pair", "kind": "agreement", "attributable": True, "n_examples": 7, "n_clusters": 7, "n_rejected": 90,
             "status": "dropped", "reason": "7 examples, fewer than 40"},
        ]
    )  # fmt: skip
    performance, attribution, quality, positions, curves, summary = [], [], [], [], [], []
    for i, step in enumerate(STEPS):
        for task, accuracy in (("agreement_his_their", 0.5 if i < 6 else 0.75 + 0.02 * i), ("induction", 0.51)):
            good = accuracy > 0.6
            age = dict(zip(("aoa_step", "aoa_lo", "aoa_hi", "aoa_se"), (400.0, 320.0, 500.0, 0.05), strict=True))
            performance.append(
                {"task": task, "step": step, "n": 100, "accuracy": accuracy, "accuracy_ci_lo": accuracy - 0.08,
                 "accuracy_ci_hi": min(1, accuracy + 0.08), "logit_diff": 4 * (accuracy - 0.5),
                 "logit_diff_ci_lo": 4 * (accuracy - 0.5) - 0.2, "logit_diff_ci_hi": 4 * (accuracy - 0.5) + 0.2,
                 "prob_correct": 0.2, "loss_answer": 2.0, "chance": 0.5, "acquired": good, "status": "scored",
                 "attributable": True, **(age if task == "agreement_his_their" else {})}
            )  # fmt: skip
            for method in ("ig", "atp") if good else ("ig",):
                quality.append(
                    {"task": task, "step": step, "method": method, "baseline": "corrupted",
                     "status": "attributed" if good else "not_acquired", "reason": "" if good else "not above chance",
                     "metric_clean": 1.2, "metric_base": -1.2, "completeness_gap": 0.02 if good else np.nan,
                     "ig_steps": 9 if good else 0, "tried_steps": [3, 9] if good else [],
                     "tried_gaps": [0.2, 0.02] if good else [], "error_share": 0.06 if good else np.nan, "n_tested": 30,
                     "n_significant": 4, "n_exact_top": 3, "n_exact_random": 2, "exact_slope": 1.1, "exact_r": 0.97,
                     "exact_r2": 0.9, "exact_sign": 0.9, "exact_r_top": 0.96, "exact_sign_top": 1.0, "exact_r_random": 0.5,
                     "exact_sign_random": 0.5, "exact_r_heldout": 0.8, "linear": "yes" if good else "unknown",
                     "n_examples": 32, "n_clusters": 30}
                )  # fmt: skip
            if not good:
                continue
            for rank, feature in enumerate([3, 7, 11, 20, 25] if i % 2 else [7, 3, 11, 20, 25], 1):
                attr = 1.2 / rank * (1 if rank % 4 else -1)
                for method, swapped in (("ig", feature), ("atp", 28 - feature)):
                    attribution.append(
                        {"task": task, "step": step, "feature": swapped, "method": method, "ig_steps": 9,
                         "baseline": "corrupted", "attr": attr, "attr_se": 0.05, "attr_abs_mean": 1.3 / rank,
                         "attr_share": 0.4 / rank, "rank": rank, "position_max": 1 - rank, "delta_f": 0.8, "grad_mean": attr / 0.8,
                         "p_signflip": 0.001 * rank, "q_bh": 0.01 * rank, "exact_effect": 0.9 * attr,
                         "exact_effect_heldout": 0.8 * attr, "n_examples": 32}
                    )  # fmt: skip
            for example, length in ((4, 3), (9, 4)):
                for feature in (-2, -1, 3, 7):
                    positions += [
                        {"task": task, "step": step, "example": example, "feature": feature, "position": place,
                         "token": HOSTILE if place == 1 else f" tok{place}", "attr": 0.2 * place - 0.1}
                        for place in range(length)
                    ]  # fmt: skip
            curves += _curves(task, step)
            summary += _curve_summaries(task, step)
    performance += _cloze()
    performance.append(
        {"task": "rare$pair", "step": 0, "n": 0, "chance": 0.5, "acquired": False, "status": "dropped", "attributable": True}
    )  # fmt: skip
    return {
        **_through_the_dictionary(),
        "tasks": tasks, "task_performance": pd.DataFrame(performance), "attribution": pd.DataFrame(attribution),
        "attribution_quality": pd.DataFrame(quality), "attribution_positions": pd.DataFrame(positions),
        "ablation_curves": pd.DataFrame(curves), "ablation_summary": pd.DataFrame(summary),
    }  # fmt: skip


def carrier_tables(made: dict[str, pd.DataFrame], rng) -> dict[str, pd.DataFrame]:
    """What the step attribution_report makes of the other tables, few draws; decoders are random."""
    decoders = tuple(rng.normal(size=(N_FEATURES, 8)).astype(np.float32) for _ in STEPS)
    n = len(STEPS)
    found = connect(
        made["attribution"],
        made["task_performance"],
        FeatureHistory.of(made["feature_trajectory"], made["feature_onsets"]),
        SnapshotDecoders(
            STEPS, tuple(step in ADDED for step in STEPS), decoders, np.zeros((n, N_FEATURES)), np.ones(n),
            np.zeros((n, 8)), "per_snapshot", LAYER,
        ),
        settings=CarrierSettings(top=3, bootstrap=100, permutations=100),
    )  # fmt: skip
    return {
        "relie": found.relie, "relie_check": found.check, "attribution_report": found.report,
        "task_feature_timing": found.timing, "handover": found.handover,
    }  # fmt: skip


_REACH = {("attr_here", "feature"): 4, ("attr_final", "feature"): 6, ("norm", "feature"): 40, ("attr_here", "neuron"): 20,
          ("attr_here", "pca"): 15, ("random", "feature"): 60, ("matched", "feature"): 45}  # fmt: skip
"""Of each ranking and unit, the k at which all but 1/e of the effect is reached."""


def _curves(task, step):
    rows = []
    for (ranking, unit), reach in _REACH.items():
        everything = N_FEATURES if unit == "feature" else 32
        control = ranking in ("random", "matched")
        several = unit == "feature" and not control
        for mode in ("disrupt", "restore"):
            for ablation in ("resample", "mean", "zero") if several and ranking == "attr_here" else ("resample",):
                for draw in range(3 if control else 1):
                    for k in (10, 20) if control else (0, 1, 2, 5, 10, 20, everything):
                        share = 1 - np.exp(-k / reach) if k < everything else 1.0
                        faith = 1 - share if mode == "disrupt" else share
                        metric = (2.4 if ablation == "resample" else 1.6) * (faith - 0.5) + 0.02 * draw
                        rows.append(
                            {"task": task, "step": step, "mode": mode, "ranking": ranking, "ablation": ablation, "unit": unit,
                             "k": k, "draw": draw, "metric": metric, "metric_ci_lo": metric - 0.2,
                             "metric_ci_hi": metric + 0.2, "accuracy": 0.5, "faithfulness": faith, "n_examples": 32}
                        )  # fmt: skip
    return rows


def _curve_summaries(task, step):
    rows = []
    for (ranking, unit), reach in _REACH.items():
        if ranking in ("random", "matched"):
            continue
        half = reach * np.log(2)
        for mode in ("disrupt", "restore"):
            for ablation in (
                ("resample", "mean", "zero") if (ranking, unit) == ("attr_here", "feature") else ("resample",)
            ):
                main = (ranking, unit, ablation) == ("attr_here", "feature", "resample")
                tested = {"matched_k": 10, "matched_exact": 0.9, "percentile_vs_matched": 1.0, "p_matched_holm": 0.03}
                summed = {
                    "nonadditivity_k": 10,
                    "single_sum": 2.5,
                    "nonadditivity": -0.3,
                    "nonadditivity_ci_lo": -0.5,
                    "nonadditivity_ci_hi": -0.1,
                }
                rows.append(
                    {"task": task, "step": step, "mode": mode, "ranking": ranking, "ablation": ablation, "unit": unit,
                     "n_units": N_FEATURES if unit == "feature" else 32, "effect": 2.4, "effect_share": 0.9, "k50": half,
                     "k50_ci_lo": half - 1, "k50_ci_hi": half + 1, "cpr": 0.9, "cpr_ci_lo": 0.85, "cpr_ci_hi": 0.95,
                     "cmd": 0.1, "cmd_ci_lo": 0.05, "cmd_ci_hi": 0.15, "n_examples": 32,
                     **(tested if main else {}), **(summed if main and mode == "disrupt" else {})}
                )  # fmt: skip
    return rows


def _cloze() -> list[dict]:
    """Within the trigram from step 64 on, beyond it from step 512 on; right on all at the end, by selection."""
    rows = []
    for task, start in (("cloze_within_trigram", 64), ("cloze_beyond_trigram", 512)):
        for step in STEPS:
            accuracy = 1.0 if step == STEPS[-1] else 0.85 if step >= start else 0.5
            rows.append(
                {"task": task, "step": step, "n": 100, "accuracy": accuracy, "accuracy_ci_lo": accuracy - 0.07 * (accuracy < 1),
                 "accuracy_ci_hi": min(1, accuracy + 0.07), "logit_diff": 4 * (accuracy - 0.5),
                 "logit_diff_ci_lo": 4 * (accuracy - 0.5) - 0.2, "logit_diff_ci_hi": 4 * (accuracy - 0.5) + 0.2,
                 "prob_correct": 0.2, "loss_answer": 2.0, "chance": 0.5, "acquired": step >= start, "status": "scored",
                 "attributable": True}
            )  # fmt: skip
    return rows


def _through_the_dictionary() -> dict[str, pd.DataFrame]:
    """The reconstruction keeps nine tenths of the loss and of the one task that is acquired; early on there is nothing to keep."""
    losses, tasks, scores = [], [], []
    for i, step in enumerate(STEPS):
        clean, mean = 6.2 - 0.38 * i, 6.3 if i < 2 else 8.0
        rebuilt = mean - (0.9 + 0.01 * (i - 9)) * (mean - clean)
        for name, loss in (("clean", clean), ("reconstructed", rebuilt), ("mean", mean), ("zero", mean + 3)):
            known = name in ("mean", "zero") and i >= 2
            share = (loss - rebuilt) / (loss - clean) if known else np.nan
            losses.append(
                {"step": step, "activation": name, "loss": loss, "loss_ci_lo": loss - 0.1, "loss_ci_hi": loss + 0.1,
                 "kl": 0.0 if name == "clean" else loss - clean, "recovered": share, "recovered_ci_lo": share - 0.02,
                 "recovered_ci_hi": share + 0.02, "n_tokens": 5000, "n_documents": 70}
            )  # fmt: skip
        for task in ("agreement_his_their", "induction"):
            share = 0.9 if task != "induction" and i >= 6 else np.nan
            tasks.append(
                {"task": task, "step": step, "n": 24, "accuracy_clean": 0.8, "accuracy": 0.75, "accuracy_ci_lo": 0.6,
                 "accuracy_ci_hi": 0.9, "logit_diff_clean": 1.2, "logit_diff_patch": -1.2, "logit_diff": 0.96,
                 "logit_diff_ci_lo": 0.5, "logit_diff_ci_hi": 1.4, "recovered": share, "recovered_ci_lo": share - 0.1,
                 "recovered_ci_hi": share + 0.1}
            )  # fmt: skip
        scores.append({"step": step, "source": "model", "task": "text", "metric": "loss", "value": clean, "n": 5000})
    return {
        "reconstruction_loss": pd.DataFrame(losses), "task_reconstruction": pd.DataFrame(tasks),
        "downstream_performance": pd.DataFrame(scores),
    }  # fmt: skip
