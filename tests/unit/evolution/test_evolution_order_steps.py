"""The steps of formation and order on planted files: their tables fit the schemas, and foreign caches are refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted_features import STEPS, planted
from scipy.sparse import csr_array
from test_evolution_steps import job, row_table, write_study

from snapcoder.steps.formation import formation
from snapcoder.steps.formation_rows import formation_rows
from snapcoder.steps.formation_table import formation_table
from snapcoder.steps.order_tests import order_tests
from snapcoder.storage.activations import CacheError
from snapcoder.storage.codes import Codes, write_codes
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.tables import read_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.study.order import FormationSettings, OrderSettings

SECTIONS = {
    "formation": dataclasses.asdict(FormationSettings(top=20, permutations=100, directions=10)),
    "order": dataclasses.asdict(OrderSettings(permutations=100, bootstrap=100)),
    "evolution": dataclasses.asdict(EvolutionSettings()),
    "layer": 2,
}


def run_formation(folder, out, caches):
    out.mkdir()
    formation_rows(job("formation_rows", {"codes": folder / "codes.h5"}, {"table": out / "rows.parquet"}, **SECTIONS))
    parts = []
    for step, cache in zip(STEPS, caches, strict=True):
        parts.append(out / f"step{step}.parquet")
        inputs = {"rows": out / "rows.parquet", "cache": cache}
        formation(job("formation", inputs, {"table": parts[-1]}, **SECTIONS))
    outputs = {"formation": out / "feature_formation.parquet", "onsets": out / "formation_onset.parquet"}
    formation_table(job("formation_table", {"parts": tuple(parts)}, outputs, **SECTIONS))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    caches = write_study(folder)
    run_formation(folder, folder / "formation", caches)
    return folder, caches


def test_features_form_at_their_planted_onsets(study):
    folder, _ = study
    table = read_table(folder / "formation/formation_onset.parquet")
    assert table["onset_hi"].tolist() == [0, 0, 16, 64, 256, 1024]
    assert table["onset_censoring"].tolist() == ["left", "left", "interval", "interval", "interval", "interval"]
    curves = read_table(folder / "formation/feature_formation.parquet")
    late = curves[curves["feature"] == 4].set_index("step")
    assert (late.loc[[256, 1024], "formation"] > 0.3).all()
    assert (late.loc[[0, 4, 16, 64], "formation"].abs() < 0.25).all()


def test_the_same_files_give_the_same_bytes(study, tmp_path):
    folder, caches = study
    run_formation(folder, tmp_path / "again", caches)
    for name in ("rows", "step64", "feature_formation", "formation_onset"):
        assert file_sha256(tmp_path / f"again/{name}.parquet") == file_sha256(folder / f"formation/{name}.parquet")


def test_a_cache_of_other_tokens_is_refused(study, tmp_path):
    _, caches = study
    _, z, _ = planted(n_rows=1000)
    write_codes(tmp_path / "codes.h5", Codes(z, row_table(1000, first_token=3)), {})
    with pytest.raises(CacheError, match=r"step0\.h5: was captured on other tokens"):
        run_formation(tmp_path, tmp_path / "out", caches)


def test_a_dictionary_without_a_live_feature_gives_empty_tables(study, tmp_path):
    _, caches = study
    write_codes(tmp_path / "codes.h5", Codes(csr_array((1000, 6), dtype=np.float32), row_table(1000)), {})
    run_formation(tmp_path, tmp_path / "out", caches)
    for name in ("rows", "step64", "feature_formation", "formation_onset"):
        assert read_table(tmp_path / f"out/{name}.parquet").empty


@pytest.mark.parametrize("combined", [False, True])
def test_order_tests_are_written_with_and_without_combined_onsets(study, tmp_path, combined):
    folder, _ = study
    features = np.arange(6)
    hi, lo = [0, 0, 16, 64, 256, 1024], [None, None, 4, 16, 64, 256]
    timing = pd.DataFrame(
        {"layer": 2, "feature": features, "class": ["initialization"] * 2 + ["emergent"] * 4,
         "onset_lo": pd.array(lo, dtype="Int64"), "onset_hi": pd.array(hi, dtype="Int64"),
         "onset_censoring": ["left"] * 2 + ["interval"] * 4, "peak_step": 1024, "rate_mean": 0.1, "norm_max": features + 1.0}
    )  # fmt: skip
    complexity = pd.DataFrame({"layer": 2, "feature": features, "complexity": [1, 1, 2, 3, 4, 5], "type": "token"})
    metrics = pd.DataFrame(
        {"layer": 2, "metric": "kl_bi_context", "step": STEPS, "value": [5.0, 1, 1, 1, 1, 1], "n": 9}
    )
    draws = pd.concat([metrics.assign(draw=i)[["step", "metric", "draw", "value"]] for i in range(20)])
    inputs = {"formation": folder / "formation/formation_onset.parquet"}
    written = {"timing": timing, "complexity": complexity, "phase_metrics": metrics, "draws": draws}
    judged = pd.DataFrame({"feature": [0, 5], "complexity_llm": pd.array([1, 5], dtype="Int8")})
    written |= {"onsets": timing, "explanations": judged} if combined else {}
    for name, frame in written.items():
        inputs[name] = tmp_path / f"{name}.parquet"
        frame.to_parquet(inputs[name])
    order_tests(job("order_tests", inputs, {"table": tmp_path / "order_tests.parquet"}, **SECTIONS))
    table = read_table(tmp_path / "order_tests.parquet")
    assert ("combined" in set(table["onset_by"])) == combined
    by_model = table[(table["y"] == "complexity_llm") & (table["group"] == "all")]
    assert set(by_model["n"]) == ({2} if combined else set())  # the two features that a model judged
    assert set(table["verdict"]) <= {"undecidable", "not_supported"}  # six features support nothing
    spearman = table[(table["question"] == "later_more_complex") & (table["x"] == "onset") & (table["group"] == "all")]
    assert spearman.loc[spearman["statistic_name"] == "spearman", "effect"].iloc[0] == pytest.approx(1.0)
