import json
import math
from dataclasses import replace

import peer_dictionaries as peer
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from snapcoder.interop.files import InteropError
from snapcoder.interop.importing import import_dictionary
from snapcoder.interop.options import ImportOptions
from snapcoder.interop.probe import read_probe

NORMALISATIONS = {"CROSSCODER": 1, "SAE": 2, "MIXED": 3, "NONE": 4, "DECOUPLED": 5}
SAID = ImportOptions(steps=peer.STEPS, layer=6)


def crosscoder(seed=0, *, normalisation="CROSSCODER", threshold=0.8, normaliser=True, batch_topk=True):
    """A state dict of the fork's crosscoders and raw activations that it was made for."""
    parts, raw = peer.planted(seed)
    mean = raw.mean(dim=0)
    spread = (raw - mean).square().mean(dim=0).sqrt()
    scale = 1 / spread.square().sum(dim=1).sqrt() if normaliser else torch.ones(len(raw[0]))
    factor = scale * torch.tensor(peer.NORMS) / math.sqrt(peer.D_MODEL)  # our x times this is theirs
    state = {
        "encoder.weight": parts["W_E"] / factor[:, None, None],
        "encoder.bias": parts["b_E"].sum(dim=0),
        "decoder.weight": parts["W_D"] * factor[:, None, None],
        "decoder.bias": parts["b_D"] * factor[:, None],
        "code_normalization_id": torch.tensor(NORMALISATIONS[normalisation]),
    }
    if normaliser:  # fold the mean so that the planted code comes back
        state["encoder.bias"] = state["encoder.bias"] + torch.einsum(
            "sd,sdf->f", mean * scale[:, None], state["encoder.weight"]
        )
        state["decoder.bias"] = state["decoder.bias"] - mean * scale[:, None]
        state |= {
            "activation_mean": mean,
            "activation_std": spread,
            "activation_global_scale": scale,
            "target_rms": torch.tensor(1.0),
        }
    if batch_topk:
        state |= {"k": torch.tensor(3, dtype=torch.int), "threshold": torch.as_tensor(threshold)}
    kept = {name: value if value.dtype in (torch.int, torch.int64) else value.float() for name, value in state.items()}
    return kept, raw


def write(folder, state, *, save="ae.pt", config=None):
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    torch.save(state, folder / save) if save.endswith(".pt") else save_file(state, folder / save)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def assert_same(dictionary, raw, codes, reconstruction, *, but=0):
    """Equal up to float32, `but` entries at the threshold aside."""
    our_codes, ours = peer.ours(dictionary, raw)
    flipped = (our_codes != 0) != (codes != 0)
    assert int(flipped.sum()) <= but
    same = ~flipped.any(dim=2)
    torch.testing.assert_close(our_codes[same], codes[same], atol=1e-4, rtol=1e-4)
    size = raw.norm(dim=2).mean(dim=0)[:, None]
    torch.testing.assert_close((ours / size)[same], (reconstruction / size)[same], atol=1e-5, rtol=0)


def threshold_that_splits(state, raw, normalisation):
    """A threshold at the middle of the positive codes, so that it decides, far from any of them."""
    codes, _ = peer.crosscoder_forward({**state, "threshold": torch.tensor(0.0)}, raw, normalisation=normalisation)
    norms = state["decoder.weight"].double().norm(dim=2)
    weight = {
        "NONE": torch.ones_like(norms[0]),
        "SAE": norms.square().sum(0).sqrt(),
        "CROSSCODER": norms.sum(0),
        "MIXED": norms.square().sum(0).sqrt() + 0.1 * norms.sum(0),
        "DECOUPLED": norms[0],
    }[normalisation]
    values = (codes[:, 0] * weight).flatten().sort().values
    values = values[values > 0.01]
    middle = len(values) // 2
    return float((values[middle] + values[middle + 1]) / 2)


@pytest.mark.parametrize("normalisation", ["NONE", "SAE", "CROSSCODER", "MIXED"])
@pytest.mark.parametrize("normaliser", [True, False])
def test_every_code_normalisation_becomes_the_shared_gate(tmp_path, normalisation, normaliser):
    state, raw = crosscoder(normalisation=normalisation, normaliser=normaliser)
    state["threshold"] = torch.tensor(threshold_that_splits(state, raw, normalisation))
    codes, reconstruction = peer.crosscoder_forward(state, raw, normalisation=normalisation)
    dictionary = import_dictionary(write(tmp_path / "cc", state), SAID).dictionary
    assert_same(dictionary, raw, codes, reconstruction)
    assert (dictionary.gate, dictionary.arm, dictionary.steps) == ("shared", "batchtopk", peer.STEPS)
    assert 0 < (codes != 0).double().mean() < 0.2  # the threshold decides


@pytest.mark.parametrize("thresholds", [(0.5, 0.5, 0.5), (0.3, 0.5, 0.7)])
def test_decoupled_thresholds_become_one_threshold_in_other_units(tmp_path, thresholds):
    state, raw = crosscoder(normalisation="DECOUPLED")
    state["threshold"] = torch.tensor(thresholds)
    expected = peer.crosscoder_forward(state, raw, normalisation="DECOUPLED")
    dictionary = import_dictionary(write(tmp_path / "cc", state), SAID).dictionary
    assert_same(dictionary, raw, *expected, but=2)
    assert dictionary.gate == "per_snapshot"
    assert len(set(dictionary.threshold.tolist())) == 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 500), thresholds=st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3))
def test_any_decoupled_thresholds_gate_alike(tmp_path_factory, seed, thresholds):
    state, raw = crosscoder(seed, normalisation="DECOUPLED", normaliser=False)
    state["threshold"] = torch.tensor(thresholds)
    expected = peer.crosscoder_forward(state, raw, normalisation="DECOUPLED")
    dictionary = import_dictionary(write(tmp_path_factory.mktemp("cc"), state), SAID).dictionary
    assert_same(dictionary, raw, *expected, but=3)


def test_a_crosscoder_of_relu_has_no_threshold(tmp_path):
    state, raw = crosscoder(batch_topk=False)
    codes, reconstruction = peer.crosscoder_forward(state, raw, normalisation="CROSSCODER", batch_topk=False)
    dictionary = import_dictionary(write(tmp_path / "cc", state), SAID).dictionary
    our_codes, ours = peer.ours(dictionary, raw)
    torch.testing.assert_close(our_codes, codes, atol=1e-4, rtol=1e-4)
    size = raw.norm(dim=2).mean(dim=0)[:, None]
    torch.testing.assert_close(ours / size, reconstruction / size, atol=1e-5, rtol=0)
    assert (dictionary.arm, dictionary.threshold.any()) == ("relu_l1", False)


def test_compiled_hub_and_old_files_are_read(tmp_path):
    state, raw = crosscoder(normaliser=False)
    expected = peer.crosscoder_forward(state, raw, normalisation="CROSSCODER")
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in state.items()}
    assert_same(import_dictionary(write(tmp_path / "compiled", compiled), SAID).dictionary, raw, *expected)
    hub = write(tmp_path / "hub", state, save="model.safetensors", config={"code_normalization": "CROSSCODER", "k": 3})
    assert_same(import_dictionary(hub, SAID).dictionary, raw, *expected)
    old = {name: tensor for name, tensor in state.items() if name != "code_normalization_id"}
    old |= {name: torch.full((3, peer.D_MODEL), math.nan) for name in ("activation_mean", "activation_std")}
    trainer = {"trainer": {"dict_class": "BatchTopKCrossCoder", "layer": 6, "k": 3}}
    found = import_dictionary(write(tmp_path / "old", old, config=trainer), replace(SAID, layer=None))
    assert_same(found.dictionary, raw, *expected)
    assert found.dictionary.layer == 6


def test_the_weights_of_mixed_come_from_the_config(tmp_path):
    state, raw = crosscoder(normalisation="MIXED", threshold=1.5)
    alphas = {"code_normalization_alpha_sae": 0.25, "code_normalization_alpha_cc": 0.75}
    folder = write(tmp_path / "cc", state, config={"trainer": {"dict_class": "BatchTopKCrossCoder", **alphas}})
    expected = peer.crosscoder_forward(state, raw, normalisation="MIXED", alphas=(0.25, 0.75))
    assert_same(import_dictionary(folder, SAID).dictionary, raw, *expected, but=2)


@pytest.mark.parametrize("normalisation", ["SAE", "DECOUPLED"])
def test_a_threshold_that_was_never_tracked_is_measured(tmp_path, normalisation):
    unset = [-1.0] * 3 if normalisation == "DECOUPLED" else -1.0
    state, raw = crosscoder(normalisation=normalisation, threshold=unset)
    state["k"] = torch.tensor(2, dtype=torch.int)
    folder = write(tmp_path / "cc", state)
    with pytest.raises(InteropError, match=r"batchtopk without a stored threshold.*--probe"):
        import_dictionary(folder, SAID)
    probe = read_probe(peer.write_caches(tmp_path / "caches", raw))
    imported = import_dictionary(folder, SAID, probe)
    assert [score.l0 for score in imported.after] == pytest.approx([2.0] * 4, abs=0.01)


def autoencoder(kind, random):
    """A state dict of one of the one-snapshot classes, and its forward pass."""
    weight = torch.randn(12, 16, generator=random)
    bias, b_dec, threshold = torch.randn(12, generator=random), torch.randn(16, generator=random), torch.tensor(0.7)
    decoder = torch.randn(16, 12, generator=random)
    linear = {"encoder.weight": weight, "encoder.bias": bias, "decoder.weight": decoder}
    matrices = {"W_enc": weight.T, "b_enc": bias, "W_dec": decoder.T, "b_dec": b_dec}
    tracked = {"k": torch.tensor(4, dtype=torch.int), "threshold": threshold}
    each = torch.linspace(-0.5, 2.0, 12)
    state = {
        "AutoEncoder": {**linear, "bias": b_dec},
        "AutoEncoderNew": {**linear, "decoder.bias": b_dec},
        "BatchTopKSAE": {**linear, "b_dec": b_dec, **tracked},
        "MatryoshkaBatchTopKSAE": {**matrices, **tracked, "group_sizes": torch.tensor([4, 8])},
        "JumpReluAutoEncoder": {**matrices, "threshold": each},
    }[kind]

    def forward(raw):
        shifted = raw if kind in ("AutoEncoderNew", "JumpReluAutoEncoder") else raw - b_dec.double()
        f = torch.relu(shifted @ weight.double().T + bias)
        if "threshold" in state:
            f = f * (f > state["threshold"].double())
        return f[:, None], (f @ decoder.double().T + b_dec)[:, None]

    return state, forward


@pytest.mark.parametrize(
    "kind", ["AutoEncoder", "AutoEncoderNew", "BatchTopKSAE", "MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"]
)
def test_autoencoders_are_dictionaries_of_one_snapshot(tmp_path, kind):
    random = torch.Generator().manual_seed(3)
    state, forward = autoencoder(kind, random)
    raw = torch.randn(200, 16, generator=random, dtype=torch.float64) * 2
    config = {"trainer": {"dict_class": kind, "layer": 2, "k": 4}, "buffer": {"ctx_len": 128}}
    dictionary = import_dictionary(
        write(tmp_path / "ae", state, config=config), ImportOptions(steps=(143000,))
    ).dictionary
    assert_same(dictionary, raw[:, None], *forward(raw), but=1)
    assert (dictionary.steps, dictionary.layer, dictionary.gate) == ((143000,), 2, "per_snapshot")
    if kind != "BatchTopKSAE":  # its class can be told from its tensors
        bare = import_dictionary(write(tmp_path / "bare", state), ImportOptions(steps=(143000,), layer=2)).dictionary
        assert (bare.decoder == dictionary.decoder).all()
        assert (bare.threshold == dictionary.threshold).all()


def test_a_normalised_batchtopk_sae_reads_raw_activations(tmp_path):
    random = torch.Generator().manual_seed(3)
    state, forward = autoencoder("BatchTopKSAE", random)
    raw = torch.randn(200, 16, generator=random, dtype=torch.float64) * 30 + 5
    mean, spread = raw.mean(0), raw.std(0)
    scale = 4.0 / spread.square().sum().sqrt()
    state |= {
        "activation_mean": mean.float(),
        "activation_std": spread.float(),
        "activation_global_scale": scale.float(),
        "target_rms": torch.tensor(4.0),
    }
    codes, x = forward((raw - mean) * scale)
    folder = write(tmp_path / "ae", state, config={"trainer": {"dict_class": "BatchTopKSAE"}})
    dictionary = import_dictionary(folder, ImportOptions(steps=(7,), layer=0)).dictionary
    assert_same(dictionary, raw[:, None], codes, x / scale + mean, but=1)


def test_what_cannot_be_expressed_is_refused_in_one_line(tmp_path):
    state, _ = crosscoder()
    per_dimension = {**state, "activation_global_scale": torch.ones(3)}
    gated, _ = autoencoder("AutoEncoder", torch.Generator())
    cases = [
        (state, {}, replace(SAID, steps=None), "steps of its 3 snapshots are unknown.*--steps"),
        (state, {}, replace(SAID, steps=(1, 2)), "--steps: needs 3 different"),
        (state, {}, replace(SAID, layer=None), "which block.*--layer"),
        (state, {}, replace(SAID, folds=1), "--norms and --folds belong to files of llamascopium"),
        (per_dimension, {}, SAID, "standard deviation per dimension"),
        ({**state, "code_normalization_id": torch.tensor(9)}, {}, SAID, "code_normalization_id 9 is unknown"),
        ({**state, "decoder.weight": state["decoder.weight"][:2]}, {}, SAID, "reads 3 inputs and writes 2"),
        ({**state, "encoder.bias": state["encoder.bias"][:3]}, {}, SAID, r"encoder.bias has shape \(3,\)"),
        (
            {**state, "encoder.bias": state["encoder.bias"] * math.nan},
            {},
            SAID,
            "encoder.bias holds values that are not",
        ),
        (state, {"trainer": {"encoder_layers": [0, 1, 1]}}, SAID, "encoder_layers reorders"),
        (gated, {"trainer": {"dict_class": "GatedAutoEncoder"}}, SAID, "two different functions"),
        (gated, {"trainer": {"dict_class": "AutoEncoderTopK"}}, SAID, "topk depends on all features"),
        ({**gated, "b_dec": torch.ones(16)}, {}, SAID, "BatchTopKSAE or AutoEncoderTopK"),
        (gated, {"trainer": {"dict_class": "Something"}}, SAID, "Something cannot be imported"),
    ]
    for number, (tensors, config, said, complaint) in enumerate(cases):
        folder = write(tmp_path / str(number), tensors, config=config)
        with pytest.raises(InteropError, match=complaint) as error:
            import_dictionary(folder, said)
        assert "\n" not in str(error.value)


def test_decoupled_thresholds_of_which_some_are_missing_are_refused(tmp_path):
    state, _ = crosscoder(normalisation="DECOUPLED", threshold=[0.5, -1.0, 0.5])
    with pytest.raises(InteropError, match="a snapshot without a threshold"):
        import_dictionary(write(tmp_path / "cc", state), SAID)
