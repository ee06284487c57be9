"""The sparse path gives what the dense path gives, in float64, whatever the gate, the penalty and the threshold."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dense_auxiliary import assert_added_as_dense, assert_nothing_added
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snapcoder.crosscoder.auxiliary import Opened
from snapcoder.crosscoder.entries import candidate_scores, select
from snapcoder.crosscoder.gradients import Activation, Step, loss_and_gradients
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters, encode, initialise
from snapcoder.crosscoder.sparse import sparse_loss_and_gradients, use_threads
from snapcoder.crosscoder.sparse_auxiliary import add_auxiliary

PENALTIES = [Penalty("none"), Penalty("l1", 0.3), Penalty("tanh", 0.2, 4.0), Penalty("tanh_quad", 0.2, 4.0, 0.05)]


def case(
    seed: int, *, tokens: int = 33, snapshots: int = 4, width: int = 6, features: int = 20
) -> tuple[Parameters, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    start = initialise(snapshots, width, features, norm=1.0, threshold=0.4, generator=generator)

    def shaken(tensor: Tensor) -> Tensor:
        moved = tensor.double()
        return moved + 0.3 * torch.randn(moved.shape, generator=generator, dtype=torch.float64)

    x = torch.randn(tokens, snapshots, width, generator=generator, dtype=torch.float64)
    return start.map(shaken), x


def both(
    parameters: Parameters,
    x: Tensor,
    threshold: Tensor | float,
    activation: Activation,
    penalty: Penalty,
    **more: Tensor,
) -> tuple[Step, Step]:
    z = encode(parameters, x)
    shared = {"activation": activation, "penalty": penalty, **more}
    return (
        loss_and_gradients(parameters, x, z, threshold, **shared),  # type: ignore[arg-type]
        sparse_loss_and_gradients(parameters, x, z, threshold, **shared),  # type: ignore[arg-type]
    )


def assert_same(dense: Step, sparse: Step) -> None:
    assert sparse.reconstruction == pytest.approx(dense.reconstruction, rel=1e-12)
    assert sparse.sparsity == pytest.approx(dense.sparsity, rel=1e-12)
    torch.testing.assert_close(sparse.error, dense.error, rtol=1e-10, atol=1e-12)
    assert torch.equal(sparse.fired, dense.fired)
    for name, gradient in sparse.gradients.named().items():
        torch.testing.assert_close(gradient, getattr(dense.gradients, name), rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: penalty.kind)
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_sparse_and_dense_steps_are_equal(gate: str, penalty: Penalty, learns: bool) -> None:
    parameters, x = case(1)
    activation = Activation(gate, learns_threshold=learns, window=0.5, include_negative=False)
    dense, sparse = both(parameters, x, parameters.log_threshold.exp(), activation, penalty)
    assert_same(dense, sparse)
    assert dense.gradients.decoder.abs().sum() > 0
    assert bool(sparse.gradients.log_threshold.abs().sum() > 0) == learns


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_a_threshold_per_token_is_obeyed(gate: str) -> None:
    parameters, x = case(2)
    lift = torch.rand(4 if gate == "per_snapshot" else 1, len(x), dtype=torch.float64)
    dense, sparse = both(parameters, x, 0.2, Activation(gate), Penalty("none"), lift=lift)
    assert_same(dense, sparse)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    tokens=st.integers(1, 9),
    snapshots=st.integers(1, 5),
    width=st.sampled_from([1, 6, 100]),
    features=st.sampled_from([1, 3, 12, 64, 130]),
    gate=st.sampled_from(["per_snapshot", "shared"]),
    threshold=st.floats(0.0, 5.0),
)
def test_any_shape_and_threshold(
    seed: int, tokens: int, snapshots: int, width: int, features: int, gate: str, threshold: float
) -> None:
    parameters, x = case(seed, tokens=tokens, snapshots=snapshots, width=width, features=features)
    assert_same(*both(parameters, x, threshold, Activation(gate), Penalty("none")))


def test_a_dead_dictionary_has_no_entries_and_only_bias_gradients() -> None:
    parameters, x = case(3)
    _, sparse = both(parameters, x, 1e9, Activation("per_snapshot"), Penalty("none"))
    assert not bool(sparse.fired.any())
    assert float(sparse.gradients.encoder.abs().sum() + sparse.gradients.decoder.abs().sum()) == 0
    torch.testing.assert_close(
        sparse.gradients.decoder_bias, 2 * (parameters.decoder_bias - x).sum(dim=0) / (x.shape[0] * x.shape[1])
    )


def test_selection_lists_what_a_mask_would() -> None:
    z = torch.randn(50, 30, generator=torch.Generator().manual_seed(0)).numpy()
    largest = torch.rand(30, generator=torch.Generator().manual_seed(1)).numpy()
    low = torch.rand(30, generator=torch.Generator().manual_seed(2)).numpy()
    entries = select(z, largest, low)
    token, feature = (z * largest > low).nonzero()
    assert (entries.feature == feature).all()
    assert (entries.value == z[token, feature]).all()
    assert ((entries.indptr[1:] - entries.indptr[:-1]) == (z * largest > low).sum(axis=1)).all()


def test_selection_skips_no_span_of_columns() -> None:
    z = np.zeros((3, 200), np.float32)
    z[0, [0, 63, 64, 199]] = z[2, [127, 128]] = 1.0
    entries = select(z, np.ones(200, np.float32), np.full(200, 0.5, np.float32))
    assert entries.indptr.tolist() == [0, 4, 4, 6]
    assert entries.feature.tolist() == [0, 63, 64, 199, 127, 128]


def test_candidates_are_scored_at_every_gate() -> None:
    z = torch.randn(20, 70, generator=torch.Generator().manual_seed(0)).numpy()
    norms = torch.rand(3, 70, generator=torch.Generator().manual_seed(1)).numpy()
    token, feature = (z * norms.max(axis=0) > 0.3).nonzero()
    assert (candidate_scores(z, norms, 0.3) == z[token, feature, None] * norms.T[feature]).all()


@pytest.mark.parametrize("penalty", [PENALTIES[0], PENALTIES[3]], ids=lambda penalty: penalty.kind)
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_the_number_of_threads_changes_no_bit(gate: str, penalty: Penalty) -> None:
    parameters, x = case(4, tokens=200, width=80, features=150)
    single = parameters.map(torch.Tensor.float)
    z = encode(single, x.float())
    activation = Activation(gate, learns_threshold=penalty.kind != "none", window=0.2, include_negative=False)
    steps = []
    for threads in (1, 2):
        use_threads(threads)
        steps.append(sparse_loss_and_gradients(single, x.float(), z, 2.0, activation=activation, penalty=penalty))
    assert torch.equal(steps[0].error, steps[1].error)
    assert torch.equal(steps[0].fired, steps[1].fired)
    for name, gradient in steps[0].gradients.named().items():
        assert torch.equal(gradient, getattr(steps[1].gradients, name)), name


@pytest.mark.parametrize("path", [loss_and_gradients, sparse_loss_and_gradients])
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_the_auxiliary_gradients_are_those_of_the_dense_way(gate: str, path: Callable[..., Step]) -> None:
    parameters, x = case(11, tokens=6, features=12)
    options = {"activation": Activation(gate), "penalty": Penalty("none")}

    def gradients() -> Parameters:
        return path(parameters, x, encode(parameters, x), 0.4, **options).gradients

    def add(to: Parameters, opened: Opened, residual: Tensor) -> None:
        add_auxiliary(to, parameters, opened, x, residual, weight=0.3)

    assert_added_as_dense(add, gradients, parameters, x, gate, 0.4)
    assert_nothing_added(add, parameters, x)
