"""Whether previous-token features start before induction features, and these before contextual ones."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from snapcoder.evolution.multiplicity import holm
from snapcoder.evolution.order_rows import UNDEFINED, FeatureTimes, Rows, corrected, verdict_of_effect
from snapcoder.evolution.ordered_groups import interval_scores, ordered_groups_test
from snapcoder.study.order import OrderSettings

ORDER = ("prev_token", "induction", "contextual")
FEW_PER_TYPE = 5
_NULL = "types permuted among the features"


def type_rows(complexity: pd.DataFrame, groups: Sequence[FeatureTimes], *, settings: OrderSettings) -> Rows:
    """Return the rows of `type_order` (all three types) and `type_pair` (two of them), per evidence and group."""
    kind = complexity.set_index("feature")["type"]
    trends: dict[str, Rows] = {}
    pairs: Rows = []
    for times in groups:
        types = kind.reindex(times.feature).to_numpy(dtype=object)
        trends.setdefault(times.by, []).append(_row("type_order", ORDER, types, times, settings))
        family = [_row("type_pair", pair, types, times, settings) for pair in combinations(ORDER, 2)]
        pairs += corrected(family, holm, "Holm")
    joined = [row for family in trends.values() for row in corrected(family, holm, "Holm")] + pairs
    return [
        {
            **{key: value for key, value in row.items() if key != "enough"},
            "verdict": verdict_of_effect(
                row["effect"], row["ci_hi"], row["p_adjusted"], smallest=settings.smallest_effect, enough=row["enough"]
            ),
        }
        for row in joined
    ]


def _row(
    question: str, order: tuple[str, ...], types: np.ndarray, times: FeatureTimes, settings: OrderSettings
) -> dict:
    distinct, counts, index = times.counts()
    by_type = np.stack([np.bincount(index[types == name], minlength=len(counts)) for name in order])
    sizes = by_type.sum(axis=1)
    enough = bool((sizes >= FEW_PER_TYPE).all())
    note = ", ".join(f"{name} {size}" for name, size in zip(order, sizes, strict=True))
    row = {
        "question": question, "x": " < ".join(order), "y": "onset", "group": times.group, "onset_by": times.by,
        "statistic_name": "jonckheere_terpstra", "n": int(sizes.sum()), "null": _NULL,
        "enough": enough, "note": note if enough else f"{note}; fewer than {FEW_PER_TYPE} of a type: no verdict",
    }  # fmt: skip
    if not (sizes > 0).all():
        return {**row, **UNDEFINED}
    scores = interval_scores(distinct.lo, distinct.hi)
    result = ordered_groups_test(
        by_type, scores, permutations=settings.permutations, bootstrap=settings.bootstrap, seed=settings.seed
    )
    return {
        **row, "statistic": result.statistic, "effect": result.effect, "ci_lo": result.ci_lo, "ci_hi": result.ci_hi,
        "p": result.p,
    }  # fmt: skip
