"""The four steps on planted files, then the two phase steps on their tables: every table fits its schema."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted_features import ONSETS, STEPS, planted

from snapcoder.job import Job
from snapcoder.phases.predictions import UNITS
from snapcoder.steps.dimensionality import dimensionality
from snapcoder.steps.phase_metrics import phase_metrics
from snapcoder.steps.phase_segments import phase_segments
from snapcoder.steps.rotation import rotation
from snapcoder.steps.timing import timing
from snapcoder.steps.trajectories import trajectories
from snapcoder.storage.activations import CacheError, RowTable, write_cache
from snapcoder.storage.codes import Codes, write_codes
from snapcoder.storage.dictionaries import write_dictionary
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.tables import read_table
from snapcoder.study.analysis import EvolutionSettings, PhaseSettings


def row_table(n, first_token=0):
    index = np.arange(n, dtype=np.int32)
    return RowTable(index // 10, index % 10, index % 7 + first_token, index // 100, (index >= n // 2).astype(np.uint8))


def job(step, inputs, outputs, **sections):
    many = {name: value if isinstance(value, tuple) else (value,) for name, value in inputs.items()}
    return Job(step, many, {name: (path,) for name, path in outputs.items()}, sections, 1, {"step": step})


def write_study(folder, rows=None):
    dictionary, z, raw = planted(n_rows=1000)
    rows = row_table(1000) if rows is None else rows
    write_dictionary(folder / "dictionary.safetensors", dictionary, {})
    write_codes(folder / "codes.h5", Codes(z, row_table(1000)), {})
    caches = []
    for s, step in enumerate(STEPS):
        caches.append(folder / f"step{step}.h5")
        write_cache(
            caches[-1], [raw[s]], rows=rows, step=step, layer=2, site="blocks.2.resid_post", d_model=raw.shape[2],
            dtype="float32", provenance={},
        )  # fmt: skip
    return tuple(caches)


def run_evolution(folder, out, caches):
    out.mkdir()
    options = {"evolution": dataclasses.asdict(EvolutionSettings()), "layer": 2}
    dictionary, table = folder / "dictionary.safetensors", out / "feature_trajectory.parquet"
    shared = {"dictionary": dictionary, "trajectory": table, "caches": caches}
    inputs = {"dictionary": dictionary, "codes": folder / "codes.h5", "caches": caches}
    trajectories(job("trajectories", inputs, {"table": table}, **options))
    turns = {"rotation": out / "direction_rotation.parquet", "summary": out / "rotation_summary.parquet"}
    rotation(job("rotation", shared, turns, **options))
    dimensionality(job("dimensionality", shared, {"table": out / "dimensionality.parquet"}, **options))
    inputs = {"dictionary": dictionary, "trajectory": table, "rotation": turns["rotation"]}
    timing(job("timing", inputs, {"table": out / "feature_timing.parquet"}, **options))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    caches = write_study(folder)
    run_evolution(folder, folder / "tables", caches)
    return folder, caches


def test_the_steps_recover_planted_onsets_from_files(study):
    folder, _ = study
    table = read_table(folder / "tables/feature_timing.parquet")
    assert list(table["onset_hi"]) == [STEPS[onset] for onset in ONSETS]
    assert read_table(folder / "tables/rotation_summary.parquet")["cka"].between(0, 1.0001).all()
    rates = read_table(folder / "tables/dimensionality.parquet")
    assert (rates["total_dim_rate"] <= 1).all()
    assert (rates["pr_act_ci_lo"] < rates["pr_act"]).all()
    assert (rates["pr_act"] < rates["pr_act_ci_hi"]).all()


def test_running_again_gives_the_same_bytes(study, tmp_path):
    folder, caches = study
    run_evolution(folder, tmp_path / "tables", caches[::-1])  # nor does the order of the caches matter
    for path in sorted((folder / "tables").glob("*.parquet")):
        if (tmp_path / "tables" / path.name).exists():
            assert file_sha256(path) == file_sha256(tmp_path / "tables" / path.name), path.name


def test_caches_of_other_tokens_are_refused(tmp_path):
    caches = write_study(tmp_path, rows=row_table(1000, first_token=1))
    with pytest.raises(CacheError, match="was captured on other tokens"):
        run_evolution(tmp_path, tmp_path / "tables", caches)


def test_a_missing_cache_is_named(study, tmp_path):
    folder, caches = study
    with pytest.raises(ValueError, match=r"no activation cache of snapshots \[4\]"):
        run_evolution(folder, tmp_path / "tables", caches[:1] + caches[2:])


def write_parquet(path, **columns):
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_the_phase_steps_write_tables_that_fit_their_schemas(study, tmp_path):
    folder, _ = study
    rng = np.random.default_rng(0)
    names, n = list(UNITS), len(UNITS)
    behaviour, draws = [], []
    for s, step in enumerate(STEPS):
        path = tmp_path / f"step{step}.parquet"
        behaviour.append(
            write_parquet(
                path, step=step, metric=names, value=np.arange(n) + 5.0 * (s >= 3), ci_lo=0.0, ci_hi=9.0, n=10,
                unit="nats",
            )
        )  # fmt: skip
        values = np.repeat(np.arange(n) + 5.0 * (s >= 3), 20) + 0.1 * rng.standard_normal(20 * n)
        draws.append(
            write_parquet(
                tmp_path / f"step{step}.draws.parquet", step=step, metric=np.repeat(names, 20),
                draw=np.tile(np.arange(20), n), value=values,
            )
        )  # fmt: skip
    inputs = {
        "behaviour": tuple(behaviour),
        "ngram_entropy": write_parquet(
            tmp_path / "h.parquet", order=[1, 2], cross_entropy=[5.0, 3.0], ci_lo=1.0, ci_hi=9.0, n_tokens=10
        ),
        "trajectory": folder / "tables/feature_trajectory.parquet",
        "rotation_summary": folder / "tables/rotation_summary.parquet",
        "dimensionality": folder / "tables/dimensionality.parquet",
        "recon_metrics": write_parquet(
            tmp_path / "r.parquet", snapshot=range(-1, 6), step=[None, *STEPS], ev=0.9, ev_legacy=0.9, l0=1.0,
            nrmse=0.1, n_rows=10,
        ),
        "training_log": write_parquet(
            tmp_path / "l.parquet", step=range(1, 1025), lr=0.1, grad_norm=1.0, param_step_norm=1.0
        ),
        "snapshots": write_parquet(tmp_path / "s.parquet", step=STEPS, tokens=np.array(STEPS) * 8),
    }  # fmt: skip
    options = {"phases": dataclasses.asdict(PhaseSettings(bootstrap=20, permutations=19, interval_draws=20)), "layer": 2,
               "warmup_steps": None}  # fmt: skip
    metrics, segments = tmp_path / "phase_metrics.parquet", tmp_path / "phase_segments.parquet"
    phase_metrics(job("phase_metrics", inputs, {"table": metrics}, **options))
    inputs = {"phase_metrics": metrics, "draws": tuple(draws), "trajectory": inputs["trajectory"],
              "seed_trajectories": (inputs["trajectory"],), "training_log": inputs["training_log"]}  # fmt: skip
    phase_segments(job("phase_segments", inputs, {"table": segments}, **options))
    table = read_table(segments)
    ngram = table.query("metric_set == 'ngram' and clock == 'log_step' and model == 'piecewise_const'")
    assert list(ngram["break_step"].dropna()) == [64]
    assert {"ngram", "features", "optimiser", "reconstruction", "activations"} == set(read_table(metrics)["group"])
