"""All ablations of one task at one snapshot: three values, five rankings, two baselines, controls and sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from snapcoder.attribution.ablation import Curve, ablate_sets, ablation_curves
from snapcoder.attribution.continuation import Continuation
from snapcoder.attribution.curve_summary import (
    TaskEnds,
    curve_rows,
    matched_tests,
    nonadditivity,
    summary_rows,
)
from snapcoder.attribution.gradients import metric_ends, path_gradient
from snapcoder.attribution.prompt_codes import SnapshotDictionary
from snapcoder.attribution.rankings import (
    ablation_sizes,
    by_order,
    decile_cells,
    matched_rankings,
    norm_order,
    random_rankings,
)
from snapcoder.attribution.task_prompts import TaskPrompts
from snapcoder.attribution.units import (
    Replacement,
    Units,
    direction_attributions,
    direction_replacement,
    feature_replacements,
)
from snapcoder.storage.task_examples import cluster_ids
from snapcoder.study.analysis import TaskSettings
from snapcoder.tasks.intervals import bootstrap_weights
from snapcoder.tasks.selection import task_rng

_PATH_POINTS = 9  # of the midpoint rule that ranks the baselines; more change no place in the ranking that matters


@dataclass(frozen=True)
class TaskAblation:
    """One task at one snapshot: the examples that rank, others that are scored, and what is ablated.

    orders: all features [feature] by attribution, attr_here and perhaps attr_final; mean [feature]: mean gated code over
    the snapshot's cached rows; baselines: see `units.baseline_units`.
    """

    task: str
    ranking: TaskPrompts
    evaluation: TaskPrompts
    here: SnapshotDictionary
    orders: Mapping[str, np.ndarray]
    mean: np.ndarray
    baselines: Mapping[str, Units]
    settings: TaskSettings

    @cached_property
    def changing(self) -> np.ndarray:
        """Features that differ between a clean and a patch prompt that rank, [feature] bool."""
        return np.asarray(abs(self.ranking.delta).sum(axis=0)).ravel() > 0

    @cached_property
    def norm(self) -> np.ndarray:
        """Decoder norms at this snapshot [feature]."""
        return np.linalg.norm(self.here.decoder, axis=1)

    @property
    def control_sizes(self) -> tuple[int, ...]:
        """Sizes of random and matched controls, smaller than the dictionary."""
        return tuple(sorted(k for k in self.settings.control_sizes if 0 < k < len(self.mean)))

    @property
    def n_single(self) -> int:
        """Features that are also ablated one by one."""
        return min(self.settings.single_features, len(self.mean) - 1)


def ablate_task(run: Continuation, of: TaskAblation) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ABLATION_CURVES and ABLATION_SUMMARY rows without their place.

    All three ablations are run for attr_here; the other rankings, controls and baselines for resample only, the contrast
    that the attribution was computed for, and controls at `control_sizes`.
    """
    clean, patch = metric_ends(run, of.evaluation, batch_tokens=of.settings.batch_tokens)
    rng = np.random.default_rng(of.settings.seed)
    weights = bootstrap_weights(cluster_ids(of.evaluation.examples), draws=of.settings.bootstrap, rng=rng)
    ends = TaskEnds(clean, patch, weights)
    replacements = feature_replacements(of.evaluation, of.here, of.mean)
    curves = _ranked(run, of, replacements, clean)
    controls, exact = _controls(run, of, replacements["resample"], clean)
    curves += controls + _baselines(run, of, clean)
    tests = matched_tests(curves)
    summary = summary_rows(curves, ends, tests)
    main = (summary["ranking"] == "attr_here") & (summary["ablation"] == "resample") & (summary["unit"] == "feature")
    sums = _sums(run, of, replacements["resample"], ends)
    for name, value in sums.items():
        summary[name] = np.where(main & (summary["mode"] == "disrupt"), value, np.nan)
    summary["matched_exact"] = summary["matched_k"].map(exact).astype(float)
    return curve_rows(curves, ends, tests), summary


def _ranked(
    run: Continuation, of: TaskAblation, replacements: Mapping[str, Replacement], clean: np.ndarray
) -> list[Curve]:
    grid = (*of.settings.k_grid, *of.control_sizes)
    ks = ablation_sizes(grid, of.settings.k_shares, len(of.mean))
    orders = {**of.orders, "norm": norm_order(of.norm, of.changing)}
    ranked = [by_order(name, order, ks) for name, order in orders.items()]
    curves = []
    for name, replacement in replacements.items():
        compared = ranked if name == "resample" else [one for one in ranked if one.name == "attr_here"]
        curves += ablation_curves(
            run, of.evaluation, replacement, compared, clean, batch_tokens=of.settings.batch_tokens
        )
    return curves


def _controls(
    run: Continuation, of: TaskAblation, replacement: Replacement, clean: np.ndarray
) -> tuple[list[Curve], dict[int, float]]:
    """Return curves of random and matched features, and the share of matched ones of the very decile, by size."""
    settings, ranking = of.settings, of.ranking
    rng = task_rng(f"random rankings of {of.task}", settings.seed)
    ranked = random_rankings(of.changing, of.control_sizes, draws=settings.random_draws, rng=rng)
    fired = np.asarray((ranking.clean_code > 0).sum(axis=0) + (ranking.patch_code > 0).sum(axis=0)).ravel()
    matched, exact = matched_rankings(
        of.orders["attr_here"],
        decile_cells(of.norm, fired),
        of.control_sizes,
        draws=settings.matched_draws,
        seed=(settings.seed, *f"matched {of.task}".encode()),
    )
    size = settings.batch_tokens
    curves = ablation_curves(run, of.evaluation, replacement, [*ranked, *matched], clean, batch_tokens=size)
    return curves, exact


def _baselines(run: Continuation, of: TaskAblation, clean: np.ndarray) -> list[Curve]:
    """Return curves of neurons and principal directions, ranked by the same path gradient as features are."""
    size = of.settings.batch_tokens
    gradient = path_gradient(run, of.ranking, points=_PATH_POINTS, batch_tokens=size).gradient
    curves = []
    for units in of.baselines.values():
        attributed = direction_attributions(of.ranking, gradient, units)
        order = np.argsort(-np.abs(attributed), kind="stable")
        ks = ablation_sizes(of.settings.k_grid, of.settings.k_shares, len(order))
        replacement = direction_replacement(of.evaluation, units)
        ranked = [by_order("attr_here", order, ks)]
        curves += ablation_curves(run, of.evaluation, replacement, ranked, clean, batch_tokens=size)
    return curves


def _sums(run: Continuation, of: TaskAblation, replacement: Replacement, ends: TaskEnds) -> dict[str, float]:
    """Return `nonadditivity` of the top features, ablated one by one and together."""
    top = of.orders["attr_here"][: of.n_single]
    sets = [top, *top[:, None]]
    size = of.settings.batch_tokens
    values = ablate_sets(run, of.evaluation, replacement, sets, ends.clean, modes=("disrupt",), batch_tokens=size)
    metric = values[:, 0]
    return nonadditivity(metric[0], metric[1:], ends)
