"""Training on planted features: onsets found, shrinkage shown, runs resumed bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import Planted, match_by_activation, onset_by_norm, plant

from snapcoder.crosscoder.checkpoints import CheckpointFile
from snapcoder.crosscoder.gates import code, gate_norms
from snapcoder.crosscoder.model import encode
from snapcoder.crosscoder.training import Rows, Trained, train
from snapcoder.study.crosscoder import CrosscoderSettings

N_TRAIN, N_HELDOUT = 8000, 1000


@pytest.fixture(scope="module")
def world() -> Planted:
    return plant(n_rows=N_TRAIN + N_HELDOUT, n_snapshots=8, d_model=32, n_features=40, l0=4, seed=3)


def scales(world: Planted) -> np.ndarray:
    """Return the factor that gives each snapshot E‖x‖² = d, [snapshot]."""
    train_rows = world.activations[:N_TRAIN]
    return np.sqrt(train_rows.shape[2] / np.square(train_rows - train_rows.mean(axis=0)).sum(axis=2).mean(axis=0))


def normalised(world: Planted) -> Rows:
    x = (world.activations - world.activations[:N_TRAIN].mean(axis=0)) * scales(world)[:, None]
    tensor = torch.from_numpy(x.astype(np.float32))
    return lambda rows: tensor[torch.from_numpy(rows)]


def fit(world: Planted, **changed: object) -> tuple[CrosscoderSettings, Trained]:
    chosen = CrosscoderSettings(
        **{
            "n_features": 64,
            "k": 4,
            "steps": 600,
            "batch_size": 256,
            "lr": 3e-3,
            "precision": "fp32",
            "eval_every": 300,
        }  # type: ignore[arg-type]
        | changed
    )
    return chosen, train(normalised(world), n_train=N_TRAIN, n_heldout=N_HELDOUT, settings=chosen)


def recovered(world: Planted, chosen: CrosscoderSettings, trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Return the learnt feature of each planted one, and whether it was recovered."""
    rows = np.arange(N_TRAIN, N_TRAIN + N_HELDOUT)
    z = encode(trained.parameters, normalised(world)(rows))
    largest = gate_norms(trained.parameters.norms(), gate=chosen.gate).amax(dim=0)
    best, correlation = match_by_activation(world.amount[rows], code(z, largest, trained.threshold).double().numpy())
    return best, correlation > 0.8


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_planted_onsets_are_found_within_one_snapshot(world: Planted, gate: str) -> None:
    chosen, trained = fit(world, gate=gate)
    best, found = recovered(world, chosen, trained)
    onset = onset_by_norm(trained.parameters.norms().numpy())[best]
    assert found.mean() > 0.8
    assert (np.abs(onset - world.onset) <= 1)[found].mean() >= 0.9
    last = [row for row in trained.history if row["train_step"] == 600]
    assert len(last) == 8
    assert np.mean([row["l0"] for row in last]) == pytest.approx(4, rel=0.1)
    assert np.mean([row["ev"] for row in last]) > 0.85


def test_an_l1_penalty_shrinks_amounts_and_batchtopk_does_not(world: Planted) -> None:
    rows, last = np.arange(N_TRAIN, N_TRAIN + N_HELDOUT), 7
    slopes = {}
    for name, changed in {"batchtopk": {}, "relu_l1": {"arm": "relu_l1", "sparsity_weight": 1.0}}.items():
        chosen, trained = fit(world, **changed)
        best, found = recovered(world, chosen, trained)
        norm = trained.parameters.norms()[last]
        f = code(encode(trained.parameters, normalised(world)(rows)), norm, trained.threshold)
        shown = (f * norm)[:, best[found]].numpy()  # the length that each feature adds to the reconstruction
        truth = (world.amount[rows] * world.strength[last] * (world.scale * scales(world))[last])[:, found]
        slopes[name] = shown[truth > 0].mean() / truth[truth > 0].mean()
    assert slopes["batchtopk"] == pytest.approx(1.0, abs=0.1)
    assert slopes["relu_l1"] < 0.85


@pytest.mark.parametrize("sparsity", ["tanh", "tanh_quad"])
def test_jumprelu_learns_a_sparse_code_and_moves_its_thresholds(world: Planted, sparsity: str) -> None:
    _, trained = fit(world, arm="jumprelu", sparsity=sparsity, sparsity_weight=0.3, steps=200, threshold_lr_factor=1.0)
    last = trained.history[-8:]
    assert np.mean([row["ev"] for row in last]) > 0.5
    assert np.mean([row["l0"] for row in last]) < 20
    assert float(trained.threshold.std()) > 0


@pytest.mark.parametrize("arm", ["batchtopk", "jumprelu", "relu_l1"])
def test_a_run_that_was_killed_continues_bit_for_bit(world: Planted, tmp_path: Path, arm: str) -> None:
    chosen = CrosscoderSettings(
        arm=arm, n_features=48, k=4, steps=60, batch_size=128, dead_after=5, eval_every=20, checkpoint_every=10
    )
    options = {"n_train": N_TRAIN, "n_heldout": N_HELDOUT, "settings": chosen}
    whole = train(normalised(world), **options)  # type: ignore[arg-type]
    file = CheckpointFile(tmp_path / "work/checkpoint.safetensors", key="a")
    for stop in (17, 34, None):
        resumed = train(normalised(world), **options, checkpoint=file, stop_after=stop)  # type: ignore[arg-type]
    for name, tensor in whole.parameters.named().items():
        assert torch.equal(tensor, resumed.parameters.named()[name]), name
    assert torch.equal(whole.threshold, resumed.threshold)
    assert whole.history == resumed.history
    assert CheckpointFile(file.path, key="b").load() is None
    file.remove()
    assert not file.path.parent.exists()


def test_dead_heads_are_revived_by_the_auxiliary_loss(world: Planted) -> None:
    silent = []
    for weight in (0.0, 0.1):
        _, trained = fit(world, gate="shared", n_features=96, steps=120, dead_after=20, auxiliary_weight=weight)
        silent.append(trained.history[-1]["dead"])
    assert silent[1] <= silent[0]


def test_training_without_rows_is_refused(world: Planted) -> None:
    with pytest.raises(ValueError, match="train and held-out rows"):
        train(normalised(world), n_train=0, n_heldout=5, settings=CrosscoderSettings())
