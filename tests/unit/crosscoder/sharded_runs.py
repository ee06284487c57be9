"""A small crosscoder that several ranks hold parts of: its whole, the parts, and a training run on them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder.model import Parameters
from snapcoder.crosscoder.processes import own_checkpoint, own_shard
from snapcoder.crosscoder.sharding import AXES, Shard
from snapcoder.crosscoder.training import train
from snapcoder.study.crosscoder import CrosscoderSettings

S, D, F, B = 7, 5, 22, 13  # neither S nor F can be divided by 2 and 4 alike
AXIS = ["features", "snapshots"]
WEIGHTS = {*AXES, "cut"}
GATE = ["per_snapshot", "shared"]


def whole_parameters(seed: int = 0) -> Parameters:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Parameters(
        encoder=draw(S, D, F) * 0.4,
        decoder=draw(S, F, D) * torch.rand(S, F, 1, generator=generator, dtype=torch.float64),
        encoder_bias=draw(F) * 0.1,
        decoder_bias=draw(S, D) * 0.1,
        log_threshold=math.log(0.3) + 0.2 * draw(F),
    )


def data(n_rows: int = B) -> Tensor:
    return torch.randn(n_rows, S, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def dead_heads(gate: str) -> Tensor:
    return torch.rand(S if gate == "per_snapshot" else 1, F, generator=torch.Generator().manual_seed(2)) < 0.8


def cut(whole: Tensor, axes: tuple[str, ...], shard: Shard) -> Tensor:
    """Return a rank's part of a tensor, by the ranks' own account of what they hold."""
    return whole[tuple(getattr(shard, axis) if axis in AXIS else slice(None) for axis in axes)].clone()


def own_part(parameters: Parameters, shard: Shard) -> Parameters:
    return Parameters(**{name: cut(tensor, AXES[name], shard) for name, tensor in parameters.named().items()})


def shard_of(axis: str) -> Shard:
    return own_shard(torch.device("cpu"), sharding=axis, n_features=F, n_snapshots=S, d_model=D)


RUN = CrosscoderSettings(
    n_features=F,
    k=3,
    steps=20,
    batch_size=16,
    lr=1e-2,
    lr_warmup_steps=3,
    dead_after=4,
    eval_every=10,
    checkpoint_every=8,
    precision="fp32",
    path="dense",
    device="cpu",
)
ARMS = {
    "batchtopk": replace(RUN, path="sparse"),
    "batchtopk, shared gate": replace(RUN, gate="shared", init_norm=0.5),
    "topk": replace(RUN, arm="topk", init_norm=0.5),
    "jumprelu": replace(RUN, arm="jumprelu", threshold_lr_factor=1.0, init_norm=0.5),
}
LEAN = replace(RUN, arm="topk", optimizer_state="lean", steps=5, init_norm=0.5)


def run(
    settings: CrosscoderSettings, axis: str, folder: Path | None = None, stop: int | None = None
) -> dict[str, object]:
    """Train on this process's part; return the whole parameters, the history and the thresholds."""
    precise = settings.optimizer_state == "fp32"  # lean rounds to bfloat16 anyway
    shard, activations = shard_of(axis), data(200).to(torch.float64 if precise else torch.float32)
    mine = activations[:, shard.reads]
    checkpoint = own_checkpoint(folder, "key", shard, gate=settings.gate) if folder else None
    trained = train(
        lambda rows: shard.complete_rows(mine[torch.from_numpy(rows)]),
        n_train=160,
        n_heldout=40,
        settings=settings,
        checkpoint=checkpoint,
        stop_after=stop,
        shard=shard,
    )
    history = np.array([[row[name] for name in sorted(row)] for row in trained.history], dtype=np.float64)
    whole = trained.whole(shard)
    named = {name: tensor.numpy() for name, tensor in whole.parameters.named().items()}
    return {**named, "cut": whole.threshold.numpy(), "history": history}


def assert_close(answers: Sequence[dict[str, object]], expected: dict[str, object], **tolerance: float) -> None:
    """Hold what every rank returned against what one process returns; parameters are whole on the first rank only."""
    for rank, answer in enumerate(answers):
        for name, value in expected.items():
            if rank == 0 or name not in WEIGHTS:
                np.testing.assert_allclose(answer[name], value, **tolerance, err_msg=f"rank {rank}, {name}")  # type: ignore[arg-type]
