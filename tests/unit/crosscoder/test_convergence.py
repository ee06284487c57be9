"""The signs that late features are still being learnt: counted by hand, and read off planted runs."""

import math

import numpy as np
import pytest
import torch
from planted import plant

from snapcoder.crosscoder.convergence import late_growth, onset_counts, onsets
from snapcoder.crosscoder.training import train
from snapcoder.study.crosscoder import CrosscoderSettings


def test_onsets_are_the_first_snapshot_at_half_the_largest_norm_of_live_features() -> None:
    norms = torch.tensor([[1.0, 0.1, 0.0, 0.6], [1.0, 0.5, 0.2, 0.1], [0.2, 1.0, 0.9, 1.0]])
    assert onsets(norms, torch.tensor([True, True, True, False])).tolist() == [0, 1, 2, -1]


def test_new_onsets_are_those_that_were_elsewhere_before() -> None:
    now, before = torch.tensor([0, 0, 1, 2, -1]), torch.tensor([0, 1, 1, -1, 2])
    assert onset_counts(now, before, 4) == ([2, 1, 1, 0], [0.5, 0.0, 1.0, 0.0])
    assert onset_counts(now, None, 3) == ([2, 1, 1], [1.0, 1.0, 1.0])


def test_late_growth_compares_the_end_with_the_middle() -> None:
    rows = [
        {"train_step": step, "snapshot": s, "onsets": count}
        for step, counts in ((50, (9, 4, 0)), (100, (9, 6, 2)), (200, (9, 8, 4)))
        for s, count in enumerate(counts)
    ]
    assert late_growth(rows) == (12, pytest.approx(0.5))
    assert math.isnan(late_growth(rows[:3])[1])


def test_a_short_run_is_seen_to_learn_late_features_still_and_a_long_one_is_not() -> None:
    world = plant(n_rows=7000, n_snapshots=6, d_model=24, n_features=40, l0=4, seed=5)
    x = torch.from_numpy((world.activations / world.scale[:, None]).astype(np.float32))
    growth = {}
    for steps in (100, 600):
        settings = CrosscoderSettings(
            n_features=64, k=5, steps=steps, batch_size=256, precision="fp32", eval_every=steps // 4
        )
        trained = train(lambda rows: x[torch.from_numpy(rows)], n_train=6000, n_heldout=1000, settings=settings)
        late, growth[steps] = late_growth(trained.history)
        assert 0 < late <= 64
    assert growth[100] > 0.3
    assert growth[600] < 0.05
