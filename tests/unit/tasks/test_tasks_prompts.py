import dataclasses

import h5py
import numpy as np
import pytest
import torch
from planted_tasks import D_MODEL, N_FEATURES, STEPS, make_dictionary

from snapcoder.attribution import prompt_codes as prompt_codes_module
from snapcoder.attribution.prompt_codes import of_snapshot, prompt_codes
from snapcoder.storage.dictionaries import Extension
from snapcoder.storage.prompts import PromptError, read_prompts, require_same_prompts, write_prompts
from snapcoder.tasks.prompts import capture_prompts


@pytest.fixture
def captured(model, examples):
    lines = np.array([2, 3, 5, 8])
    return capture_prompts(
        model, [examples[line] for line in lines], lines, step=8, layer=1, examples_sha256="abc", batch_size=3
    )


def test_captured_activations_are_those_after_the_block(model, examples, captured):
    for place, line in enumerate(captured.line):
        for side in ("clean", "patch"):
            tokens = getattr(examples[line], f"{side}_tokens")
            with torch.no_grad():
                states = model(torch.tensor([tokens]), output_hidden_states=True).hidden_states
            rows = slice(captured.offset[place], captured.offset[place + 1])
            np.testing.assert_allclose(getattr(captured, side)[rows], states[2][0].numpy(), atol=1e-5)


def test_positions_of_lines_come_in_the_order_asked_for_and_unknown_lines_are_refused(captured):
    at = captured.positions(np.array([5, 2]))
    assert at.tolist() == [*range(captured.offset[2], captured.offset[3]), *range(captured.offset[1])]
    for line in (4, 99):
        with pytest.raises(PromptError, match="no cached prompt"):
            captured.positions(np.array([line]))


def test_prompts_survive_the_file_and_a_flipped_value_is_found(captured, tmp_path):
    path = tmp_path / "step8.h5"
    write_prompts(path, captured, {"step": "prompts"})
    again = read_prompts(path)
    np.testing.assert_array_equal(again.clean, captured.clean)
    assert (again.step, again.layer, again.examples_sha256) == (8, 1, "abc")
    with h5py.File(path, "r+") as file:
        file["patch"][0, 0] += 1
    with pytest.raises(PromptError, match="hash differs"):
        read_prompts(path)


def test_prompts_of_other_examples_or_another_layer_are_not_mixed(captured):
    require_same_prompts(captured, "x.h5", examples_sha256="abc", layer=1)
    with pytest.raises(PromptError, match="other task examples"):
        require_same_prompts(captured, "x.h5", examples_sha256="abd", layer=1)
    with pytest.raises(PromptError, match="holds block 1, expected block 0"):
        require_same_prompts(captured, "x.h5", examples_sha256="abc", layer=0)


def test_an_activation_that_is_not_finite_is_refused_with_its_line(captured, tmp_path):
    clean = captured.clean.copy()
    clean[captured.offset[1]] = np.nan
    with pytest.raises(PromptError, match="clean prompt on line 4 "):
        write_prompts(tmp_path / "x.h5", dataclasses.replace(captured, clean=clean), {})


def raw_activations(rng, n=13):
    return [rng.normal(size=(n, D_MODEL)).astype(np.float32) for _ in STEPS]


def slow_code(dictionary, base, index):
    """The docstring of `Dictionary`, read aloud."""
    z = sum(
        ((a - dictionary.center[s]) * dictionary.scale[s]).astype(np.float64) @ dictionary.encoder[s]
        for s, a in enumerate(base)
    )
    z = z + dictionary.encoder_bias
    norms = np.linalg.norm(dictionary.decoder, axis=2)
    gate = norms[index] if dictionary.gate == "per_snapshot" else np.sqrt((norms**2).mean(axis=0))
    return np.where(z * gate > dictionary.threshold, z, 0.0)


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
@pytest.mark.parametrize("index", [0, 2])
def test_codes_follow_the_definition_in_chunks_of_any_size(gate, index, monkeypatch):
    rng = np.random.default_rng(4)
    dictionary, base = make_dictionary(rng, gate=gate), raw_activations(rng)
    monkeypatch.setattr(prompt_codes_module, "_CHUNK_ENTRIES", 5 * N_FEATURES)
    f = prompt_codes(dictionary, of_snapshot(dictionary, STEPS[index]), base, base[index])
    expected = slow_code(dictionary, base, index)
    assert 0 < f.nnz < expected.size
    np.testing.assert_allclose(f.toarray(), expected, atol=1e-5)


def make_extension(dictionary, rng, *, own=0.0):
    return Extension(
        decoder=dictionary.decoder[1] * 1.3,
        decoder_bias=dictionary.decoder_bias[1],
        scale=1.7,
        center=dictionary.center[1],
        encoder=own * rng.normal(size=(D_MODEL, N_FEATURES)).astype(np.float32),
        encoder_bias=np.full(N_FEATURES, own, dtype=np.float32),
        threshold=dictionary.threshold * 0.9,
        step=20,
        level="adapted" if own else "frozen",
        layer=1,
    )


@pytest.mark.parametrize("own", [0.0, 0.2])
def test_an_added_snapshot_adds_its_own_term_and_its_own_gate(own):
    rng = np.random.default_rng(5)
    dictionary, base = make_dictionary(rng), raw_activations(rng)
    extension, activation = make_extension(dictionary, rng, own=own), raw_activations(rng)[0]
    f = prompt_codes(dictionary, of_snapshot(dictionary, 20, extension), base, activation)
    z = slow_code(dataclasses.replace(dictionary, threshold=np.full(N_FEATURES, -1e9, np.float32)), base, 0)
    z = z + ((activation - extension.center) * 1.7) @ extension.encoder + extension.encoder_bias
    expected = np.where(z * np.linalg.norm(extension.decoder, axis=1) > extension.threshold, z, 0.0)
    np.testing.assert_allclose(f.toarray(), expected, atol=1e-5)


def test_a_step_that_the_dictionary_does_not_know_is_refused(dictionary):
    with pytest.raises(ValueError, match="step 20 is no base snapshot"):
        of_snapshot(dictionary, 20)
    extension = make_extension(dictionary, np.random.default_rng(0))
    with pytest.raises(ValueError, match="extension is of step 20, expected step 24"):
        of_snapshot(dictionary, 24, extension)
    with pytest.raises(ValueError, match="prompts of 1 snapshots"):
        prompt_codes(dictionary, of_snapshot(dictionary, 0), raw_activations(np.random.default_rng(0))[:1], None)
