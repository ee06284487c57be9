"""The steps of a sweep: the same training at other settings, on all snapshots or one, joined into one table."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planted_caches import TINY

import snapcoder.steps.crosscoder as crosscoder_step
from snapcoder.crosscoder.training import train
from snapcoder.job import Job
from snapcoder.steps.crosscoder import crosscoder
from snapcoder.steps.sweep_figure import sweep_figure
from snapcoder.steps.sweep_point import sweep_point
from snapcoder.steps.sweep_sae import sweep_sae
from snapcoder.steps.sweep_table import sweep_table
from snapcoder.storage.activations import read_cache
from snapcoder.storage.dictionaries import read_dictionary
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.tables import TableError, read_table, write_table
from snapcoder.study.sweep import ARMS, SPARSITY_KEY
from snapcoder.tables.sweep import SWEEP_METRICS

MakeJob = Callable[..., Job]
SHORT = {**TINY, "steps": 12, "eval_every": 12}
SCORES = ["ev", "ev_legacy", "ev_raw", "l0", "nrmse", "dead", "dense", "n_rows"]


def run_point(make_job: MakeJob, caches: list[Path], folder: str, *, keep: bool = False, **changed: object) -> Job:
    """Run one point over several caches, or one autoencoder over a single one."""
    step = sweep_point if len(caches) > 1 else sweep_sae
    outputs = {"metrics": f"{folder}/metrics.parquet"}
    if keep:
        outputs["dictionary"] = f"{folder}/dictionary.safetensors"
    job = make_job(step.__name__, {"caches": caches}, outputs, crosscoder={**SHORT, **changed}, layer=2)
    step(job)
    return job


def test_a_point_scores_as_the_crosscoder_step_does(make_job: MakeJob, caches: list[Path]) -> None:
    chosen = {**SHORT, "n_features": 16, "k": 3, "seed": 5}
    outputs = {"dictionary": "d.safetensors", "training": "t.parquet", "metrics": "m.parquet"}
    base = make_job("crosscoder", {"caches": caches}, outputs, crosscoder=chosen, layer=2)
    crosscoder(base)
    point = run_point(make_job, caches, "point", n_features=16, k=3, seed=5)
    expected = read_table(base.output("metrics")).sort_values("step")
    found = read_table(point.output("metrics")).sort_values("step")
    np.testing.assert_array_equal(found[SCORES].to_numpy(), expected[SCORES].to_numpy())
    assert found["snapshot"].tolist() == expected["snapshot"].tolist() == [0, 1, 2, 3, 4, -1]
    assert found["step"].tolist()[:5] == [0, 10, 20, 30, 40]
    keys = found[["kind", "arm", "n_features", "sparsity", "seed"]].drop_duplicates()
    assert keys.values.tolist() == [["crosscoder", "batchtopk", 16, 3.0, 5]]


def test_an_autoencoder_is_a_crosscoder_on_one_snapshot(make_job: MakeJob, caches: list[Path]) -> None:
    outputs = {"dictionary": "d.safetensors", "training": "t.parquet", "metrics": "m.parquet"}
    base = make_job("crosscoder", {"caches": caches[3:4]}, outputs, crosscoder=SHORT, layer=2)
    crosscoder(base)
    sae = run_point(make_job, caches[3:4], "sae", keep=True)
    expected, found = read_table(base.output("metrics")).set_index("snapshot"), read_table(sae.output("metrics"))
    assert found[["kind", "snapshot", "step"]].values.tolist() == [["sae", 0, 30]]
    for row in (0, -1):  # pooling one snapshot is that snapshot
        np.testing.assert_allclose(found[SCORES].to_numpy()[0], expected.loc[row, SCORES].to_numpy(float), rtol=1e-12)
    one, other = read_dictionary(base.output("dictionary")), read_dictionary(sae.output("dictionary"))
    np.testing.assert_array_equal(one.decoder, other.decoder)
    assert other.decoder.shape == (1, 24, 16)
    # The scores are those of the plain formula of an autoencoder, worked out from the file alone.
    x = (read_cache(caches[3])[1000:].astype(np.float64) - other.center[0]) * other.scale[0]
    z = x @ other.encoder[0] + other.encoder_bias
    f = z * (z * np.linalg.norm(other.decoder[0], axis=1) > other.threshold)
    error = x - f @ other.decoder[0] - other.decoder_bias[0]
    ev = 1 - (error**2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    assert found["ev"].iloc[0] == pytest.approx(ev, abs=1e-4)
    assert found["l0"].iloc[0] == pytest.approx((f != 0).sum(axis=1).mean(), rel=0.01)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_as_crosscoder_and_as_autoencoder(make_job: MakeJob, caches: list[Path], arm: str) -> None:
    sparsity = {"k": 2} if SPARSITY_KEY[arm] == "k" else {"sparsity_weight": 0.25}
    for kind, given in (("crosscoder", caches), ("sae", caches[:1])):
        found = read_table(run_point(make_job, given, f"{arm}/{kind}", arm=arm, **sparsity).output("metrics"))
        assert set(found["kind"]) == {kind}
        assert set(found["arm"]) == {arm}
        assert set(found["sparsity"]) == set(map(float, sparsity.values()))
        assert np.isfinite(found["ev"]).all()


def test_the_same_point_gives_the_same_bytes_and_leaves_only_what_is_kept(
    make_job: MakeJob, caches: list[Path]
) -> None:
    first = run_point(make_job, caches[:2], "a/crosscoder", keep=True)
    second = run_point(make_job, caches[:2], "b/crosscoder")
    assert file_sha256(first.output("metrics")) == file_sha256(second.output("metrics"))
    assert sorted(path.name for path in first.output("metrics").parent.iterdir()) == [
        "dictionary.safetensors", "metrics.parquet"
    ]  # fmt: skip
    assert [path.name for path in second.output("metrics").parent.iterdir()] == ["metrics.parquet"]


def test_a_killed_point_continues_from_its_checkpoint(
    make_job: MakeJob, caches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"checkpoint_every": 5}
    whole = run_point(make_job, caches[:2], "whole", **chosen)
    seen: list[bool] = []

    def killed(*arguments: object, **named: object) -> None:
        train(*arguments, **named, stop_after=7)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    def resumed(*arguments: object, **named: object) -> object:
        seen.append(named["checkpoint"].load() is not None)  # type: ignore[attr-defined]
        return train(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(crosscoder_step, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        run_point(make_job, caches[:2], "cut", **chosen)
    monkeypatch.setattr(crosscoder_step, "train", resumed)
    cut = run_point(make_job, caches[:2], "cut", **chosen)
    assert seen == [True]
    assert file_sha256(cut.output("metrics")) == file_sha256(whole.output("metrics"))
    assert [path.name for path in cut.output("metrics").parent.iterdir()] == ["metrics.parquet"]


def test_the_table_holds_every_part_once_and_the_figure_is_drawn_from_it(
    make_job: MakeJob, caches: list[Path], tmp_path: Path
) -> None:
    jobs = [
        run_point(make_job, given, f"{k}/{number}", k=k)
        for k in (2, 4)
        for number, given in enumerate((caches, caches[:1], caches[4:]))
    ]
    parts = [job.output("metrics") for job in jobs]
    table = make_job("sweep_table", {"parts": parts}, {"table": "sweep_metrics.parquet"}, layer=2)
    sweep_table(table)
    found = read_table(table.output("table"))
    assert len(found) == sum(len(read_table(part)) for part in parts) == 2 * (6 + 1 + 1)
    assert found.loc[found["kind"] == "sae", "step"].tolist() == [0, 40, 0, 40]
    backwards = make_job("sweep_table", {"parts": parts[::-1]}, {"table": "again.parquet"}, layer=2)
    sweep_table(Job("sweep_table", backwards.inputs, backwards.outputs, backwards.settings, 1, table.core))
    assert file_sha256(backwards.output("table")) == file_sha256(table.output("table"))
    drawn = make_job("sweep_figure", {"tables": [table.output("table")]}, {}, layer=2, study="tiny")
    files = tuple(tmp_path / f"pareto.{kind}" for kind in ("svg", "png"))
    sweep_figure(Job("sweep_figure", drawn.inputs, {"figures": files}, drawn.settings, 1, drawn.core))
    assert all(file.stat().st_size > 10_000 for file in files)
    shutil.copy(parts[0], tmp_path / "copy.parquet")
    twice = make_job("sweep_table", {"parts": [*parts, tmp_path / "copy.parquet"]}, {"table": "t.parquet"}, layer=2)
    with pytest.raises(TableError, match="not unique"):
        sweep_table(twice)


def test_scores_on_other_rows_are_not_joined(make_job: MakeJob, caches: list[Path], tmp_path: Path) -> None:
    part = run_point(make_job, caches[:1], "a").output("metrics")
    write_table(tmp_path / "odd.parquet", read_table(part).assign(n_rows=7, seed=1), SWEEP_METRICS, {})
    job = make_job("sweep_table", {"parts": [part, tmp_path / "odd.parquet"]}, {"table": "all.parquet"}, layer=2)
    with pytest.raises(ValueError, match=r"odd.parquet: scored on 7 held-out rows, but .* on 200; delete it"):
        sweep_table(job)
