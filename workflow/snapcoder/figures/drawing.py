"""From the name of a figure to the figure."""

from collections.abc import Callable, Mapping

import pandas as pd
from matplotlib.figure import Figure as Canvas

from snapcoder.figures import (
    ablation,
    attribution_truth,
    behaviour,
    boundaries,
    complexity,
    controls,
    dimensionality,
    formation,
    pareto,
    phases,
    presence,
    reconstruction,
    rotation,
    sensitivity,
    tasks,
    timing,
    training,
    trajectories,
)
from snapcoder.figures.catalogue import Figure
from snapcoder.figures.style import house_style

DRAW: Mapping[str, Callable[[Mapping[str, pd.DataFrame]], Canvas]] = {
    "phases": phases.draw_phases,
    "phases_linear": phases.draw_phases_linear,
    "ngram_text": behaviour.draw_ngram_text,
    "token_class_loss": behaviour.draw_token_class_loss,
    "boundaries": boundaries.draw_boundaries,
    "onset_histogram": timing.draw_onset_histogram,
    "sensitivity": sensitivity.draw_sensitivity,
    "lifetime_histogram": timing.draw_lifetime_histogram,
    "norm_trajectories": trajectories.draw_norm_trajectories,
    "norm_heatmap": trajectories.draw_norm_heatmap,
    "rate_heatmap": trajectories.draw_rate_heatmap,
    "presence_evidence": presence.draw_presence_evidence,
    "cosine_matrix": rotation.draw_cosine_matrix,
    "rotation_rate": rotation.draw_rotation_rate,
    "dimensionality": dimensionality.draw_dimensionality,
    "complexity_onset": complexity.draw_complexity_onset,
    "context_window": complexity.draw_context_window,
    "formation": formation.draw_formation,
    "task_performance": tasks.draw_task_performance,
    "attribution": tasks.draw_attribution,
    "attribution_truth": attribution_truth.draw_attribution_truth,
    "ablation": ablation.draw_ablation,
    "ablation_baselines": ablation.draw_ablation_baselines,
    "reconstruction": reconstruction.draw_reconstruction,
    "crosscoder_training": reconstruction.draw_crosscoder_training,
    "pareto": pareto.draw_pareto,
    "controls": controls.draw_controls,
    "training": training.draw_training,
}


def draw(figure: Figure, tables: Mapping[str, pd.DataFrame]) -> Canvas:
    """Draw one figure of the catalogue; a table that the study lacks counts as empty."""
    given = {name: tables.get(name, pd.DataFrame()) for name in figure.tables}
    with house_style():
        return DRAW[figure.name](given)
