"""Types of features planted in synthetic text, at several levels of noise; seeds on which no rule was settled."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from feature_types import confusion, recall
from planted_detectors import NOISES, TYPES

LEAST = {  # share of each type that must be recognised
    "none": dict.fromkeys(TYPES, 0.9),
    "little": dict.fromkeys(TYPES, 0.9),
    "moderate": {**dict.fromkeys(TYPES, 0.9), "bigram": 0.8},
    "strong": {**dict.fromkeys(TYPES, 0.8), "bigram": 0.45},
}


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_planted_detectors_are_recognised_at_every_level_of_noise(noise):
    counts = confusion(noise, seeds=range(101, 103), per_kind=20, n_sequences=800)
    assert (counts.loc[list(TYPES)].sum(axis=1) == 40).all()
    found = recall(counts)
    assert {kind: share for kind, share in found.items() if share < LEAST[noise.name][kind]} == {}


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_what_needs_wide_context_is_hardly_ever_called_a_lookup(noise):
    counts = confusion(noise, seeds=range(103, 105), per_kind=20, n_sequences=800)
    lookups = counts.loc[["contextual", "unclear", "induction"], ["token", "prev_token", "bigram", "positional"]]
    assert lookups.to_numpy().sum() <= 2  # of 120
