"""The steps on planted files, then the two phase steps on their tables: every table fits its schema."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted_features import ONSETS, STEPS, planted
from scipy.sparse import csr_array

from snapcoder.job import Job
from snapcoder.phases.predictions import UNITS
from snapcoder.steps.dimensionality import dimensionality
from snapcoder.steps.feature_onsets import feature_onsets
from snapcoder.steps.heldout_snapshots import heldout_snapshots, read_some, spread
from snapcoder.steps.onset_distribution import onset_distribution
from snapcoder.steps.onset_sensitivity import onset_sensitivity
from snapcoder.steps.phase_metrics import phase_metrics
from snapcoder.steps.phase_segments import phase_segments
from snapcoder.steps.presence import presence
from snapcoder.steps.rotation import rotation
from snapcoder.steps.snapshot_features import snapshot_features
from snapcoder.steps.timing import timing
from snapcoder.steps.trajectories import trajectories
from snapcoder.storage.activations import CacheError, RowTable, read_cache, read_header, read_rows, write_cache
from snapcoder.storage.codes import Codes, write_codes
from snapcoder.storage.dictionaries import Extension, read_dictionary, write_dictionary, write_extension
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.tables import read_table
from snapcoder.study.analysis import EvolutionSettings, PhaseSettings
from snapcoder.study.presence import PresenceSettings
from snapcoder.study.timing import TimingSettings

PRESENCE = dataclasses.asdict(PresenceSettings(min_active=20, min_positives=5))


def row_table(n, first_token=0):
    index = np.arange(n, dtype=np.int32)
    return RowTable(index // 10, index % 10, index % 7 + first_token, index // 100, (index >= n // 2).astype(np.uint8))


def job(step, inputs, outputs, /, **sections):
    many = {name: value if isinstance(value, tuple) else (value,) for name, value in inputs.items()}
    return Job(step, many, {name: (path,) for name, path in outputs.items()}, sections, 1, {"step": step})


def write_study(folder, rows=None):
    dictionary, z, raw = planted(n_rows=1000)
    rows = row_table(1000) if rows is None else rows
    write_dictionary(folder / "dictionary.safetensors", dictionary, {})
    write_codes(folder / "codes.h5", Codes(z, row_table(1000)), {})
    write_parquet(folder / "snapshots.parquet", step=STEPS, tokens=np.array(STEPS) * 8)
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
    options = {
        "evolution": dataclasses.asdict(EvolutionSettings()),
        "timing": dataclasses.asdict(TimingSettings(null_draws=100, bootstrap=20, heldout_rows=200)),
        "presence": PRESENCE,
        "layer": 2,
    }
    dictionary, table = folder / "dictionary.safetensors", out / "feature_trajectory.parquet"
    shared = {"dictionary": dictionary, "trajectory": table, "caches": caches}
    parts = []
    for cache in caches:
        parts.append(out / f"parts/{cache.stem}.parquet")
        inputs = {"dictionary": dictionary, "codes": folder / "codes.h5", "cache": cache}
        snapshot_features(job("snapshot_features", inputs, {"table": parts[-1]}, **options))
    trajectories(job("trajectories", {"parts": tuple(parts)}, {"table": table}, **options))
    turns = {
        "rotation": out / "direction_rotation.parquet",
        "summary": out / "rotation_summary.parquet",
        "intervals": out / "rotation_intervals.parquet",
        "turning": out / "turning_points.parquet",
    }
    rotation(job("rotation", {**shared, "snapshots": folder / "snapshots.parquet"}, turns, **options))
    made = {"table": out / "dimensionality.parquet", "tests": out / "dimensionality_tests.parquet"}
    dimensionality(job("dimensionality", shared, made, **options))
    inputs = {"dictionary": dictionary, "trajectory": table, "rotation": turns["rotation"]}
    timing(job("timing", inputs, {"table": out / "feature_timing.parquet"}, **options))
    inputs = {"timing": out / "feature_timing.parquet", "trajectory": table}
    made = {"distribution": out / "onset_distribution.parquet", "tests": out / "onset_tests.parquet"}
    onset_distribution(job("onset_distribution", inputs, made, **options))
    inputs = {"trajectory": table, "rotation_summary": turns["summary"]}
    made = {"thresholds": out / "threshold_sensitivity.parquet", "snapshots": out / "snapshot_sensitivity.parquet"}
    made["shuffled"] = out / "shuffled_order.parquet"
    onset_sensitivity(job("onset_sensitivity", inputs, made, **options))
    inputs = {"dictionary": dictionary, "codes": folder / "codes.h5", "caches": caches}
    heldout_snapshots(job("heldout_snapshots", inputs, {"table": out / "heldout_snapshots.parquet"}, **options))
    parts = tuple(measure_presence(folder, out, cache, step=read_header(cache).step) for cache in caches)
    inputs = {"presence": parts, "trajectory": table, "timing": out / "feature_timing.parquet"}
    outputs = {"onsets": out / "feature_onsets.parquet", "presence": out / "feature_presence.parquet"}
    feature_onsets(job("feature_onsets", inputs, outputs, **options))


def measure_presence(folder, out, cache, *, step, **inputs):
    table = out / f"presence{step}.parquet"
    inputs |= {"dictionary": folder / "dictionary.safetensors", "codes": folder / "codes.h5", "cache": cache}
    settings = {"presence": PRESENCE, "layer": 2, "step": step}
    presence(job("presence", inputs, {"table": table}, **settings))
    return table


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
    own = read_table(folder / "tables/heldout_snapshots.parquet").query("method == 'own'")
    assert list(own["step"]) == list(STEPS[1:-1])
    assert (own["ev"] > 0.9).all()
    assert read_table(folder / "tables/rotation_summary.parquet")["cka"].between(0, 1.0001).all()
    onsets = read_table(folder / "tables/feature_onsets.parquet")
    assert list(onsets["onset_hi"]) == [STEPS[onset] for onset in ONSETS]
    assert list(onsets["verdict"]) == ["present_from_start"] * 2 + ["confirmed"] * 4
    rates = read_table(folder / "tables/dimensionality.parquet")
    assert (rates["total_dim_rate"] <= 1).all()
    assert (rates["pr_act_ci_lo"] < rates["pr_act"]).all()
    assert (rates["pr_act"] < rates["pr_act_ci_hi"]).all()
    assert set(read_table(folder / "tables/turning_points.parquet")["clock"]) == {"log_step", "step", "tokens"}
    kinds = read_table(folder / "tables/direction_rotation.parquet")["kind"].value_counts()
    n_pairs = len(STEPS) - 1
    assert dict(kinds) == {
        "adjacent": 6 * n_pairs,
        "to_final": 6 * n_pairs,
        "from_onset": sum(n_pairs - onset for onset in ONSETS),
    }


def test_without_token_counts_the_token_clock_is_left_out(study, tmp_path):
    folder, caches = study
    for path in ("dictionary.safetensors", "codes.h5"):
        (tmp_path / path).symlink_to(folder / path)
    write_parquet(tmp_path / "snapshots.parquet", step=STEPS, tokens=pd.array([pd.NA] * len(STEPS), dtype="Int64"))
    run_evolution(tmp_path, tmp_path / "tables", caches)
    assert set(read_table(tmp_path / "tables/turning_points.parquet")["clock"]) == {"log_step", "step"}


def test_the_distribution_counts_planted_onsets_and_takes_combined_evidence_when_there_is_some(study, tmp_path):
    folder, _ = study
    table = read_table(folder / "tables/onset_distribution.parquet")
    live = table[(table["onset_by"] == "norm") & (table["group"] == "live")].set_index("bin")
    np.testing.assert_allclose(live["n"] * live["mass"], np.bincount(ONSETS, minlength=len(STEPS) + 1))
    assert set(table["onset_by"]) == {"norm", "firing"}
    inputs = {
        "timing": folder / "tables/feature_timing.parquet",
        "trajectory": folder / "tables/feature_trajectory.parquet",
        "onsets": write_parquet(
            tmp_path / "feature_onsets.parquet", **{"onset_lo": [4.0, np.nan], "onset_hi": [64.0, np.nan], "class": "emergent"}
        ),
    }  # fmt: skip
    made = {name: tmp_path / f"{name}.parquet" for name in ("distribution", "tests")}
    options = {"timing": dataclasses.asdict(TimingSettings(null_draws=100, bootstrap=20)), "layer": 2}
    onset_distribution(job("onset_distribution", inputs, made, **options))
    combined = read_table(made["distribution"]).query("onset_by == 'combined' and group == 'live'")
    assert combined["n"].eq(2).all()
    assert combined.loc[combined["step_hi"].isin([16, 64]), "mass"].sum() == pytest.approx(1)


def test_held_out_rows_are_the_rows_asked_for(study):
    _, caches = study
    whole = read_some(caches[1], np.arange(1000))
    rows = spread(np.arange(500, 1000), 100)
    assert len(rows) == 100
    assert rows[0] == 500
    assert rows[-1] == 999
    np.testing.assert_array_equal(read_some(caches[1], rows), whole[rows])


def test_of_a_long_cache_few_blocks_are_read():
    rows = spread(np.arange(1_000_000), 4096)
    assert len(np.unique(rows // 4096)) == 16
    assert len(rows) == 4096


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


def test_a_cache_that_the_dictionary_does_not_hold_is_named(study, tmp_path):
    folder, _ = study
    other = tmp_path / "step8.h5"
    raw = planted(n_rows=1000)[2][0]
    write_cache(
        other, [raw], rows=row_table(1000), step=8, layer=2, site="blocks.2.resid_post", d_model=raw.shape[1],
        dtype="float32", provenance={},
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"holds no snapshot 8, only \[0, 4, 16, 64, 256, 1024\]"):
        run_evolution(folder, tmp_path / "tables", (other,))


def added_snapshot(folder, study, **changes):
    """Files of an added snapshot at step 8 that shows what the base shows at step 16, at half the code."""
    dictionary, z, raw = planted(n_rows=1000)
    values = {
        "decoder": dictionary.decoder[2],
        "decoder_bias": dictionary.decoder_bias[2],
        "scale": float(dictionary.scale[2]),
        "center": dictionary.center[2],
        "encoder": dictionary.encoder[2],
        "encoder_bias": dictionary.encoder_bias,
        "threshold": dictionary.threshold,
        "step": 8,
        "level": "adapted",
        "layer": 2,
    }
    write_extension(folder / "step8.safetensors", Extension(**{**values, **changes}), {})
    write_codes(folder / "step8.codes.h5", Codes(csr_array(z * np.float32(0.5)), row_table(1000)), {})
    write_cache(
        folder / "step8.h5", [raw[2]], rows=row_table(1000), step=8, layer=2, site="blocks.2.resid_post",
        d_model=raw.shape[2], dtype="float32", provenance={},
    )  # fmt: skip
    inputs = {
        "dictionary": study / "dictionary.safetensors",
        "codes": study / "codes.h5",
        "cache": folder / "step8.h5",
        "extension": folder / "step8.safetensors",
        "extension_codes": folder / "step8.codes.h5",
    }
    return job("snapshot_features", inputs, {"table": folder / "step8.parquet"}, evolution={}, layer=2)


def test_an_added_snapshot_fires_by_its_own_code_and_regresses_on_the_shared_one(study, tmp_path):
    folder, _ = study
    snapshot_features(added_snapshot(tmp_path, folder))
    own = read_table(tmp_path / "step8.parquet")
    base = read_table(folder / "tables/parts/step16.parquet")
    assert own["added"].all()
    assert not base["added"].any()
    assert (own["step"] == 8).all()
    fires = base["rate"] > 0
    np.testing.assert_allclose(own["max_f"][fires], base["max_f"][fires] / 2)
    same = ["norm", "norm_raw", "regress_r2", "cos_regression", "dimensionality"]
    pd.testing.assert_frame_equal(own[same], base[same])


def test_an_extension_of_another_dictionary_is_refused(study, tmp_path):
    folder, _ = study
    with pytest.raises(ValueError, match="fit it again on this dictionary"):
        snapshot_features(added_snapshot(tmp_path, folder, layer=1))


def test_too_little_memory_is_refused_before_anything_is_read(study, tmp_path):
    folder, caches = study
    inputs = {"dictionary": folder / "dictionary.safetensors", "codes": folder / "codes.h5", "cache": caches[0]}
    outputs = {"table": tmp_path / "t.parquet"}
    with pytest.raises(ValueError, match=r"evolution.memory_gb: 0 is too little .*; set it to 0\.\d+ or more"):
        snapshot_features(job("snapshot_features", inputs, outputs, evolution={"memory_gb": 0}, layer=2))
    assert list(tmp_path.iterdir()) == []


def test_an_added_snapshot_is_measured_with_its_own_decoder_and_code(study, tmp_path):
    folder, caches = study
    dictionary, (_, z, _) = read_dictionary(folder / "dictionary.safetensors"), planted(n_rows=1000)
    norms = dictionary.decoder_norms()[3]
    own = z.multiply(z * norms > dictionary.threshold).tocsr()  # the gate of snapshot 3, as its extension would have it
    extension = Extension(
        dictionary.decoder[3], dictionary.decoder_bias[3], dictionary.scale[3], dictionary.center[3],
        dictionary.encoder[3], dictionary.encoder_bias, dictionary.threshold, step=STEPS[3], level="frozen", layer=2,
    )  # fmt: skip
    write_extension(tmp_path / "own.safetensors", extension, {})
    write_codes(tmp_path / "own.codes.h5", Codes(own, row_table(1000)), {})
    added = measure_presence(
        folder, tmp_path, caches[3], step=STEPS[3], extension=tmp_path / "own.safetensors",
        extension_codes=tmp_path / "own.codes.h5",
    )  # fmt: skip
    found, base = read_table(added), read_table(folder / f"tables/presence{STEPS[3]}.parquet")
    assert found["added"].all()
    pd.testing.assert_frame_equal(found.drop(columns="added"), base.drop(columns="added"))


def test_presence_refuses_caches_of_other_tokens_or_steps_and_snapshots_it_does_not_know(study, tmp_path):
    folder, caches = study
    with pytest.raises(CacheError, match="is of step 4, not 16"):
        measure_presence(folder, tmp_path, caches[1], step=16)
    cache = tmp_path / "step99.h5"
    for rows, said in (
        (row_table(1000, first_token=1), "is of other tokens"),
        (row_table(1000), "has it an extension"),
    ):
        write_cache(
            cache, [np.random.default_rng(0).standard_normal((1000, 16)).astype("f4")], rows=rows, step=99, layer=2,
            site="blocks.2.resid_post", d_model=16, dtype="float32", provenance={},
        )  # fmt: skip
        with pytest.raises(ValueError, match=said):
            measure_presence(folder, tmp_path, cache, step=99)


def write_parquet(path, **columns):
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_the_phase_steps_write_tables_that_fit_their_schemas(study, tmp_path):
    folder, caches = study
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
            tmp_path / "h.parquet", order=[1, 2], smoothing="kneser_ney", cross_entropy=[5.0, 3.0], ci_lo=1.0, ci_hi=9.0, n_tokens=10
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
    rows = read_table(metrics)
    assert {"ngram", "features", "optimiser", "reconstruction", "activations"} == set(rows["group"])
    assert set(zip(rows["group"], rows["split"], strict=True)) == {
        ("ngram", "heldout"), ("features", "cached"), ("optimiser", "train"), ("reconstruction", "heldout"),
        ("activations", "cached"),
    }  # fmt: skip
    train = read_cache(caches[0])[read_rows(caches[0]).split == 0]
    first = rows[rows["step"] == STEPS[0]].set_index("metric")["value"]
    assert first["act_mean_norm"] == pytest.approx(np.linalg.norm(train, axis=1).mean())
    assert first["act_max_abs"] == pytest.approx(np.abs(read_cache(caches[0])).max())
