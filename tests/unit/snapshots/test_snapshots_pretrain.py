import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from snapcoder.snapshots.checkpoint import restore_checkpoint, save_checkpoint, save_weights
from snapcoder.snapshots.pretrain import batch_sequences, initial_state, learning_rate, model_config, train
from snapcoder.storage.hashing import file_sha256
from snapcoder.study.snapshots import PretrainSettings

CPU = torch.device("cpu")
TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, 40, size=(30, 12)))


def settings_for(precision="fp32", **changes):
    return PretrainSettings(
        **{
            **{"d_model": 16, "n_layers": 2, "n_heads": 2, "steps": 12, "batch_size": 8, "warmup_steps": 3},
            **{"save_steps": (0, 5, 12), "checkpoint_every": 2, "precision": precision},
            **changes,
        }
    )


def fresh(settings):
    return initial_state(settings, model_config(settings, vocab_size=40, context_length=12, end_of_text=0), device=CPU)


class Stop(Exception):
    """Stands for a kill."""


def run(settings, folder, *, kill_after=None):
    state = fresh(settings)
    losses = restore_checkpoint(folder / "checkpoint.safetensors", state, key="k") or {}

    def snapshot(at):
        save_weights(folder / f"step{at.step}.safetensors", at)
        losses[at.step] = float(at.step)

    def checkpoint(at):
        if kill_after is not None and at.step > kill_after:
            raise Stop
        save_checkpoint(folder / "checkpoint.safetensors", at, key="k", losses=losses)

    train(state, TOKENS, settings, on_snapshot=snapshot, on_checkpoint=checkpoint)
    return state, losses


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kill_after", [1, 5, 8])
def test_training_killed_and_resumed_ends_bit_for_bit_the_same(tmp_path, precision, kill_after):
    settings = settings_for(precision)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    expected, losses = run(settings, whole)
    with pytest.raises(Stop):
        run(settings, halves, kill_after=kill_after)
    resumed, again = run(settings, halves)
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert resumed.log == expected.log
    assert again == losses == {0: 0.0, 5: 5.0, 12: 12.0}
    for step in (0, 5, 12):
        assert file_sha256(whole / f"step{step}.safetensors") == file_sha256(halves / f"step{step}.safetensors")


def test_a_checkpoint_of_another_job_or_a_broken_one_is_not_used(tmp_path):
    settings = settings_for()
    run(settings, tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    assert restore_checkpoint(file, fresh(settings), key="other") is None
    file.write_bytes(file.read_bytes()[:100])
    assert restore_checkpoint(file, fresh(settings), key="k") is None


def test_the_weights_load_as_a_hugging_face_checkpoint(tmp_path):
    settings = settings_for()
    state = fresh(settings)
    save_weights(tmp_path / "model.safetensors", state)
    config = model_config(settings, vocab_size=40, context_length=12, end_of_text=0)
    (tmp_path / "config.json").write_text(config.to_json_string(use_diff=False))
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=TOKENS).logits, state.model.eval()(input_ids=TOKENS).logits)


def test_training_learns_a_text_that_repeats():
    settings = settings_for(steps=60, lr=1e-2, save_steps=(0,))
    state = fresh(settings)
    tokens = torch.arange(12).repeat(30, 1)
    train(state, tokens, settings, on_snapshot=lambda _: None, on_checkpoint=lambda _: None)
    assert state.log[0]["loss"] == pytest.approx(np.log(40), abs=0.3)
    assert state.log[-1]["loss"] < 0.2
    assert all(row["param_step_norm"] > 0 for row in state.log)


def test_the_learning_rate_warms_up_and_decays_to_its_share():
    settings = settings_for(steps=1000, warmup_steps=100, lr=1.0, lr_final=0.1)
    rates = np.array([learning_rate(step, settings) for step in range(1000)])
    assert rates[0] == pytest.approx(0.01)
    assert rates.argmax() in (99, 100)
    assert rates[550] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert (np.diff(rates[100:]) < 0).all()


def test_an_epoch_reads_every_sequence_once_and_depends_on_seed_and_step_only():
    settings = settings_for()
    epoch = np.concatenate([batch_sequences(step, 24, settings) for step in range(3)])
    assert sorted(epoch) == list(range(24))
    assert np.array_equal(batch_sequences(7, 30, settings), batch_sequences(7, 30, settings))
    other = PretrainSettings(**{**settings.__dict__, "seed": 1})
    assert not np.array_equal(batch_sequences(0, 30, settings), batch_sequences(0, 30, other))
