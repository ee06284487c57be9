"""Several processes compute what one does: values, gradients and whole runs; auto splits what is summed least."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from gloo_ranks import run_in_ranks
from sharded_runs import (
    ARMS,
    AXIS,
    LEAN,
    B,
    S,
    assert_close,
    cut,
    data,
    dead_heads,
    own_part,
    run,
    shard_of,
    whole_parameters,
)

from snapcoder.crosscoder import sparse_torch
from snapcoder.crosscoder.auxiliary import Opened
from snapcoder.crosscoder.gates import batch_threshold, device_batch_threshold, gate_norms, row_thresholds
from snapcoder.crosscoder.gradients import Activation, Step, loss_and_gradients, reconstruction_error
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.metrics import evaluate
from snapcoder.crosscoder.model import encode
from snapcoder.crosscoder.sharding import choose_axis
from snapcoder.crosscoder.sparse import sparse_loss_and_gradients
from snapcoder.crosscoder.sparse_auxiliary import add_auxiliary
from snapcoder.crosscoder.sparse_auxiliary_gpu import add_auxiliary_on_gpu
from snapcoder.crosscoder.sparse_gpu import Capacity, gpu_loss_and_gradients


@dataclass(frozen=True)
class Case:
    """One kind of crosscoder and how its step is computed."""

    path: str
    gate: str
    penalty: Penalty
    learns_threshold: bool


PATHS: dict[str, Callable[..., Step]] = {
    "dense": loss_and_gradients,
    "sparse": sparse_loss_and_gradients,
    "gpu": gpu_loss_and_gradients,
}
CASES = [
    Case(path, gate, penalty, penalty.kind == "tanh_quad")
    for path in PATHS
    for gate in ("per_snapshot", "shared")
    for penalty in (Penalty("none"), Penalty("tanh_quad", 0.3, 4.0, 0.05), Penalty("l1", 0.2))
]


def everything(case: Case, axis: str) -> dict[str, object]:
    """Return all that a training step computes, put together to the whole where ranks hold parts."""
    shard = shard_of(axis)
    rows = data()[:, shard.reads].contiguous()
    x = shard.complete_rows(rows)
    parameters = own_part(whole_parameters(), shard)
    z = encode(parameters, x, shard=shard)
    gating = gate_norms(parameters.norms(), gate=case.gate, shard=shard)
    threshold = batch_threshold(z, gating, k=3, gate=case.gate, shard=shard)
    floored = batch_threshold(z, gating, k=3, floor=0.5 * threshold, gate=case.gate, shard=shard)
    chosen = parameters.log_threshold.exp() if case.learns_threshold else threshold
    activation = Activation(case.gate, case.learns_threshold, window=0.4, include_negative=case.path == "dense")
    path: Callable[..., Step] = PATHS[case.path]
    more = {"capacity": Capacity(z.shape[1])} if case.path == "gpu" else {}
    step = path(parameters, x, z, chosen, activation=activation, penalty=case.penalty, shard=shard, **more)
    dead = cut(dead_heads(case.gate), ("snapshots" if case.gate == "per_snapshot" else "", "features"), shard)
    residual = step.error * (-0.5 * B * S)
    opened = Opened.to_the_dead(z, parameters.norms(), dead, threshold, gate=case.gate, k=2, shard=shard)
    parts = step.gradients, parameters, opened, x, residual
    before = step.gradients.encoder.clone()
    if case.path == "gpu":
        add_auxiliary_on_gpu(*parts, weight=0.1, places=z.shape[1] + 2, kernels=sparse_torch, shard=shard)
    else:
        add_auxiliary(*parts, weight=0.1, shard=shard)
    assert shard.n_ranks > 1 or not torch.equal(step.gradients.encoder, before)
    gradients = step.gradients.named()
    cuts = parameters.log_threshold.exp() if case.learns_threshold else torch.full((z.shape[1],), threshold)
    scores = evaluate(
        parameters, cuts, lambda: [x[:6], x[6:]], gate=case.gate, scale=np.arange(1.0, S + 1), shard=shard
    )
    fired = shard.join_features(step.fired.int(), 1)
    return {
        "threshold": threshold,
        "floored": floored,
        "on a GPU": float(device_batch_threshold(z, gating, k=3, places=z.shape[1], gate=case.gate, shard=shard)),
        "reconstruction": float(step.reconstruction),
        "sparsity": float(step.sparsity),
        "error": reconstruction_error(parameters, x, chosen, gate=case.gate, shard=shard),
        "norm": float(shard.joint_norm(gradients)),
        "row thresholds": shard.join_gates(row_thresholds(z, gating, k=3, shard=shard), gate=case.gate).numpy(),
        "mean": float(shard.mean(parameters.norms())),
        "fired": shard.join_gates(fired, gate=case.gate).numpy(),
        "scores": np.array([list(vars(score).values()) for score in scores]),
        **{name: shard.whole(name, gradient).numpy() for name, gradient in gradients.items()},
    }


@pytest.mark.parametrize("n_ranks", [2, 4])
@pytest.mark.parametrize("axis", AXIS)
def test_ranks_compute_the_values_and_gradients_of_a_single_process(axis: str, n_ranks: int, tmp_path: Path) -> None:
    cases = CASES if n_ranks == 2 else CASES[::3]
    expected = _every(cases, axis)  # here first: it also compiles the sparse path, once for all
    answers = run_in_ranks(n_ranks, _every, cases, axis, meeting=tmp_path / "meeting")
    for index, ours in enumerate(expected):
        assert_close([answer[index] for answer in answers], ours, rtol=1e-10, atol=1e-12)


def _every(cases: list[Case], axis: str) -> list[dict[str, object]]:
    return [everything(case, axis) for case in cases]


@pytest.mark.parametrize("axis", AXIS)
def test_a_run_on_two_ranks_is_the_run_of_one(axis: str, tmp_path: Path) -> None:
    answers = run_in_ranks(2, _every_arm, axis, meeting=tmp_path / "meeting")
    for name, settings in ARMS.items():
        expected = run(settings, axis)
        assert np.abs(expected["decoder_bias"]).max() > 1e-3  # type: ignore[type-var]
        assert_close([answer[name] for answer in answers], expected, rtol=1e-6, atol=1e-9)


def _every_arm(axis: str) -> dict[str, dict[str, object]]:
    return {name: run(settings, axis) for name, settings in ARMS.items()}


def test_a_row_has_one_second_moment_wherever_its_snapshots_are(tmp_path: Path) -> None:
    answers = run_in_ranks(2, run, LEAN, "snapshots", meeting=tmp_path / "meeting")
    for name in ("encoder", "decoder"):
        np.testing.assert_allclose(answers[0][name], run(LEAN, "snapshots")[name], atol=1e-3)


@pytest.mark.parametrize(
    "n_features, n_snapshots, n_ranks, expected",
    [
        (98_304, 32, 8, "features"),  # 98,304 > 32 · 768
        (24_576, 32, 8, "snapshots"),  # F = S · d
        (98_304, 5, 4, "features"),
        (1024, 5, 4, "features"),  # 5 snapshots in parts of 2 leave the fourth process without any
    ],
)
def test_auto_splits_what_is_summed_least(n_features: int, n_snapshots: int, n_ranks: int, expected: str) -> None:
    sizes = {"n_features": n_features, "n_snapshots": n_snapshots, "d_model": 768, "n_ranks": n_ranks}
    assert choose_axis("auto", **sizes) == expected  # type: ignore[arg-type]


def test_a_split_that_leaves_a_process_without_work_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crosscoder.gpus: 5 snapshots in parts of 2 .* use 2 or 3 or 5"):
        choose_axis("snapshots", n_features=24, n_snapshots=5, d_model=16, n_ranks=4)
