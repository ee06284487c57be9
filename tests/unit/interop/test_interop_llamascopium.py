import json
from dataclasses import replace

import numpy as np
import peer_dictionaries as peer
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.interop.files import InteropError
from snapcoder.interop.folding import detect_folds, fold
from snapcoder.interop.importing import import_dictionary
from snapcoder.interop.options import ImportOptions
from snapcoder.interop.probe import mean_ev, read_probe

LAYER = ImportOptions(layer=6)
norm_lists = st.lists(st.floats(0.5, 500.0), min_size=2, max_size=5)


@pytest.fixture
def planted():
    return peer.planted()


@pytest.fixture
def probe(tmp_path, planted):
    return read_probe(peer.write_caches(tmp_path / "caches", planted[1]))


def assert_same(dictionary, raw, codes, reconstruction):
    """Equal up to the float32 of the stored weights; the planted codes are far from the threshold."""
    our_codes, ours = peer.ours(dictionary, raw)
    torch.testing.assert_close(our_codes, codes, atol=1e-4, rtol=1e-4)
    size = raw.norm(dim=2).mean(dim=0)[:, None]
    torch.testing.assert_close(ours / size, reconstruction / size, atol=1e-5, rtol=0)


@pytest.mark.parametrize("act_fn, arm", [("jumprelu", "jumprelu"), ("relu", "relu_l1")])
def test_an_unfolded_dictionary_computes_the_same_from_raw_activations(tmp_path, planted, act_fn, arm):
    parts, raw = planted
    imported = import_dictionary(peer.write_llamascopium(tmp_path / "sae", parts, act_fn=act_fn), LAYER)
    assert_same(imported.dictionary, raw, *peer.llamascopium_forward(parts, raw, norms=peer.NORMS, act_fn=act_fn))
    assert imported.dictionary.steps == peer.STEPS
    assert (imported.dictionary.arm, imported.dictionary.layer) == (arm, 6)


@pytest.mark.parametrize("mode, folds", [("dataset-wise", 1), ("dataset-wise", 2), ("inference", 1), ("inference", 2)])
@pytest.mark.parametrize("tried", [False, True])
def test_foldings_are_found_and_undone_whatever_the_config_says(tmp_path, planted, probe, mode, folds, tried):
    parts, raw = planted
    folded = parts
    for _ in range(folds):
        folded = peer.fold_as_llamascopium(folded, peer.NORMS)
    folder = peer.write_llamascopium(tmp_path / "sae", folded, norm_activation=mode)
    imported = import_dictionary(folder, LAYER, probe if tried else None)
    assert_same(imported.dictionary, raw, *peer.llamascopium_forward(parts, raw, norms=peer.NORMS))
    assert imported.provenance["imported"]["folds"] == folds
    if tried:
        assert mean_ev(imported.after) > 0.99
        assert mean_ev(imported.before) < mean_ev(imported.after) - 0.1


def test_scores_as_saved_are_those_of_their_own_computation(tmp_path, planted, probe):
    parts, raw = planted
    folded = peer.fold_as_llamascopium(parts, peer.NORMS)
    folder = peer.write_llamascopium(tmp_path / "sae", folded, norm_activation="inference")
    imported = import_dictionary(folder, LAYER, probe)
    codes, theirs = peer.llamascopium_forward(folded, raw, norms=None)
    for index, score in enumerate(imported.before[:-1]):
        left = (theirs - raw)[:, index].square().sum() / (raw - raw.mean(0))[:, index].square().sum()
        assert score.ev == pytest.approx(1 - float(left), rel=1e-3)
        assert score.l0 == pytest.approx(float((codes[:, index] > 0).sum(1).double().mean()), rel=1e-2)


@given(norms=norm_lists, times=st.integers(0, 3), seed=st.integers(0, 100))
def test_undoing_as_many_foldings_restores_the_biases(norms, times, seed):
    biases = np.random.default_rng(seed).normal(size=(len(norms), 7)).astype(np.float32)
    folded = fold(biases, np.array(norms), 16, times=times)
    np.testing.assert_allclose(fold(folded, np.array(norms), 16, times=-times), biases, rtol=1e-5)


@given(norms=norm_lists, times=st.integers(0, 3), seed=st.integers(0, 100))
def test_foldings_are_told_from_the_encoder_biases_exactly_when_the_norms_differ(norms, times, seed):
    norms = np.array(norms)
    row = np.random.default_rng(seed).normal(size=7)
    folded = fold(np.tile(row, (len(norms), 1)), norms, 16, times=times)
    found = detect_folds(folded, norms, 16)
    spread = norms.std() / norms.mean()
    assert found == times if spread > 0.1 else found in (times, None)
    assert detect_folds(np.zeros_like(folded), norms, 16) is None
    assert detect_folds(folded, np.full_like(norms, norms[0]), 16) is None


@given(norms=norm_lists, seed=st.integers(0, 100))
def test_biases_that_differ_between_snapshots_tell_nothing(norms, seed):
    biases = np.random.default_rng(seed).normal(size=(len(norms), 7))
    assert detect_folds(biases, np.array(norms), 16) is None


def test_with_equal_norms_only_a_probe_tells_a_folding(tmp_path):
    norms = (40.0, 40.0, 40.0)
    parts, raw = peer.planted(norms=norms)
    folded = peer.fold_as_llamascopium(parts, norms)
    folder = peer.write_llamascopium(tmp_path / "sae", folded, norms=norms)
    with pytest.raises(InteropError, match=r"cannot tell whether.*--probe.*--folds"):
        import_dictionary(folder, LAYER)
    expected = peer.llamascopium_forward(parts, raw, norms=norms)
    assert_same(import_dictionary(folder, replace(LAYER, folds=1)).dictionary, raw, *expected)
    probe = read_probe(peer.write_caches(tmp_path / "caches", raw))
    assert_same(import_dictionary(folder, LAYER, probe).dictionary, raw, *expected)


@pytest.mark.parametrize(
    "norms", [(0.0, 20.0, 160.0), (float("nan"), 1.0, 1.0), (1.8e31, 2.0, 2.0), (-3.0, 2.0, 2.0), None]
)
def test_norms_that_were_never_set_are_refused_unless_given(tmp_path, planted, probe, norms):
    parts, raw = planted
    folder = peer.write_llamascopium(tmp_path / "sae", parts, norms=norms, norm_activation="inference")
    with pytest.raises(InteropError, match=r"dataset_average_activation_norm.*--norms"):
        import_dictionary(folder, LAYER)
    with pytest.raises(InteropError, match=r"the probe's mean norms are \d+"):
        import_dictionary(folder, LAYER, probe)
    imported = import_dictionary(folder, replace(LAYER, norms=peer.NORMS))
    assert_same(imported.dictionary, raw, *peer.llamascopium_forward(parts, raw, norms=peer.NORMS))


def test_a_dictionary_of_unscaled_activations_is_read_as_such(tmp_path, planted):
    parts, raw = planted
    folder = peer.write_llamascopium(tmp_path / "sae", parts, norms=None, norm_activation="inference")
    imported = import_dictionary(folder, replace(LAYER, norms="raw"))
    assert_same(imported.dictionary, raw, *peer.llamascopium_forward(parts, raw, norms=None))


def test_norms_beside_biases_that_were_never_folded_are_not_believed_in_inference_mode(tmp_path, planted, probe):
    parts, raw = planted
    folder = peer.write_llamascopium(tmp_path / "sae", parts, norm_activation="inference")
    with pytest.raises(InteropError, match=r"says inference, but its biases were never folded.*--norms"):
        import_dictionary(folder, LAYER)
    expected = peer.llamascopium_forward(parts, raw, norms=peer.NORMS)
    assert_same(import_dictionary(folder, LAYER, probe).dictionary, raw, *expected)


def test_plausible_but_wrong_norms_are_refused_on_a_probe(tmp_path, planted, probe):
    parts, _ = planted
    folder = peer.write_llamascopium(tmp_path / "sae", parts, norms=(160.0, 3.9, 20.0))
    with pytest.raises(
        InteropError, match=r"are 160, 3\.9, 20, the probe's 3\.9, 20, 160: it belongs to other activations"
    ):
        import_dictionary(folder, LAYER, probe)


def test_a_dictionary_of_another_model_is_refused_on_a_probe(tmp_path, probe):
    parts, _ = peer.planted(seed=1)
    parts["W_D"] *= 30
    parts["W_E"] *= 30
    folder = peer.write_llamascopium(tmp_path / "sae", parts, norms=probe.mean_norms())
    with pytest.raises(InteropError, match=r"worse than their mean does \(explained variance -"):
        import_dictionary(folder, replace(LAYER, folds=0), probe)


def test_biases_and_probe_that_disagree_are_refused(tmp_path, planted, probe):
    parts, _ = planted
    rows_once_folded = {**parts, "b_E": peer.fold_as_llamascopium(parts, peer.NORMS)["b_E"]}  # b_D not
    rows_once_folded["b_E"] *= float(parts["b_E"].sum(0).norm() / rows_once_folded["b_E"].sum(0).norm())
    with pytest.raises(InteropError, match=r"say folded once.*the probe never"):
        import_dictionary(peer.write_llamascopium(tmp_path / "sae", rows_once_folded), LAYER, probe)


def test_a_threshold_of_batchtopk_is_measured_on_the_probe(tmp_path, planted, probe):
    parts, raw = planted
    parts = {name: tensor for name, tensor in parts.items() if "threshold" not in name}
    folder = peer.write_llamascopium(tmp_path / "sae", parts, act_fn="batchtopk", top_k=2)
    with pytest.raises(InteropError, match=r"batchtopk without a stored threshold.*--probe.*--threshold"):
        import_dictionary(folder, LAYER)
    imported = import_dictionary(folder, LAYER, probe)
    codes, _ = peer.llamascopium_forward(parts, raw, norms=peer.NORMS, act_fn="batchtopk", k=2)
    our_codes, _ = peer.ours(imported.dictionary, raw)
    assert ((our_codes > 0) != (codes > 0)).sum() <= 2  # ties with the cut itself
    assert imported.after[-1].l0 == pytest.approx(2, abs=0.01)
    assert import_dictionary(folder, replace(LAYER, threshold=0.7)).dictionary.threshold.tolist() == pytest.approx(
        [0.7] * peer.N_FEATURES
    )


@pytest.mark.parametrize("include_norm", [True, False])
def test_a_plain_sae_is_a_dictionary_of_one_snapshot(tmp_path, include_norm):
    parts, raw = peer.planted(norms=(20.0,))
    flat = {name: tensor if "threshold" in name else tensor[0] for name, tensor in parts.items()}
    config = {"sae_type": "sae", "hook_point_in": "blocks.6.out", "hook_point_out": "blocks.6.out"}
    folder = peer.write_llamascopium(
        tmp_path / "sae",
        flat,
        norms=(20.0,),
        hook_points=["blocks.6.out"],
        sparsity_include_decoder_norm=include_norm,
        **config,
    )
    imported = import_dictionary(folder, ImportOptions(steps=(143000,), folds=0))
    assert imported.dictionary.layer == 6
    if not include_norm:  # their gate is z > θ; say it as z n > θ n
        parts["activation_function.log_jumprelu_threshold"] += parts["W_D"][0].norm(dim=1).log()
    assert_same(imported.dictionary, raw, *peer.llamascopium_forward(parts, raw, norms=(20.0,)))


def test_heads_in_any_order_come_out_in_the_order_of_steps(tmp_path, planted, probe):
    parts, raw = planted
    order = [2, 0, 1]
    shuffled = {name: tensor if "threshold" in name else tensor[order] for name, tensor in parts.items()}
    folder = peer.write_llamascopium(
        tmp_path / "sae",
        peer.fold_as_llamascopium(shuffled, [peer.NORMS[index] for index in order]),
        norms=[peer.NORMS[index] for index in order],
        hook_points=[f"pythia-160m-step{peer.STEPS[index]}.blocks.6.hook_resid_post" for index in order],
    )
    imported = import_dictionary(folder, ImportOptions(), probe)
    assert (imported.dictionary.steps, imported.dictionary.layer) == (peer.STEPS, 6)
    assert_same(imported.dictionary, raw, *peer.llamascopium_forward(parts, raw, norms=peer.NORMS))


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"norm_activation": "token-wise"}, "'token-wise' scales every token"),
        ({"norm_activation": "batch-wise"}, "'batch-wise' scales every token"),
        ({"act_fn": "topk"}, "topk keeps the largest entries of each token"),
        ({"act_fn": "layertopk"}, "cross-layer transcoders"),
        ({"act_fn": "gelu"}, "act_fn 'gelu': unknown"),
        ({"sae_type": "clt"}, "sae_type 'clt' cannot be imported"),
        ({"sparsity_include_decoder_norm": False}, "sparsity_include_decoder_norm is false"),
        ({"hook_points": ["step0", "step1"]}, "config.json names 2 hook_points"),
        ({"hook_points": ["early", "middle", "late"]}, "training steps of its 3 snapshots are unknown.*--steps"),
        ({"sae_type": "sae", "hook_point_in": "a", "hook_point_out": "b"}, "is a transcoder"),
    ],
)
def test_what_cannot_be_expressed_is_refused_in_one_line(tmp_path, planted, change, complaint):
    folder = peer.write_llamascopium(tmp_path / "sae", planted[0])
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InteropError, match=complaint) as error:
        import_dictionary(folder, LAYER)
    assert "\n" not in str(error.value)


def test_files_are_found_where_its_loader_looks(tmp_path, planted):
    parts, raw = planted
    expected = peer.llamascopium_forward(parts, raw, norms=peer.NORMS)
    folder = peer.write_llamascopium(tmp_path / "pt", parts, save="sae_weights.pt")
    assert_same(import_dictionary(folder, LAYER).dictionary, raw, *expected)
    (tmp_path / "later" / "checkpoints").mkdir(parents=True)
    folder = peer.write_llamascopium(tmp_path / "later", parts, save="checkpoints/final.safetensors")
    assert_same(import_dictionary(folder, LAYER).dictionary, raw, *expected)
    assert_same(import_dictionary(folder / "checkpoints/final.safetensors", LAYER).dictionary, raw, *expected)


class Hidden:
    """A class that a pickle would have to run."""


def test_pickles_and_distributed_checkpoints_are_not_loaded(tmp_path):
    torch.save({"sae": {"W_E": Hidden()}}, tmp_path / "sae_weights.pt")
    with pytest.raises(InteropError, match="only tensors are loaded, no pickled classes"):
        import_dictionary(tmp_path, LAYER)
    (tmp_path / "other" / "sae_weights.dcp").mkdir(parents=True)
    with pytest.raises(
        InteropError, match=r"is a pickle, which is not loaded.*dcp_to_torch sae_weights.dcp sae_weights.pt"
    ):
        import_dictionary(tmp_path / "other", LAYER)


def test_missing_and_foreign_files_are_named(tmp_path, planted):
    with pytest.raises(InteropError, match="no such file or folder"):
        import_dictionary(tmp_path / "absent", LAYER)
    with pytest.raises(InteropError, match="no weights here"):
        import_dictionary(tmp_path, LAYER)
    (tmp_path / "ae.pt").write_bytes(b"not a file")
    with pytest.raises(InteropError, match="not a plain state dict"):
        import_dictionary(tmp_path, LAYER)
    torch.save({"something": torch.ones(2)}, tmp_path / "ae.pt")
    with pytest.raises(InteropError, match="neither llamascopium's nor dictionary_learning's"):
        import_dictionary(tmp_path, LAYER)
    folder = peer.write_llamascopium(tmp_path / "sae", planted[0])
    (folder / "config.json").unlink()
    with pytest.raises(InteropError, match=r"no config.json beside it"):
        import_dictionary(folder, LAYER)


def test_a_probe_of_other_snapshots_or_another_layer_is_refused(tmp_path, planted):
    parts, raw = planted
    folder = peer.write_llamascopium(tmp_path / "sae", parts)
    other_steps = read_probe(peer.write_caches(tmp_path / "a", raw, steps=(0, 64, 2000)))
    with pytest.raises(InteropError, match=r"caches are snapshots \[0, 64, 2000\]"):
        import_dictionary(folder, LAYER, other_steps)
    other_layer = read_probe(peer.write_caches(tmp_path / "b", raw, layer=3))
    with pytest.raises(InteropError, match="is of layer 6, the probe's caches of layer 3"):
        import_dictionary(folder, LAYER, other_layer)
    assert import_dictionary(folder, ImportOptions(), other_layer).dictionary.layer == 3


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000), norms=st.lists(st.floats(1.0, 300.0), min_size=3, max_size=3), folds=st.integers(0, 3)
)
def test_every_folded_file_computes_as_it_was_trained(tmp_path_factory, seed, norms, folds):
    parts, raw = peer.planted(seed=seed, norms=norms, n_rows=40)
    folded = parts
    for _ in range(folds):
        folded = peer.fold_as_llamascopium(folded, norms)
    folder = peer.write_llamascopium(tmp_path_factory.mktemp("sae"), folded, norms=norms)
    imported = import_dictionary(folder, replace(LAYER, folds=folds))
    assert_same(imported.dictionary, raw, *peer.llamascopium_forward(parts, raw, norms=norms))
