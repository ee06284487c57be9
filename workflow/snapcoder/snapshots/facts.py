"""What the snapshots say of themselves, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

_COLUMNS = ("step", "tokens", "source", "sha256", "fingerprint", "n_parameters", "loss_fixed_batch")


def snapshot_table(facts: Sequence[Mapping[str, Any]], *, added: Sequence[int]) -> pd.DataFrame:
    """Return one row per snapshot, with the earliest snapshot that has the very same weights."""
    frame = pd.DataFrame([{key: fact[key] for key in _COLUMNS} for fact in facts]).sort_values("step")
    frame["tokens"] = frame["tokens"].astype("Int64")
    frame["added"] = frame["step"].isin(list(added))
    first = frame.groupby("fingerprint")["step"].transform("min")
    frame["duplicate_of"] = first.where(first != frame["step"]).astype("Int64")
    return frame.reset_index(drop=True)
