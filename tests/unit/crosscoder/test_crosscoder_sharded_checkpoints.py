"""A state saved by any number of processes is read by any other, in any split, bit for bit, and training goes on."""

from pathlib import Path

import pytest
import torch
from gloo_ranks import run_in_ranks
from sharded_runs import ARMS, AXIS, GATE, F, S, assert_close, cut, dead_heads, run, shard_of, whole_parameters
from torch import Tensor

from snapcoder.crosscoder.checkpoints import Checkpoint
from snapcoder.crosscoder.processes import own_checkpoint
from snapcoder.crosscoder.sharded_checkpoints import ShardedCheckpoint
from snapcoder.crosscoder.sharding import AXES, WHOLE
from snapcoder.crosscoder.training import weights_of


def test_a_state_of_any_split_continues_in_any_other(tmp_path: Path) -> None:
    settings = ARMS["batchtopk, shared gate"]
    expected = run(settings, "features")
    folder = tmp_path / "work" / "checkpoint"
    run_in_ranks(2, run, settings, "features", folder.parent, 9, meeting=tmp_path / "meeting")  # saved after step 8
    run_in_ranks(4, run, settings, "snapshots", folder.parent, 17, meeting=tmp_path / "meeting")  # saved after step 16
    assert [path.name for path in sorted(folder.iterdir())] == ["latest.json", "step16"]
    answers = run_in_ranks(2, run, settings, "features", folder.parent, None, meeting=tmp_path / "meeting")
    assert_close(answers, expected, rtol=1e-6, atol=1e-9)


def test_one_process_takes_over_from_several_and_several_from_one(tmp_path: Path) -> None:
    settings, meeting, work = ARMS["batchtopk, shared gate"], tmp_path / "meeting", tmp_path / "work"
    expected = run(settings, "features")
    run(settings, "features", work, 9)
    assert [path.name for path in work.iterdir()] == ["checkpoint.safetensors"]
    run_in_ranks(2, run, settings, "snapshots", work, 17, meeting=meeting)
    assert_close([run(settings, "features", work)], expected, rtol=1e-6, atol=1e-9)
    own_checkpoint(work, "key", WHOLE, gate="shared").remove()
    assert not work.exists()


def some_state(gate: str) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
    """Return tensors of every kind that a trainer keeps, as a whole, with what their dimensions are."""
    state = {}
    for name, tensor in weights_of(whole_parameters()).items():
        axes = ("features", "snapshots", "model") if tensor.dim() == 3 else AXES[name]
        state |= {f"parameters.{name}": (tensor, axes), f"adam.{name}.exp_avg": (tensor.square().bfloat16(), axes)}
        state[f"adam.{name}.step"] = (torch.tensor(31.0), ())
    lean = torch.rand(F, 1, 1, generator=torch.Generator().manual_seed(5))  # one second moment per feature
    state["adam.encoder.exp_avg_sq"] = (lean, ("features", "", ""))
    rows = ("snapshots" if gate == "per_snapshot" else "", "features")
    state |= {"idle": (dead_heads(gate).int() * 7, rows), "fired": (dead_heads(gate).to(torch.uint8), rows)}
    return state | {"onsets": (torch.arange(F, dtype=torch.int32) % S - 1, ("features",))}


def save_part(folder: Path, gate: str, axis: str) -> None:
    shard = shard_of(axis)
    here = {name: cut(tensor, axes, shard) for name, (tensor, axes) in some_state(gate).items()}
    ShardedCheckpoint(folder, "key", shard, gate).save(Checkpoint(here, {"step": 31, "loss": 0.1}))


def load_part(folder: Path, gate: str, axis: str) -> bool:
    """Return whether this process got exactly its part."""
    shard = shard_of(axis)
    loaded = ShardedCheckpoint(folder, "key", shard, gate).load()
    assert loaded is not None
    assert loaded.facts == {"step": 31, "loss": 0.1}
    expected = {name: cut(tensor, axes, shard) for name, (tensor, axes) in some_state(gate).items()}
    same = [torch.equal(loaded.tensors[name], tensor) for name, tensor in expected.items()]
    return loaded.tensors.keys() == expected.keys() and all(same)


@pytest.mark.parametrize("gate", GATE)
def test_every_split_reads_its_part_of_every_other_bit_for_bit(gate: str, tmp_path: Path) -> None:
    meeting, folders = tmp_path / "meeting", {axis: tmp_path / axis for axis in AXIS}
    run_in_ranks(2, _save_all, folders, gate, meeting=meeting)
    folders["whole"] = tmp_path / "whole"
    save_part(folders["whole"], gate, "features")
    assert all(load_part(folder, gate, "features") for folder in folders.values())
    assert all(run_in_ranks(4, _load_all, folders, gate, meeting=meeting))


def _save_all(folders: dict[str, Path], gate: str) -> None:
    for axis, folder in folders.items():
        save_part(folder, gate, axis)


def _load_all(folders: dict[str, Path], gate: str) -> bool:
    same = [load_part(folder, gate, axis) for folder in folders.values() for axis in AXIS]  # all take part in each
    return all(same)


def test_a_state_of_something_else_or_half_a_state_is_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "checkpoint"
    assert ShardedCheckpoint(folder, "key", WHOLE, "shared").load() is None
    save_part(folder, "shared", "features")
    assert ShardedCheckpoint(folder, "other", WHOLE, "shared").load() is None
    half = folder / "step40"  # a kill left it behind while it was being written
    half.mkdir()
    (half / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"half")
    assert load_part(folder, "shared", "features")
    ShardedCheckpoint(folder, "key", WHOLE, "shared").remove()
    assert not folder.parent.exists()
