"""All tests of order in one table: n-grams before features, types in turn, later and more complex, formation."""

import numpy as np
import pandas as pd

from snapcoder.evolution.order_complexity import complexity_rows
from snapcoder.evolution.order_formation import formation_rows
from snapcoder.evolution.order_ngrams import ngram_rows
from snapcoder.evolution.order_rows import FeatureTimes, feature_times
from snapcoder.evolution.order_types import type_rows
from snapcoder.study.order import OrderSettings

COLUMNS = ["layer", "question", "x", "y", "group", "onset_by", "statistic_name", "tolerance", "statistic", "effect", "ci_lo", "ci_hi",
           "p", "p_adjusted", "correction", "n", "null", "verdict", "note"]  # fmt: skip


def order_tests(
    timing: pd.DataFrame,
    complexity: pd.DataFrame,
    metrics: pd.DataFrame,
    draws: pd.DataFrame,
    formation: pd.DataFrame,
    *,
    onsets: pd.DataFrame | None,
    settings: OrderSettings,
) -> pd.DataFrame:
    """Return the order_tests table.

    timing, complexity, metrics, formation: the tables feature_timing, complexity, phase_metrics and formation_onset;
    draws: behaviour draws of all snapshots; onsets: the onsets of each feature by combined evidence, in the columns of
    feature_timing, when the study has them.
    """
    by_evidence = {"norm": timing} if onsets is None else {"norm": timing, "combined": onsets}
    groups: list[FeatureTimes] = [times for by, table in by_evidence.items() for times in feature_times(table, by)]
    steps = np.sort(metrics["step"].unique())
    rows = [
        *ngram_rows(metrics, draws, groups, settings=settings),
        *type_rows(complexity, groups, settings=settings),
        *complexity_rows(timing, complexity, groups, settings=settings),
        *formation_rows(formation, steps, groups, settings=settings),
    ]
    return pd.DataFrame(rows, columns=COLUMNS).assign(layer=int(metrics["layer"].iloc[0]))
