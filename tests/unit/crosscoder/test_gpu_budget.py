"""The closed-form memory budget is that of the tensors that a trainer allocates."""

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snapcoder.crosscoder import sparse_torch
from snapcoder.crosscoder.gradients import Activation, Step
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.sparse_entries import Gating
from snapcoder.crosscoder.training import Trainer
from snapcoder.study.crosscoder import CrosscoderSettings

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


gpu_budget = script("gpu_budget")


def n_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.fixture(scope="module")
def rows() -> Tensor:
    return torch.randn(400, 5, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("state", ["fp32", "lean"])
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_persistent_bytes_are_those_of_a_trainer(rows: Tensor, gate: str, state: str) -> None:
    settings = CrosscoderSettings(
        n_features=72, steps=3, batch_size=24, k=2, gate=gate, optimizer_state=state, init_norm=0.5, path="dense"
    )

    def read(indices: np.ndarray) -> Tensor:
        return rows[torch.from_numpy(indices)]

    steps = []

    class Kept(Trainer):
        def _computed(self, *arguments: Any, **more: Any) -> Step:
            steps.append(super()._computed(*arguments, **more))
            return steps[-1]

    trainer = Kept(read, 300, 100, settings)
    trainer.update()
    (step,) = steps
    size = gpu_budget.Size(5, 12, 72, 24, k=2, k_start=settings.k_start, gate=gate)
    needed = gpu_budget.budget(size, state=state)
    moments = [
        tensor for own in trainer.optimizer.state.values() for key, tensor in own.items() if key != "step"
    ]  # fmt: skip
    assert needed["weights"] == n_bytes(trainer.parameters.named().values())
    assert needed["optimizer"] == n_bytes(moments)
    assert needed["gradients"] == n_bytes(step.gradients.named().values())
    assert needed["error"] == n_bytes([step.error])
    assert needed["x"] == n_bytes([read(trainer.order(0))])
    tracked = trainer.tracked
    assert needed["tracked"] == n_bytes([tracked.idle, tracked.fired, step.fired, tracked.onsets])


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_bytes_of_entries_and_gating_are_those_of_a_step(rows: Tensor, gate: str) -> None:
    settings = CrosscoderSettings(n_features=400, steps=3, batch_size=24, k=2, gate=gate, init_norm=0.5)
    trainer = Trainer(lambda indices: rows[torch.from_numpy(indices)], 300, 100, settings)
    size = gpu_budget.Size(5, 12, 400, 24, k=2, gate=gate)
    needed = gpu_budget.budget(size)
    parameters, z = trainer.parameters, torch.randn(24, 400, generator=torch.Generator().manual_seed(1))
    gating = Gating.of(parameters, 0.1, None, 24, Activation(gate), Penalty("none"), torch.float32)
    entries = sparse_torch.select(z, gating, size.places)
    pointer, places = entries.by_feature(400)
    d_code, felt = torch.zeros_like(entries.value), torch.zeros_like(entries.value)
    listed = [entries.feature, entries.value, d_code, felt, entries.feature.flatten().sort().values, places]
    assert needed["z"] == n_bytes([z])
    assert needed["entries"] == n_bytes([*listed, entries.count, entries.candidates, pointer])
    assert needed["gating"] == n_bytes([parameters.norms(), gating.norm, torch.empty_like(gating.norm), gating.gate])


def test_the_large_dictionary_fits_with_lean_moments_and_not_with_those_of_adam() -> None:
    room = gpu_budget.GPU_BYTES - gpu_budget.RESERVE
    assert sum(gpu_budget.budget(gpu_budget.LARGE, state="lean").values()) < room
    assert sum(gpu_budget.budget(gpu_budget.LARGE, state="fp32").values()) > room
    # 2 · 98,304 · 32 · 768 weights of 4 bytes
    assert gpu_budget.budget(gpu_budget.LARGE)["weights"] == pytest.approx(19.33e9, rel=1e-3)


def test_operations_are_those_of_the_products() -> None:
    size = gpu_budget.Size(2, 3, 10, 7, k=0)
    assert gpu_budget.operations(size) == (2 * 10 * 6, 5 * 2 * 10 * 6)


def test_the_committed_budget_is_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_budget.main()
    assert capsys.readouterr().out == (BENCHMARKS / "gpu_budget.md").read_text(encoding="utf-8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_measurement_says_that_it_needs_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("gpu_throughput").main([]) == 2
    assert "needs a GPU" in capsys.readouterr().err


def test_the_measurement_compares_the_paths_before_it_measures() -> None:
    throughput = script("gpu_throughput")
    case = throughput.Case(3, 5, 40, 64, k=4)
    assert throughput.difference(sparse_torch, torch.device("cpu"), case) < 1e-5
    # What does not fit is a difference.
    assert throughput.difference(sparse_torch, torch.device("cpu"), case, places=1) > throughput.TOLERANCE
