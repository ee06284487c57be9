import numpy as np
import peer_dictionaries as peer
import pytest
from safetensors.numpy import save_file

from snapcoder.cli import main
from snapcoder.provenance.embedded import embedded_provenance
from snapcoder.storage.dictionaries import read_dictionary, write_dictionary


@pytest.fixture
def folded(tmp_path):
    parts, raw = peer.planted()
    peer.write_llamascopium(tmp_path / "sae", peer.fold_as_llamascopium(parts, peer.NORMS))
    return tmp_path / "sae", peer.write_caches(tmp_path / "caches", raw)


def test_import_says_what_it_did_and_writes_a_dictionary(tmp_path, folded, capsys):
    folder, caches = folded
    out = tmp_path / "out" / "dictionary.safetensors"
    assert main(["import", str(folder), "--out", str(out), "--layer", "6", "--probe", *map(str, caches[::-1])]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "llamascopium jumprelu dictionary: 3 snapshots, 12 features of width 16"
    assert printed[2] == "biases folded once (by the ratios of its encoder biases), undone"
    assert printed[3].startswith("probe, step 0: as saved EV ")
    assert printed[-2].startswith("probe, mean of snapshots: as saved EV -")
    assert "imported EV 1.000" in printed[-2]
    assert printed[-1] == f"wrote {out}"
    assert read_dictionary(out).steps == peer.STEPS
    written = embedded_provenance(out)["imported"]
    assert (written["library"], written["folds"], written["options"]) == ("llamascopium", 1, {"layer": 6})


def test_export_and_import_round_trip_on_the_command_line(tmp_path, folded, capsys):
    folder, _ = folded
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert main(["import", str(folder), "--out", str(first), "--layer", "6"]) == 0
    assert "not tried on activations" in capsys.readouterr().out
    assert main(["export", str(first), "--to", "llamascopium", "--out", str(tmp_path / "again")]) == 0
    assert main(["import", str(tmp_path / "again"), "--out", str(second)]) == 0
    one, two = read_dictionary(first), read_dictionary(second)
    for name in ("encoder", "decoder", "encoder_bias", "decoder_bias", "threshold", "scale"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=1e-5, atol=1e-6)


def test_refusals_are_one_line_on_standard_error(tmp_path, folded, capsys):
    folder, _ = folded
    out = tmp_path / "dictionary.safetensors"
    assert main(["import", str(folder), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("snapcoder import: ")
    assert error.endswith("give it with --layer\n")
    assert not out.exists()


def test_norms_and_steps_are_read_from_the_command_line(tmp_path, folded):
    folder, _ = folded
    out = tmp_path / "dictionary.safetensors"
    said = ["--layer", "2", "--steps", "5,6,7", "--norms", "3.9,20,160", "--folds", "1"]
    assert main(["import", str(folder), "--out", str(out), *said]) == 0
    assert (read_dictionary(out).steps, read_dictionary(out).layer) == ((5, 6, 7), 2)
    assert main(["import", str(folder), "--out", str(out), "--layer", "2", "--norms", "raw"]) == 0
    assert (read_dictionary(out).scale == 1).all()


def test_foreign_files_and_our_own_are_told_apart(tmp_path, folded, capsys):
    save_file({"weights": np.ones(3, dtype=np.float32)}, tmp_path / "other.safetensors")
    assert main(["export", str(tmp_path / "other.safetensors"), "--to", "llamascopium", "--out", str(tmp_path)]) == 1
    assert "not a dictionary written by Snapcoder" in capsys.readouterr().err
    assert main(["import", str(folded[0]), "--out", str(tmp_path / "d.safetensors"), "--layer", "6"]) == 0
    ours = read_dictionary(tmp_path / "d.safetensors")
    write_dictionary(tmp_path / "ours.safetensors", ours, {})
    assert main(["import", str(tmp_path / "ours.safetensors"), "--out", str(tmp_path / "x.safetensors")]) == 1
    assert "is a dictionary of Snapcoder already" in capsys.readouterr().err
