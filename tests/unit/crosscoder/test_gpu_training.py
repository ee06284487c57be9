"""Training as a GPU runs it: nothing in an update is read back, rows come ahead, and the run is that of a CPU.

On a CPU these are the same operations, by torch; where there is a GPU, it runs them too.
"""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from never_reading import WithoutReading
from planted import plant

from snapcoder.crosscoder.normalise import Normaliser
from snapcoder.crosscoder.optimizer import make_optimizer
from snapcoder.crosscoder.paths import is_sparse
from snapcoder.crosscoder.rows_ahead import RowsAhead
from snapcoder.crosscoder.training import Trainer, train
from snapcoder.steps.crosscoder import reader
from snapcoder.storage.activation_dtypes import StoredRows, encode
from snapcoder.storage.aligned import AlignedRows
from snapcoder.storage.companding import Compander
from snapcoder.study.crosscoder import CrosscoderSettings

SETTINGS = CrosscoderSettings(
    n_features=48, k=3, steps=24, batch_size=64, lr_warmup_steps=4, dead_after=5, precision="fp32", eval_every=12,
    auxiliary_weight=0.1,
)  # fmt: skip
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def rows() -> torch.Tensor:
    world = plant(n_rows=1500, n_snapshots=5, d_model=12, n_features=20, l0=3, seed=4)
    x = world.activations - world.activations.mean(axis=0)
    return torch.from_numpy((x / x.std(axis=(0, 2), keepdims=True)).astype(np.float32))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "changed",
    [
        {"path": "sparse"},
        {"path": "sparse", "gate": "shared", "optimizer_state": "lean"},
        {"path": "dense", "clip": 0.0},
        {"path": "sparse", "arm": "topk"},
        {"arm": "jumprelu", "sparsity_weight": 0.1, "lr": 1e-3},
    ],
    ids=lambda changed: " ".join(map(str, changed.values())),
)
def test_no_update_waits_and_the_run_is_that_of_a_cpu(device: str, changed: dict[str, object]) -> None:
    chosen, held = replace(SETTINGS, **changed), rows()  # type: ignore[arg-type]
    on_cpu = Trainer(lambda index: held[torch.from_numpy(index)], 1300, 200, chosen)
    moved = held.to(device)
    # With its index on the device already, taking rows needs no copy from the host.
    orders = [torch.from_numpy(on_cpu.order(step)).to(device) for step in range(chosen.steps)]
    as_on_gpu = Trainer(lambda index: moved[index], 1300, 200, chosen, lambda step: orders[step])  # type: ignore[arg-type]
    as_on_gpu.on_gpu = True
    for step in range(chosen.steps):
        on_cpu.update()
        if device == "cuda" and step > 0:
            torch.cuda.set_sync_debug_mode("error")
        try:
            # A CPU's dense path and optimiser read what a GPU's leave unread.
            with WithoutReading() if device == "cpu" and chosen.path == "sparse" else nullcontext():
                as_on_gpu.update()
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        # At first a feature's scores are equal at all snapshots: rounding decides which side of the threshold they lie.
        exact = step == 0 or (step < 8 and device == "cpu")
        near = 1e-4 if exact else 1e-2 if step < 12 else 3e-2
        assert as_on_gpu.loss == pytest.approx(on_cpu.loss, rel=near), step
    assert on_cpu.tracked.idle.max() >= chosen.dead_after or chosen.arm != "batchtopk"  # some were revived
    for name, tensor in on_cpu.parameters.named().items():
        found = getattr(as_on_gpu.parameters, name).cpu()
        assert float((found - tensor).norm()) <= 0.03 * float(tensor.norm()) + 1e-6, name
    torch.testing.assert_close(as_on_gpu.inference_threshold().cpu(), on_cpu.inference_threshold(), rtol=1e-2, atol=0)
    facts = as_on_gpu.state().facts
    assert isinstance(facts["threshold"], float)
    assert isinstance(facts["mean_threshold"], float)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("state", ["fp32", "lean"])
def test_a_resumed_run_on_a_gpu_ends_with_the_same_bits(state: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from snapcoder.crosscoder.checkpoints import CheckpointFile

    held = rows().cuda()
    chosen = replace(SETTINGS, path="sparse", optimizer_state=state, checkpoint_every=7)
    options = {"n_train": 1300, "n_heldout": 200, "settings": chosen}
    whole = train(lambda index: held[torch.from_numpy(index).cuda()], **options)  # type: ignore[arg-type]
    file = CheckpointFile(tmp_path / "state.safetensors", "key")
    train(lambda index: held[torch.from_numpy(index).cuda()], **options, checkpoint=file, stop_after=16)  # type: ignore[arg-type]
    again = train(lambda index: held[torch.from_numpy(index).cuda()], **options, checkpoint=file)  # type: ignore[arg-type]
    for name, tensor in whole.parameters.named().items():
        assert torch.equal(getattr(again.parameters, name), tensor), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int8"])
def test_rows_read_ahead_are_the_rows(dtype: str, device: str) -> None:
    raw = np.random.default_rng(0).normal(size=(40, 3, 8)).astype(np.float32) * 3
    if dtype == "int8":
        companders = [Compander.fit(raw[:, s]) for s in range(3)]
        parts = [encode(raw[:, s], dtype, compander) for s, compander in enumerate(companders)]
        steps = np.stack([part.steps for part in parts if part.steps is not None], axis=1)
        stored = StoredRows(np.stack([part.values for part in parts], axis=1), steps)
        activations = AlignedRows(stored, dtype, Compander.stack(companders))
    else:
        activations = AlignedRows(encode(raw, dtype, None), dtype, None)
    normaliser = Normaliser(torch.randn(3, 8), torch.rand(3) + 0.5)
    direct = reader(activations, normaliser)
    asked: list[int] = []

    def order(step: int) -> np.ndarray:
        asked.append(step)
        return np.random.default_rng(step).integers(0, 40, 6)

    with RowsAhead(activations, normaliser.to(torch.device(device)), order) as ahead:
        for step in (0, 0, 1, 2, 7, 8):  # the first one twice, as a trainer does; then resumed elsewhere
            which = ahead.order(step)
            torch.testing.assert_close(ahead(which).cpu(), direct(which), rtol=1e-6, atol=1e-6)
            heldout = np.arange(30, 40)  # asked for in between
            torch.testing.assert_close(ahead(heldout).cpu(), direct(heldout), rtol=1e-6, atol=1e-6)
    assert set(asked) == {0, 1, 2, 3, 7, 8, 9}
    assert ahead.waited > 0


def test_rows_ahead_are_taken_and_not_gathered_again() -> None:
    activations = AlignedRows(StoredRows(np.zeros((40, 3, 8), np.float16)), "float16", None)
    normaliser = Normaliser(torch.zeros(3, 8), torch.ones(3))
    with RowsAhead(activations, normaliser, lambda step: np.arange(step, step + 4)) as ahead:
        ahead(ahead.order(0))
        assert ahead._coming is not None
        coming = ahead._coming[1].result().parts
        activations.stored.values[:] = 1  # whatever is gathered from here on
        assert float(ahead(ahead.order(1)).sum()) == 0
        assert float(coming[0].sum()) == 0
        ahead._coming[1].result()
        assert float(ahead(ahead.order(3)).sum()) == 4 * 24  # not the one that was foreseen


def test_gradients_are_divided_by_the_scale_whichever_the_optimiser() -> None:
    for state in ("fp32", "lean"):
        plain, scaled = torch.ones(5, 3, 4), torch.ones(5, 3, 4)
        optimizers = [make_optimizer({"w": weight}, lr=0.1, beta2=0.9, state=state) for weight in (plain, scaled)]
        for seed in range(3):
            gradient = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(seed))
            plain.grad, scaled.grad = gradient / 4, gradient.clone()
            optimizers[1].grad_scale = torch.tensor(4.0)  # type: ignore[attr-defined]
            for optimizer in optimizers:
                optimizer.step()
        torch.testing.assert_close(plain, scaled, rtol=1e-5, atol=1e-6)
        assert not torch.equal(plain, torch.ones(5, 3, 4))


def test_a_gpu_takes_the_sparse_path_for_fewer_entries_and_only_with_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = CrosscoderSettings(n_features=24_576, k=20)
    monkeypatch.setattr("snapcoder.crosscoder.paths.find_spec", lambda name: object())
    assert is_sparse(chosen, k=80, d_model=768, device="cuda")
    assert not is_sparse(replace(chosen, n_features=1024, batch_size=2048), k=40, d_model=768, device="cuda")
    assert is_sparse(replace(chosen, n_features=1024), k=40, d_model=128, device="cuda")  # bound by launches
    assert is_sparse(replace(chosen, n_features=1024), k=40, d_model=768, device="cpu")
    monkeypatch.setattr("snapcoder.crosscoder.paths.find_spec", lambda name: None)
    assert not is_sparse(chosen, k=80, d_model=768, device="cuda")
