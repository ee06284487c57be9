"""The sparse path of a GPU gives what the dense path gives: in torch operations, and by Triton's interpreter.

Triton decides at its import whether it interprets, so that the kernels' cases run in a process of their own: this file
again, with TRITON_INTERPRET=1. They are also compiled for GPUs, which needs none.
"""

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from dense_auxiliary import assert_added_as_dense, assert_nothing_added
from hypothesis import given, settings
from hypothesis import strategies as st
from never_reading import WithoutReading
from torch import Tensor

from snapcoder.crosscoder import sparse_torch
from snapcoder.crosscoder.auxiliary import Opened
from snapcoder.crosscoder.gates import batch_threshold, device_batch_threshold, gate_norms
from snapcoder.crosscoder.gradients import Activation, Step, loss_and_gradients
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters, encode, initialise
from snapcoder.crosscoder.sparse_auxiliary_gpu import add_auxiliary_on_gpu
from snapcoder.crosscoder.sparse_entries import Entries, Gating
from snapcoder.crosscoder.sparse_gpu import Capacity, gpu_loss_and_gradients, kernels_for

PENALTIES = [Penalty("none"), Penalty("l1", 0.3), Penalty("tanh", 0.2, 4.0), Penalty("tanh_quad", 0.2, 4.0, 0.05)]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
KERNELS = importlib.import_module("snapcoder.crosscoder.sparse_triton") if INTERPRETED else sparse_torch
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def planted(
    seed: int,
    *,
    tokens: int = 4,
    snapshots: int = 4,
    width: int = 6,
    features: int = 8,
    dtype: torch.dtype = torch.float64,
) -> tuple[Parameters, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    start = initialise(snapshots, width, features, norm=1.0, threshold=0.4, generator=generator)

    def shaken(tensor: Tensor) -> Tensor:
        moved = tensor.double()
        return (moved + 0.3 * torch.randn(moved.shape, generator=generator, dtype=torch.float64)).to(dtype)

    x = torch.randn(tokens, snapshots, width, generator=generator, dtype=torch.float64)
    return start.map(shaken), x.to(dtype)


def on_gpu_path(
    parameters: Parameters,
    x: Tensor,
    threshold: Tensor | float,
    activation: Activation,
    penalty: Penalty,
    *,
    capacity: Capacity | None = None,
    kernels: ModuleType = KERNELS,
    **more: Tensor,
) -> Step:
    z = encode(parameters, x)
    room = capacity or Capacity(parameters.n_features)
    return gpu_loss_and_gradients(
        parameters, x, z, threshold, activation=activation, penalty=penalty, capacity=room, kernels=kernels, **more
    )


def assert_same(expected: Step, step: Step, *, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    assert float(step.reconstruction) == pytest.approx(expected.reconstruction, rel=rtol)
    assert float(step.sparsity) == pytest.approx(expected.sparsity, rel=rtol)
    torch.testing.assert_close(step.error, expected.error, rtol=rtol, atol=atol)
    assert torch.equal(step.fired, expected.fired)
    for name, gradient in step.gradients.named().items():
        torch.testing.assert_close(gradient, getattr(expected.gradients, name), rtol=rtol, atol=atol, msg=name)


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: penalty.kind)
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_the_step_is_that_of_the_dense_path(gate: str, penalty: Penalty, learns: bool) -> None:
    parameters, x = planted(1)
    activation = Activation(gate, learns_threshold=learns, window=0.5, include_negative=False)
    cut = parameters.log_threshold.exp()
    dense = loss_and_gradients(parameters, x, encode(parameters, x), cut, activation=activation, penalty=penalty)
    step = on_gpu_path(parameters, x, cut, activation, penalty)
    # Triton's float64 tanh near 0 is a series made for float32.
    assert_same(dense, step, rtol=1e-7 if INTERPRETED else 1e-9)
    assert dense.gradients.decoder.abs().sum() > 0
    assert bool(step.gradients.log_threshold.abs().sum() > 0) == learns


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_a_threshold_raised_by_token_is_obeyed(gate: str) -> None:
    parameters, x = planted(2)
    lift = torch.rand(4 if gate == "per_snapshot" else 1, len(x), dtype=torch.float64)
    shared = {"activation": Activation(gate), "penalty": Penalty("none"), "lift": lift}
    dense = loss_and_gradients(parameters, x, encode(parameters, x), 0.2, **shared)  # type: ignore[arg-type]
    assert_same(dense, on_gpu_path(parameters, x, 0.2, Activation(gate), Penalty("none"), lift=lift))


@pytest.mark.parametrize("gate, snapshots, width", [("per_snapshot", 17, 96), ("shared", 17, 96), ("shared", 2, 768)])
def test_float32_at_sizes_that_are_no_powers_of_two(gate: str, snapshots: int, width: int) -> None:
    parameters, x = planted(3, tokens=2, snapshots=snapshots, width=width, features=7, dtype=torch.float32)
    z, wide = encode(parameters, x), parameters.map(torch.Tensor.double)
    cut = 0.1 * float((z * parameters.norms().amax(dim=0)).amax())
    shared = {"activation": Activation(gate), "penalty": Penalty("tanh", 0.2)}
    exact = loss_and_gradients(wide, x.double(), z.double(), cut, **shared)  # type: ignore[arg-type]
    step = gpu_loss_and_gradients(parameters, x, z, cut, **shared, capacity=Capacity(7), kernels=KERNELS)  # type: ignore[arg-type]
    assert exact.fired.any()
    assert torch.equal(step.fired, exact.fired)
    assert float(step.reconstruction) == pytest.approx(exact.reconstruction, rel=1e-5)
    assert float(step.sparsity) == pytest.approx(exact.sparsity, rel=1e-5)
    for name, gradient in step.gradients.named().items():
        expected = getattr(exact.gradients, name)
        off = float((gradient.double() - expected).abs().amax())
        assert off <= 1e-5 * float(expected.abs().amax()), name  # of the largest: sums cancel


def test_bfloat16_weights_and_activations_are_summed_in_float32() -> None:
    parameters, x = planted(4, tokens=3, snapshots=3, width=40, features=7, dtype=torch.bfloat16)
    z, activation, penalty = encode(parameters, x).float(), Activation("per_snapshot"), Penalty("tanh", 0.2)
    wide = parameters.map(torch.Tensor.double)
    exact = loss_and_gradients(wide, x.double(), z.double(), 3.0, activation=activation, penalty=penalty)
    step = gpu_loss_and_gradients(
        parameters, x, z, 3.0, activation=activation, penalty=penalty, capacity=Capacity(7), kernels=KERNELS
    )
    assert exact.fired.any()
    assert step.error.dtype == torch.float32
    torch.testing.assert_close(step.error.double(), exact.error, rtol=1e-4, atol=1e-6)
    for name, gradient in step.gradients.named().items():
        assert gradient.dtype == torch.bfloat16, name  # the rounding of the result is the only one
        torch.testing.assert_close(gradient.double(), getattr(exact.gradients, name), rtol=2**-7, atol=1e-5, msg=name)


@settings(max_examples=4 if INTERPRETED else 25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    tokens=st.integers(1, 5),
    snapshots=st.integers(1, 5),
    features=st.integers(1, 12),
    threshold=st.floats(0.0, 5.0),
)
def test_any_shape_and_threshold(seed: int, tokens: int, snapshots: int, features: int, threshold: float) -> None:
    parameters, x = planted(seed, tokens=tokens, snapshots=snapshots, features=features)
    shared = {"activation": Activation("per_snapshot"), "penalty": Penalty("none")}
    dense = loss_and_gradients(parameters, x, encode(parameters, x), threshold, **shared)  # type: ignore[arg-type]
    assert_same(dense, on_gpu_path(parameters, x, threshold, Activation("per_snapshot"), Penalty("none")))


def entries_of(z: Tensor, places: int, cut: float = 0.2) -> Entries:
    """Select from z as one snapshot's decoder of norm 1 would."""
    ones = torch.ones(z.shape[1], 1, dtype=z.dtype)
    gating = Gating(ones, ones, 0 * ones[:, 0] + cut, 0 * z[:, :1].T, half_window=0.0, kind=0, stretch=1.0)
    return KERNELS.select(z, gating, places)


def test_of_too_many_candidates_the_largest_are_kept() -> None:
    z = torch.randn(7, 40, generator=torch.Generator().manual_seed(5))
    entries = entries_of(z, 6)
    for token in range(len(z)):
        passing = torch.nonzero(z[token] > 0.2).flatten()
        kept = passing[z[token, passing].argsort(descending=True)][:6]
        own = slice(0, int(entries.count[token]))
        assert sorted(entries.feature[token, own].tolist()) == sorted(kept.tolist())
        assert torch.equal(entries.value[token, own], z[token, entries.feature[token, own].long()])
        assert int(entries.candidates[token]) == len(passing)
        assert int(entries.count[token]) == min(len(passing), 6)
    assert bool((entries.candidates > 6).any())


def test_unused_places_are_empty() -> None:
    z = torch.tensor([[1.0, -1.0, 2.0], [-1.0, -1.0, -1.0]])
    entries = entries_of(z, 5)
    assert entries.count.tolist() == [2, 0]
    assert sorted(entries.feature[0].tolist()) == [0, 2, 3, 3, 3]
    assert entries.feature[1].tolist() == [3] * 5
    assert float(entries.value.sum()) == 3.0


def test_the_list_by_feature_names_every_entry_once() -> None:
    z = torch.randn(8, 15, generator=torch.Generator().manual_seed(6))
    entries = entries_of(z, 15)
    pointer, places = entries.by_feature(15)
    for feature in range(15):
        own = places[int(pointer[feature]) : int(pointer[feature + 1])]
        assert (own // 15).tolist() == torch.nonzero(z[:, feature] > 0.2).flatten().tolist()  # tokens in order
        assert torch.equal(entries.value.flatten()[own], z[own // 15, feature])


def test_an_overflowing_step_is_exact_for_what_it_kept() -> None:
    parameters, x = planted(7, tokens=6, snapshots=3, features=12)
    z, activation = encode(parameters, x), Activation("shared")
    largest = parameters.norms().square().mean(dim=0).sqrt()
    kept = torch.where(z * largest >= (z * largest).topk(4, dim=1).values[:, -1:], z, 0)
    shared = {"activation": activation, "penalty": Penalty("l1", 0.1)}
    exact = loss_and_gradients(parameters, x, kept, 0.1, **shared)  # type: ignore[arg-type]
    capacity = Capacity(4)
    for _ in range(2):
        step = gpu_loss_and_gradients(parameters, x, z, 0.1, **shared, capacity=capacity, kernels=KERNELS)  # type: ignore[arg-type]
        assert_same(exact, step)
    candidates = (z * largest > 0.1).sum(dim=1)
    dropped, most = 2 * int((candidates - 4).clamp_min(0).sum()), int(candidates.max())
    assert dropped > 0
    line = capacity.overflow()
    assert line is not None
    assert line.startswith(f"{dropped} candidates")
    assert f"up to {most}." in line
    assert capacity.overflow() is None


def test_room_is_four_times_the_expected_entries() -> None:
    assert Capacity.for_k(20, gate="shared", n_features=98_304).places == 96  # 4 · 20 = 80, rounded up to 32s
    assert Capacity.for_k(20, gate="per_snapshot", n_features=98_304).places == 160  # 4 · 1.7 · 20 = 136
    assert Capacity.for_k(20, gate="per_snapshot", n_features=50).places == 50


def test_a_window_over_negative_values_is_refused() -> None:
    parameters, x = planted(8)
    with pytest.raises(ValueError, match="ste_include_negative"):
        on_gpu_path(parameters, x, 0.1, Activation("shared", learns_threshold=True), Penalty("none"))


@pytest.mark.parametrize("learns", [False, True])
def test_no_step_waits_for_the_device(learns: bool) -> None:
    parameters, x = planted(9, tokens=2, features=6)
    z, cut = encode(parameters, x), parameters.log_threshold.exp()
    activation = Activation("per_snapshot", learns_threshold=learns, window=0.5, include_negative=False)
    with WithoutReading():
        for threshold in (cut, 0.3):
            step = gpu_loss_and_gradients(
                parameters, x, z, threshold, activation=activation, penalty=PENALTIES[3], capacity=Capacity(12),
                kernels=KERNELS,
            )  # fmt: skip
    assert isinstance(step.reconstruction, Tensor)
    assert isinstance(step.sparsity, Tensor)
    with pytest.raises(AssertionError, match="waits"), WithoutReading():
        float(step.reconstruction)


@pytest.mark.parametrize("cut_is_a_tensor", [False, True])
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_the_auxiliary_gradients_are_those_of_the_dense_way(gate: str, cut_is_a_tensor: bool) -> None:
    parameters, x = planted(11, tokens=6, features=12)
    cut = torch.tensor(0.4, dtype=x.dtype) if cut_is_a_tensor else 0.4
    options = {"activation": Activation(gate), "penalty": Penalty("none")}

    def gradients() -> Parameters:
        return loss_and_gradients(parameters, x, encode(parameters, x), 0.4, **options).gradients  # type: ignore[arg-type]

    def add(to: Parameters, opened: Opened, residual: Tensor) -> None:
        with WithoutReading():
            add_auxiliary_on_gpu(to, parameters, opened, x, residual, weight=0.3, places=14, kernels=KERNELS)

    assert_added_as_dense(add, gradients, parameters, x, gate, cut)
    assert_nothing_added(add, parameters, x)


@pytest.mark.parametrize("k", [0.5, 3.0, 50.0])
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_the_threshold_that_nobody_waits_for_is_the_threshold(gate: str, k: float) -> None:
    parameters, x = planted(13, tokens=40, features=30)
    z, norms = encode(parameters, x), gate_norms(parameters.norms(), gate=gate)
    with WithoutReading():
        found = device_batch_threshold(z, norms, k=k, places=30, gate=gate)
    assert float(found) == batch_threshold(z, norms, k=k, gate=gate)
    places = int((z * norms.amax(dim=0) >= found).sum(dim=1).max())  # no token needs more
    assert torch.equal(found, device_batch_threshold(z, norms, k=k, places=places, gate=gate))


@pytest.mark.skipif(not INTERPRETED, reason="needs Triton, which this process does not interpret")
def test_the_lean_update_in_one_pass_is_that_of_torch_operations() -> None:
    from snapcoder.crosscoder.lean_triton import lean_update
    from snapcoder.crosscoder.optimizer import LeanAdam

    weight = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1))
    other = weight.clone()
    optimizer, mean = LeanAdam([weight], lr=0.1), torch.zeros_like(weight, dtype=torch.bfloat16)
    second = torch.zeros(3)
    for step in range(1, 4):
        weight.grad = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(step))
        optimizer.grad_scale = torch.tensor(2.0)
        optimizer.step()
        second.lerp_(weight.grad.square().mean(dim=(1, 2)) / 4, 0.001)
        scale = 0.1 / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        lean_update(other, weight.grad, mean, scale, torch.tensor(0.5), 0.9)
        # Steps are of 0.1; the interpreter cuts bfloat16 off where a GPU rounds.
        torch.testing.assert_close(other, weight, rtol=0, atol=1e-2)
    assert float(weight.abs().amax()) > 0.2


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, x = planted(10)
    activation, penalty = Activation("per_snapshot"), PENALTIES[2]
    whole = on_gpu_path(parameters, x, 0.4, activation, penalty, kernels=sparse_torch)
    monkeypatch.setattr(sparse_torch, "WORK_ELEMENTS", 250)
    chunked = on_gpu_path(parameters, x, 0.4, activation, penalty, kernels=sparse_torch)
    assert float(chunked.reconstruction) == pytest.approx(float(whole.reconstruction), rel=1e-12)
    torch.testing.assert_close(chunked.gradients.decoder, whole.gradients.decoder)
    torch.testing.assert_close(chunked.gradients.encoder, whole.gradients.encoder)


def test_a_cpu_takes_the_torch_operations() -> None:
    assert kernels_for(torch.device("cpu")) is sparse_torch


def in_its_own_process(*command: str, **variables: str) -> str:
    environment = os.environ | variables
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="this is the process that interprets the kernels")
def test_all_of_this_holds_for_the_interpreted_kernels() -> None:
    options = ("-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-o", "addopts=")
    report = in_its_own_process("-m", "pytest", str(Path(__file__)), *options, TRITON_INTERPRET="1")
    assert "passed" in report.splitlines()[-1]
    assert "failed" not in report


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="kernels that are interpreted cannot be compiled")
def test_the_kernels_compile_for_a_gpu() -> None:
    report = in_its_own_process(str(Path(__file__)), TRITON_INTERPRET="0", TRITON_DEFAULT_FP_FUSION="1")
    assert report.split() == ["_select", "_reconstruct", "_mean_penalty", "_code_gradients", "_feature_sums"] + [
        "_weight_gradients",
        "_lean_update",
    ]


def compile_for_a_gpu() -> None:
    """Compile every kernel to machine code of compute capability 8.0, weights in bfloat16, and print its name."""
    import triton
    from triton import language
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    modules = [importlib.import_module(f"snapcoder.crosscoder.{name}") for name in ("sparse_triton", "lean_triton")]
    dtypes = dict.fromkeys(("decoder", "bias", "x", "d_encoder", "d_decoder"), "*bf16")
    dtypes |= dict.fromkeys(("feature", "counts", "candidates"), "*i32") | {"fired": "*i8"}
    dtypes |= dict.fromkeys(("pointer", "places"), "*i64")
    sizes = ("n_tokens", "capacity", "n_features", "n_snapshots", "n_gates", "width", "row_size")
    dtypes |= dict.fromkeys(sizes, "i32")
    constant = {"KIND": 2, "STRETCH": 4.0, "ACC": language.float32, "SNAPSHOTS": 32, "PLACES": 16, "BLOCK": 256}
    constant |= {"ADD": True}
    constant |= {"SHARE": 1, "HALF_WINDOW": 0.5, "BETA1": 0.9}
    dtypes["mean"] = "*bf16"
    names = ("_select", "_reconstruct", "_mean_penalty", "_code_gradients", "_feature_sums", "_weight_gradients")
    for module, name in [(modules[0], name) for name in names] + [(modules[1], "_lean_update")]:
        kernel = getattr(module, name)
        held = {key: value for key, value in constant.items() if key in kernel.arg_names}
        signature = {key: "constexpr" if key in held else dtypes.get(key, "*fp32") for key in kernel.arg_names}
        made = triton.compile(ASTSource(kernel, signature, held), target=GPUTarget("cuda", 80, 32))
        assert len(made.asm["cubin"]) > 0
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    compile_for_a_gpu()
