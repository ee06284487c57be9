"""Training on planted features: onsets found, shrinkage shown, runs resumed bit for bit."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import Planted, match_by_activation, onset_by_norm, plant

from snapcoder.crosscoder.checkpoints import CheckpointFile
from snapcoder.crosscoder.gates import code, gate_norms, row_thresholds
from snapcoder.crosscoder.interruption import Interrupted
from snapcoder.crosscoder.model import encode
from snapcoder.crosscoder.optimizer import make_optimizer
from snapcoder.crosscoder.schedules import active_features
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


RESUMED = [
    {"arm": "batchtopk"},
    {"arm": "batchtopk", "optimizer_state": "lean", "path": "dense"},
    {"arm": "topk"},
    {"arm": "jumprelu"},
    {"arm": "relu_l1", "path": "sparse"},
]


@pytest.mark.parametrize("changed", RESUMED, ids=lambda changed: "-".join(changed.values()))
def test_a_run_killed_at_random_steps_continues_bit_for_bit(
    world: Planted, tmp_path: Path, changed: dict[str, str]
) -> None:
    chosen = CrosscoderSettings(
        n_features=48, k=4, steps=60, batch_size=128, dead_after=5, eval_every=20, checkpoint_every=7, **changed
    )  # type: ignore[arg-type]
    options = {"n_train": N_TRAIN, "n_heldout": N_HELDOUT, "settings": chosen}
    whole = train(normalised(world), **options)  # type: ignore[arg-type]
    file = CheckpointFile(tmp_path / "work/checkpoint.safetensors", key="a")
    for stop in (*sorted(np.random.default_rng(len(changed)).integers(1, 60, 3)), None):
        resumed = train(normalised(world), **options, checkpoint=file, stop_after=stop)  # type: ignore[arg-type]
    assert_same_run(whole, resumed)
    assert CheckpointFile(file.path, key="b").load() is None
    file.remove()
    assert not file.path.parent.exists()


def assert_same_run(one: Trained, other: Trained) -> None:
    for name, tensor in one.parameters.named().items():
        assert torch.equal(tensor, other.parameters.named()[name]), name
    assert torch.equal(one.threshold, other.threshold)
    assert one.history == other.history


def test_sigterm_saves_the_step_and_the_next_run_goes_on_from_it(world: Planted, tmp_path: Path) -> None:
    chosen = CrosscoderSettings(n_features=48, k=4, steps=40, batch_size=128, eval_every=20, checkpoint_every=1000)
    options = {"n_train": N_TRAIN, "n_heldout": N_HELDOUT, "settings": chosen}
    whole = train(normalised(world), **options)  # type: ignore[arg-type]
    file = CheckpointFile(tmp_path / "work/checkpoint.safetensors", key="a")
    read, calls = normalised(world), []

    def terminated(rows: np.ndarray) -> torch.Tensor:
        calls.append(len(rows))
        if len(calls) == 14:  # the first call is the initialisation's
            os.kill(os.getpid(), signal.SIGTERM)
        return read(rows)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        train(terminated, **options, checkpoint=file)  # type: ignore[arg-type]
    assert (stopped.value.step, stopped.value.code) == (13, 143)
    assert signal.getsignal(signal.SIGTERM) == before
    saved = file.load()
    assert saved is not None
    assert saved.facts["step"] == 13
    assert_same_run(whole, train(read, **options, checkpoint=file))  # type: ignore[arg-type]


def test_topk_keeps_k_features_of_every_token(world: Planted) -> None:
    rows = np.arange(64)
    chosen, trained = fit(world, arm="topk", steps=60, k_anneal_share=0.5, gate="shared")
    z = encode(trained.parameters, normalised(world)(rows))
    norms = gate_norms(trained.parameters.norms(), gate="shared")
    lift = row_thresholds(z, norms, k=chosen.k)
    on = (z * norms[0] > lift[0][:, None]).sum(dim=1)
    positive = (z * norms[0] > 0).sum(dim=1)
    assert torch.equal(on, positive.clamp(max=chosen.k))


def test_lean_adam_takes_adams_steps_when_rows_are_even() -> None:
    """With gradients of one magnitude the row's second moment is every entry's, and the steps agree."""
    sign = torch.randint(0, 2, (5, 3, 4), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    full, lean = torch.zeros(5, 3, 4), torch.zeros(5, 3, 4)
    optimizers = [
        make_optimizer({"encoder": weight}, lr=0.1, beta2=0.99, state=state)
        for weight, state in ((full, "fp32"), (lean, "lean"))
    ]
    for amount in (1.0, 0.5, 2.0):
        for weight, optimizer in zip((full, lean), optimizers, strict=True):
            weight.grad = sign * amount
            optimizer.step()
    torch.testing.assert_close(full, lean, rtol=5e-3, atol=1e-4)
    held = {name: tensor.numel() * tensor.element_size() for name, tensor in optimizers[1].state[lean].items()}
    assert held["exp_avg"] + held["exp_avg_sq"] <= 2 * lean.numel() + 4 * 5


def test_many_features_are_on_at_first_and_k_at_the_end() -> None:
    numbers = [active_features(step, k=10, start=4.0, steps=100, share=0.6) for step in range(100)]
    assert numbers[0] == 40
    assert numbers[30] == pytest.approx(25)
    assert numbers[60:] == [10.0] * 40
    assert active_features(0, k=7, start=4.0, steps=100, share=0.0) == 7


def test_dead_heads_are_revived_by_the_auxiliary_loss(world: Planted) -> None:
    silent = []
    for weight in (0.0, 0.1):
        _, trained = fit(world, gate="shared", n_features=96, steps=120, dead_after=20, auxiliary_weight=weight)
        silent.append(trained.history[-1]["dead"])
    assert silent[1] <= silent[0]


def test_training_without_rows_is_refused(world: Planted) -> None:
    with pytest.raises(ValueError, match="train and held-out rows"):
        train(normalised(world), n_train=0, n_heldout=5, settings=CrosscoderSettings())
