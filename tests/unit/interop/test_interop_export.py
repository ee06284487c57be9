import json
import math
from dataclasses import replace

import numpy as np
import peer_dictionaries as peer
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from snapcoder.interop.files import InteropError
from snapcoder.interop.importing import import_dictionary
from snapcoder.interop.llamascopium_export import expansion_factor, to_llamascopium, write_llamascopium
from snapcoder.interop.options import ImportOptions
from snapcoder.storage.dictionaries import Dictionary

ARMS = ("jumprelu", "batchtopk", "relu_l1")


def dictionary(seed=0, *, arm="jumprelu", gate="per_snapshot", centered=True, norms=peer.NORMS, n_features=12):
    random = np.random.default_rng(seed)
    shape = (len(norms), n_features, peer.D_MODEL)
    threshold = {"relu_l1": np.zeros(n_features), "batchtopk": np.full(n_features, 1.3)}
    arrays = {
        "encoder": random.normal(size=(shape[0], shape[2], shape[1])) / 4,
        "decoder": random.normal(size=shape) * random.uniform(0.1, 1.0, (shape[0], n_features, 1)),
        "encoder_bias": random.normal(size=n_features),
        "decoder_bias": random.normal(size=(shape[0], shape[2])),
        "threshold": threshold.get(arm, random.uniform(0.2, 2.0, n_features)),
        "scale": math.sqrt(peer.D_MODEL) / np.array(norms),
        "center": random.normal(size=(shape[0], shape[2])) * np.array(norms)[:, None] / 4 * centered,
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return Dictionary(**arrays, steps=(0, 64, 1000, 2000, 5000)[: len(norms)], gate=gate, arm=arm, layer=6)


def activations(norms, seed=0, n_rows=300):
    random = torch.Generator().manual_seed(seed)
    raw = torch.randn(n_rows, len(norms), peer.D_MODEL, generator=random, dtype=torch.float64)
    return raw * torch.tensor(norms, dtype=torch.float64)[:, None] / math.sqrt(peer.D_MODEL)


def as_llamascopium_computes(folder, raw):
    """Its forward pass over the written files, read without our importer."""
    config, state = json.loads((folder / "config.json").read_text()), load_file(folder / "sae_weights.safetensors")
    norms = [float(state[f"dataset_average_activation_norm.{name}"]) for name in config["hook_points"]]
    parts = {name: tensor for name, tensor in state.items() if not name.startswith("dataset")}
    assert int(config["d_model"] * config["expansion_factor"]) == parts["W_E"].shape[2]
    assert config["norm_activation"] == "dataset-wise"
    return peer.llamascopium_forward(parts, raw, norms=norms, act_fn=config["act_fn"])


def assert_same(left, right, raw, *, but=0):
    flipped = (left[0] != 0) != (right[0] != 0)
    assert int(flipped.sum()) <= but
    same = ~flipped.any(dim=2)
    torch.testing.assert_close(left[0][same], right[0][same], atol=2e-5, rtol=1e-5)
    size = raw.norm(dim=2).mean(dim=0)[:, None]
    torch.testing.assert_close((left[1] / size)[same], (right[1] / size)[same], atol=5e-6, rtol=0)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("centered", [False, True])
def test_an_export_computes_the_same_from_raw_activations(tmp_path, arm, centered):
    ours, raw = dictionary(arm=arm, centered=centered), activations(peer.NORMS)
    notes = write_llamascopium(tmp_path, ours, source="dictionary.safetensors")
    assert_same(as_llamascopium_computes(tmp_path, raw), peer.ours(ours, raw), raw, but=2)
    assert any("centers were folded" in note for note in notes) == centered


def test_folding_the_center_is_exact(tmp_path):
    ours, raw = dictionary(), activations(peer.NORMS)
    tensors, _, _ = to_llamascopium(ours)
    x = (raw - torch.from_numpy(ours.center).double()) * torch.from_numpy(ours.scale).double()[:, None]
    z = torch.einsum("nsd,sdf->nf", x, torch.from_numpy(ours.encoder).double()) + torch.from_numpy(ours.encoder_bias)
    theirs = torch.einsum(
        "nsd,sdf->nf", raw * torch.from_numpy(ours.scale).double()[:, None], torch.from_numpy(tensors["W_E"]).double()
    ) + torch.from_numpy(tensors["b_E"]).double().sum(0)
    torch.testing.assert_close(theirs, z, atol=1e-6, rtol=0)  # float32 rounding of the written biases alone
    assert np.ptp(tensors["b_E"], axis=0).max() == 0  # equal shares


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    norms=st.lists(st.floats(0.5, 400.0), min_size=1, max_size=5),
    arm=st.sampled_from(ARMS),
    centered=st.booleans(),
    n_features=st.integers(2, 40),
)
def test_export_and_import_give_the_dictionary_back(tmp_path_factory, seed, norms, arm, centered, n_features):
    ours = dictionary(seed, arm=arm, centered=centered, norms=norms, n_features=n_features)
    raw = activations(norms, seed, n_rows=60)
    folder = tmp_path_factory.mktemp("exported")
    write_llamascopium(folder, ours, source="dictionary.safetensors")
    back = import_dictionary(folder, ImportOptions(folds=0)).dictionary
    assert_same(peer.ours(back, raw), peer.ours(ours, raw), raw, but=2)
    np.testing.assert_allclose(back.scale, ours.scale, rtol=1e-6)
    np.testing.assert_allclose(back.threshold, ours.threshold, rtol=1e-5, atol=1e-37)
    np.testing.assert_array_equal(back.decoder, ours.decoder)
    np.testing.assert_array_equal(back.encoder, ours.encoder)
    assert (back.steps, back.layer, back.gate) == (ours.steps, 6, "per_snapshot")
    assert back.arm == ("relu_l1" if arm == "relu_l1" else "jumprelu")


def test_a_folding_of_an_export_is_noticed_on_import(tmp_path):
    ours, raw = dictionary(), activations(peer.NORMS)
    tensors, config, _ = to_llamascopium(ours)
    parts = {name: torch.from_numpy(array) for name, array in tensors.items() if not name.startswith("dataset")}
    folder = peer.write_llamascopium(
        tmp_path, peer.fold_as_llamascopium(parts, peer.NORMS), **{**config, "norm_activation": "inference"}
    )
    imported = import_dictionary(folder, ImportOptions())
    assert imported.provenance["imported"]["folds"] == 1
    assert_same(peer.ours(imported.dictionary, raw), peer.ours(ours, raw), raw, but=2)


@given(n_features=st.integers(1, 200_000), d_model=st.integers(1, 8192))
def test_the_expansion_factor_truncates_to_the_size(n_features, d_model):
    assert int(d_model * expansion_factor(n_features, d_model)) == n_features


def test_a_silent_decoder_row_does_not_become_nan(tmp_path):
    ours, raw = dictionary(), activations(peer.NORMS)
    decoder = ours.decoder.copy()
    decoder[1, :3] = 0
    decoder[:, 5] = 0
    ours = replace(ours, decoder=decoder)
    notes = write_llamascopium(tmp_path, ours, source="dictionary.safetensors")
    computed = as_llamascopium_computes(tmp_path, raw)
    assert torch.isfinite(computed[0]).all()
    assert_same(computed, peer.ours(ours, raw), raw, but=2)
    assert any(note.startswith("6 decoder rows of norm 0") for note in notes)


def test_the_shared_gate_is_refused_unless_the_norms_agree(tmp_path):
    with pytest.raises(InteropError, match=r"gate 'shared' decides once.*12 features.*per_snapshot to export"):
        to_llamascopium(dictionary(gate="shared"))
    ours = dictionary(gate="shared")
    decoder = ours.decoder / np.linalg.norm(ours.decoder, axis=2, keepdims=True)
    decoder[0, :4] = 0  # absent at a snapshot: the gate there does not matter, but it enters the mean square
    ours, raw = replace(ours, decoder=decoder), activations(peer.NORMS)
    write_llamascopium(tmp_path, ours, source="dictionary.safetensors")
    theirs, mine = as_llamascopium_computes(tmp_path, raw), peer.ours(ours, raw)
    size = raw.norm(dim=2).mean(dim=0)[:, None]
    torch.testing.assert_close(theirs[1] / size, mine[1] / size, atol=5e-6, rtol=0)
    torch.testing.assert_close(theirs[0][:, 1:], mine[0][:, 1:], atol=2e-5, rtol=1e-5)


def test_the_shared_gate_without_thresholds_is_relu(tmp_path):
    ours, raw = dictionary(gate="shared", arm="relu_l1"), activations(peer.NORMS)
    write_llamascopium(tmp_path, ours, source="dictionary.safetensors")
    assert_same(as_llamascopium_computes(tmp_path, raw), peer.ours(ours, raw), raw, but=2)


def test_thresholds_below_zero_are_refused():
    ours = dictionary()
    with pytest.raises(InteropError, match="threshold below 0"):
        to_llamascopium(replace(ours, threshold=ours.threshold - 1))
