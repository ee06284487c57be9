"""The benchmark of attribution counts passes where they happen; its bound holds by that count, on any machine."""

import argparse
import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "benchmarks" / "attribution_cost.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("attribution_cost", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ten_points_cost_eleven_gradients_and_one_forward_pass_per_example(benchmark):
    options = argparse.Namespace(
        examples=7, tokens=5, points=10, snapshots=1, layers=2, width=32, features=96, repeats=1
    )
    row = benchmark.measure(options, seed=0)
    assert (row["both"], row["forward"]) == (11, 1)
    assert row["both"] + row["forward"] / 3 <= 12
    assert 0 < row["checks"] <= 31  # a clean pass, and at most one for each of 30 features
    text = benchmark.report(options, [row])
    assert "| 11 | 1 | 11.33 |" in text
