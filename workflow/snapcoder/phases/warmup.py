"""How long the learning rate warmed up: boundaries are told as multiples of it, because they may move with it."""

import pandas as pd


def warmup_length(training_log: pd.DataFrame | None, *, told: int | None = None) -> float:
    """Return the length of the learning-rate warm-up in training steps; NaN when it is unknown or there was none.

    training_log: columns step and lr; the warm-up ends at the first step with the largest rate. A rate that is largest at
    the first row never warmed up. told: the length that the configuration gives for checkpoints without a log.
    """
    if training_log is not None and len(training_log):
        log = training_log.sort_values("step")
        peak = int(log["lr"].to_numpy().argmax())
        return float(log["step"].iloc[peak]) if peak else float("nan")
    return float(told) if told else float("nan")
