"""Which carriers of a task are shown, in figures and on its page, and how their timing is called."""

import numpy as np
import pandas as pd

SHOWN = 12
TIMING_LABELS = {
    "leads": "before the ability",
    "together": "not told apart",
    "lags": "after it",
    "undated": "no lasting onset",
}


def top_carriers(report: pd.DataFrame, *, most: int = SHOWN) -> pd.DataFrame:
    """Return the carriers of one task with the largest mean share of its attribution, in order of their onset."""
    chosen = report.sort_values(["share_mean", "feature"], ascending=[False, True]).head(most)
    when = chosen["onset_hi"].astype("float64").fillna(np.inf)
    first = chosen["onset_lo"].astype("float64").fillna(-1.0)
    return chosen.assign(_when=when, _first=first).sort_values(["_when", "_first", "feature"], ignore_index=True)
