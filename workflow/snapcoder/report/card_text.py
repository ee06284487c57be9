"""Everything known about one feature, as text for a terminal."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.tables.attribution import primary_attribution

_BLOCKS = " ▁▂▃▄▅▆▇█"


def feature_card(tables: Mapping[str, pd.DataFrame], feature: int) -> str:
    """Return the card of `feature` from the tables of one layer; raises ValueError when there is no such feature.

    `tables` holds feature_timing and feature_trajectory, and any of feature_onsets, feature_stability, complexity,
    feature_examples, feature_logits and attribution.
    """
    timing = tables["feature_timing"]
    found = timing[timing["feature"] == feature]
    if found.empty:
        raise ValueError(f"feature {feature}: not in the dictionary; features are 0 to {int(timing['feature'].max())}")
    row = found.iloc[0]
    trajectory = _of(tables, "feature_trajectory", feature).sort_values("step")
    lines = [f"feature {feature}, block {row['layer']}: {row['class']}"]
    lines.append(f"  onset by norm     {_interval(row['onset_lo'], row['onset_hi'])}")
    lines.append(f"  onset by firing   {_interval(row['onset_alive_lo'], row['onset_alive_hi'])}")
    for _, proof in _of(tables, "feature_onsets", feature).iterrows():
        lines.append(f"  onset by all      {_interval(proof['onset_lo'], proof['onset_hi'])}: {proof['verdict']}")
    for _, seeds in _of(tables, "feature_stability", feature).iterrows():
        if seeds["n_seeds"]:
            lines.append(f"  found again in    {seeds['seed_shared_share']:.0%} of {seeds['n_seeds']} other seeds")
    lines.append(
        f"  peak {_number(row['peak_step'])}, present in {row['lifetime_frac']:.0%} of snapshots, firing rate {row['rate_mean']:.2%}"
    )
    lines += ["", f"  {'step':>8}  {'norm/max':>8}  {'rate':>8}"]
    for _, at in trajectory.iterrows():
        share = 0.0 if np.isnan(at["norm_rel"]) else float(at["norm_rel"])
        bar = _BLOCKS[min(8, round(8 * share))]
        lines.append(
            f"  {at['step']:>8}  {share:>8.2f}  {at['rate']:>8.3%}  {bar * 8}{' added' if at['added'] else ''}"
        )
    for _, facts in _of(tables, "complexity", feature).iterrows():
        lines += ["", f"  type {facts['type']}, complexity {_number(facts['complexity'])} of 5"]
        if facts.get("context_window", np.nan) > 0:
            lines.append(f"  needs {facts['context_window']:.0f} tokens of context (median of its strongest)")
        lines.append(f"  strongest token {facts['top_token']!r} ({facts['top_token_share']:.0%} of its activation)")
    logits = _of(tables, "feature_logits", feature)
    for moment in ("onset", "final"):
        for sign in ("promotes", "suppresses"):
            chosen = logits[(logits["moment"] == moment) & (logits["sign"] == sign)].sort_values("rank")
            if len(chosen):
                lines.append(f"  at {moment} {sign}: {' '.join(repr(token) for token in chosen['token'])}")
    examples = _of(tables, "feature_examples", feature)
    top = examples[examples["kind"] == "top"].sort_values("rank").head(5) if len(examples) else examples
    lines += ["", "  strongest examples"] if len(top) else []
    for _, example in top.iterrows():
        lines.append(f"  {example['act']:7.2f}  {_context(list(example['tokens']), int(example['focus']))}")
    carried = primary_attribution(_of(tables, "attribution", feature))
    for task, group in carried.groupby("task"):
        best = group.sort_values("rank").iloc[0]
        lines.append(f"  carries {task}: rank {best['rank']} at step {best['step']} ({best['attr']:+.3f} logits)")
    return "\n".join(lines)


def _of(tables: Mapping[str, pd.DataFrame], name: str, feature: int) -> pd.DataFrame:
    table = tables.get(name)
    return table.loc[table["feature"] == feature] if table is not None else pd.DataFrame()


def _interval(low: float, high: float) -> str:
    if np.isnan(high):
        return "never"
    return f"in or before {high:.0f}" if np.isnan(low) else f"between {low:.0f} and {high:.0f}"


def _number(value: float) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.0f}"


def _context(tokens: list[str], focus: int) -> str:
    marked = [f"[{token}]" if place == focus else token for place, token in enumerate(tokens)]
    return "".join(marked).replace("\n", "⏎").replace("\r", "⏎")
