"""The steps: files in, files out, resumable, deterministic, and telling when inputs do not fit together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_caches import TINY, row_table

import snapcoder.steps.crosscoder as crosscoder_step
from snapcoder.crosscoder.model import decode, encode, from_dictionary
from snapcoder.crosscoder.normalise import Normaliser
from snapcoder.crosscoder.training import train
from snapcoder.job import Job
from snapcoder.steps.codes import codes
from snapcoder.steps.crosscoder import crosscoder
from snapcoder.steps.extension import extension
from snapcoder.steps.extension_table import extension_table
from snapcoder.storage.activations import CacheError, read_cache, write_cache
from snapcoder.storage.codes import read_codes
from snapcoder.storage.dictionaries import read_dictionary, read_extension
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.tables import read_table

MakeJob = Callable[..., Job]
OUTPUTS = {"dictionary": "d/dictionary.safetensors", "training": "t/training.parquet", "metrics": "t/metrics.parquet"}


def run_base(make_job: MakeJob, caches: list[Path], prefix: str = "", **changed: object) -> Job:
    outputs = {name: prefix + path for name, path in OUTPUTS.items()}
    job = make_job("crosscoder", {"caches": caches}, outputs, crosscoder={**TINY, **changed}, layer=2)
    crosscoder(job)
    return job


def run_codes(make_job: MakeJob, base: Job, caches: list[Path]) -> Path:
    job = make_job("codes", {"dictionary": [base.output("dictionary")], "caches": caches}, {"codes": "codes.h5"})
    codes(job)
    return job.output("codes")


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_codes_and_stored_scales_reproduce_the_held_out_metrics(
    make_job: MakeJob, caches: list[Path], gate: str
) -> None:
    base = run_base(make_job, caches, gate=gate)
    dictionary = read_dictionary(base.output("dictionary"))
    stored = read_codes(run_codes(make_job, base, caches))
    raw = np.stack([read_cache(path) for path in caches], axis=1).astype(np.float64)[1000:]
    x = (raw - dictionary.center) * dictionary.scale[:, None]
    z = stored.z.toarray()[1000:].astype(np.float64)
    norms = dictionary.decoder_norms()
    gating = norms if gate == "per_snapshot" else np.sqrt((norms**2).mean(axis=0, keepdims=True)).repeat(5, axis=0)
    f = z[:, None] * (z[:, None] * gating > dictionary.threshold)  # [row, snapshot, feature]
    error = x - np.einsum("rsf,sfd->rsd", f, dictionary.decoder) - dictionary.decoder_bias
    metrics = read_table(base.output("metrics")).set_index("snapshot")
    ev = 1 - (error**2).sum(axis=(0, 2)) / ((x - x.mean(axis=0)) ** 2).sum(axis=(0, 2))
    np.testing.assert_allclose(metrics.loc[range(5), "ev"], ev, atol=1e-4)
    np.testing.assert_allclose(metrics.loc[range(5), "l0"], (f > 0).sum(axis=2).mean(axis=0), rtol=0.002)
    assert metrics.loc[-1, "l0"] == pytest.approx((f > 0).sum(axis=2).mean(), rel=0.002)
    raw_error = error / dictionary.scale[:, None]
    raw_ev = 1 - (raw_error**2).sum() / ((raw - raw.mean(axis=0)) ** 2).sum()
    assert metrics.loc[-1, "ev_raw"] == pytest.approx(raw_ev, abs=1e-4)


def test_a_dictionary_and_its_codes_are_the_same_bytes_when_made_twice(make_job: MakeJob, caches: list[Path]) -> None:
    first, second = run_base(make_job, caches, "a/"), run_base(make_job, caches, "b/")
    assert [file_sha256(first.output(name)) for name in OUTPUTS] == [
        file_sha256(second.output(name)) for name in OUTPUTS
    ]


def test_caches_that_do_not_fit_in_memory_give_the_same_dictionary(make_job: MakeJob, caches: list[Path]) -> None:
    in_memory, from_file = run_base(make_job, caches, "a/"), run_base(make_job, caches, "b/", memory_gb=0.0)
    first, second = (read_dictionary(job.output("dictionary")) for job in (in_memory, from_file))
    np.testing.assert_array_equal(first.encoder, second.encoder)
    np.testing.assert_array_equal(first.decoder, second.decoder)
    assert sorted(path.name for path in from_file.output("dictionary").parent.iterdir()) == ["dictionary.safetensors"]


def test_a_killed_job_continues_from_its_checkpoint_and_cleans_up(
    make_job: MakeJob, caches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_base(make_job, caches, "whole/")

    def killed(*arguments: object, **named: object) -> None:
        train(*arguments, **named, stop_after=27)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(crosscoder_step, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        run_base(make_job, caches, "cut/")
    monkeypatch.setattr(crosscoder_step, "train", train)
    cut = run_base(make_job, caches, "cut/")
    for name in OUTPUTS:
        assert file_sha256(cut.output(name)) == file_sha256(whole.output(name))
    assert not cut.output("dictionary").with_name("dictionary.work").exists()


def test_scaling_raw_activations_leaves_codes_and_scores_unchanged(
    make_job: MakeJob, caches: list[Path], tmp_path: Path
) -> None:
    scaled = []
    for index, path in enumerate(caches):
        scaled.append(tmp_path / f"scaled/step{10 * index}.h5")
        write_cache(
            scaled[-1],
            [read_cache(path) * 2.0 ** (index - 2)],
            rows=row_table(1200, 1000),
            step=10 * index,
            layer=2,
            site="blocks.2.resid_post",
            d_model=16,
            dtype="float32",
            provenance={},
        )
    plain, other = run_base(make_job, caches, "a/"), run_base(make_job, scaled, "b/")
    first, second = read_table(plain.output("metrics")), read_table(other.output("metrics"))
    np.testing.assert_allclose(first[["ev", "l0", "nrmse"]], second[["ev", "l0", "nrmse"]], rtol=2e-3)
    a, b = read_dictionary(plain.output("dictionary")), read_dictionary(other.output("dictionary"))
    np.testing.assert_allclose(a.scale / b.scale, 2.0 ** (np.arange(5) - 2), rtol=1e-5)


def test_encode_and_decode_with_stored_scales_is_normalise_then_denormalise(
    make_job: MakeJob, caches: list[Path]
) -> None:
    dictionary = read_dictionary(run_base(make_job, caches).output("dictionary"))
    assert dictionary.scale.max() / dictionary.scale.min() > 2
    raw = torch.from_numpy(np.stack([read_cache(path)[:50] for path in caches], axis=1))
    normaliser, parameters = Normaliser.of(dictionary.center, dictionary.scale), from_dictionary(dictionary)
    z = encode(parameters, normaliser.normalise(raw))
    reached = normaliser.denormalise(
        decode(parameters, z, torch.from_numpy(dictionary.threshold), gate=dictionary.gate)
    )
    ratio = (reached - raw).square().sum(dim=(0, 2)) / (raw - raw.mean(dim=0)).square().sum(dim=(0, 2))
    assert (ratio < 0.7).all()
    by_hand = np.zeros(raw.shape)
    for s in range(5):
        x = (raw.numpy() - dictionary.center) * dictionary.scale[:, None]
        pre = np.einsum("rsd,sdf->rf", x, dictionary.encoder) + dictionary.encoder_bias
        f = pre * (pre * np.linalg.norm(dictionary.decoder[s], axis=1) > dictionary.threshold)
        by_hand[:, s] = (f @ dictionary.decoder[s] + dictionary.decoder_bias[s]) / dictionary.scale[s]
        by_hand[:, s] += dictionary.center[s]
    np.testing.assert_allclose(reached.numpy(), by_hand, rtol=1e-3, atol=1e-3 * np.abs(by_hand).max())


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
@pytest.mark.parametrize("level", ["frozen", "adapted"])
def test_an_added_snapshot_extends_a_frozen_dictionary(
    make_job: MakeJob, caches: list[Path], gate: str, level: str
) -> None:
    kept, added = [path for index, path in enumerate(caches) if index != 3], caches[3]
    chosen = {**TINY, "gate": gate, "steps": 150}
    outputs = {name: f"base/{path}" for name, path in OUTPUTS.items()}
    base = make_job("crosscoder", {"caches": kept}, outputs, crosscoder=chosen, layer=2)
    crosscoder(base)
    coded = run_codes(make_job, base, kept)
    chosen["extension"] = {"level": level, "steps": 60, "batch_size": 128, "lr": 3e-3}
    job = make_job(
        "extension",
        {
            "dictionary": [base.output("dictionary")],
            "codes": [coded],
            "cache": [added],
            "caches": kept,
            "metrics": [base.output("metrics")],
        },
        {"extension": "e/step30.safetensors", "codes": "e/step30.codes.h5", "metrics": "e/step30.parquet"},
        crosscoder=chosen,
        layer=2,
        step=30,
    )
    extension(job)
    scores = read_table(job.output("metrics")).set_index("level")
    assert list(scores.index) == (["frozen"] if level == "frozen" else ["adapted", "frozen"])
    assert scores.loc[level, "used"]
    assert not scores["extrapolated"].any()
    assert scores.loc[level, "ev"] > scores.loc[level, "ev_neighbours"] - 0.12
    result, dictionary = read_extension(job.output("extension")), read_dictionary(base.output("dictionary"))
    # The file's own definition, evaluated independently, gives the codes that were written.
    raw = {path: read_cache(path) for path in caches}
    x = np.stack([raw[path] for path in kept], axis=1)
    x = (x - dictionary.center) * dictionary.scale[:, None]
    own = (raw[added] - result.center) * result.scale
    z = np.einsum("rsd,sdf->rf", x, dictionary.encoder) + dictionary.encoder_bias
    z = z + own @ result.encoder + result.encoder_bias
    gated = z * (z * np.linalg.norm(result.decoder, axis=1) > result.threshold)
    if level == "frozen" and gate == "per_snapshot":  # only entries that are on at some base snapshot are in the codes
        gated = gated * (read_codes(coded).z.toarray() != 0)
    written = read_codes(job.output("codes")).z.toarray()
    assert ((gated != 0) != (written != 0)).mean() < 1e-4
    both = (gated != 0) & (written != 0)
    np.testing.assert_allclose(gated[both], written[both], rtol=1e-3, atol=1e-4)
    table = make_job("extension_table", {"parts": [job.output("metrics")]}, {"table": "e/all.parquet"})
    extension_table(table)
    assert len(read_table(table.output("table"))) == len(scores)
    if level == "adapted":
        base_l0 = read_table(base.output("metrics")).set_index("snapshot").loc[[2, 3], "l0"].mean()
        assert scores.loc["adapted", "l0"] == pytest.approx(base_l0, rel=0.1)
        assert scores.loc["adapted", "ev"] > scores.loc["frozen", "ev"] - 0.01
        assert 0.5 < scores.loc["adapted", "code_correlation"] < 1


def test_caches_of_different_tokens_or_layers_are_refused(
    make_job: MakeJob, caches: list[Path], tmp_path: Path
) -> None:
    rows = row_table(1200, 1000)
    odd = tmp_path / "odd.h5"
    common = {"step": 99, "site": "", "d_model": 16, "dtype": "float16", "provenance": {}}
    write_cache(odd, [read_cache(caches[0])], rows=replace(rows, token=rows.token + 1), layer=2, **common)  # type: ignore[arg-type]
    with pytest.raises(CacheError, match="other tokens"):
        run_base(make_job, [*caches, odd])
    write_cache(odd, [read_cache(caches[0])], rows=rows, layer=3, **common)  # type: ignore[arg-type]
    with pytest.raises(CacheError, match="one dictionary needs caches of one layer"):
        run_base(make_job, [*caches, odd])


def test_codes_of_another_set_of_snapshots_are_refused(make_job: MakeJob, caches: list[Path]) -> None:
    base = run_base(make_job, caches)
    with pytest.raises(ValueError, match="was trained on snapshots"):
        run_codes(make_job, base, caches[:-1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_a_gpu_writes_a_dictionary_as_good_as_a_cpus(make_job: MakeJob, caches: list[Path], path: str) -> None:
    pooled = []
    for device in ("cpu", "cuda"):
        base = run_base(make_job, caches, prefix=device, device=device, path=path)
        pooled.append(read_table(base.output("metrics")).set_index("snapshot").loc[-1])
    assert pooled[1]["ev"] == pytest.approx(pooled[0]["ev"], abs=0.02)
    assert pooled[1]["l0"] == pytest.approx(pooled[0]["l0"], rel=0.1)


def test_a_gpu_that_is_asked_for_and_missing_stops_with_one_line(make_job: MakeJob, caches: list[Path]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="cuda was asked for"):
        run_base(make_job, caches, device="cuda")
