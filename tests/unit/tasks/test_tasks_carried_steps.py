"""The steps that trace tasks to features, on a tiny study: files in, files out."""

import numpy as np
import pandas as pd
import pytest
import torch
from planted_tasks import D_MODEL, N_FEATURES, STEPS

from snapcoder.attribution.task_prompts import read_snapshot_prompts
from snapcoder.language_model import load, run_from
from snapcoder.storage.activations import read_rows
from snapcoder.storage.tables import read_table
from snapcoder.storage.task_examples import read_examples
from snapcoder.storage.tokens import read_tokens
from snapcoder.tables.attribution import primary_attribution


def test_a_task_done_by_the_model_is_acquired_attributed_and_ablated(study):
    performance = read_table(study.root / "performance.parquet")
    known = performance[performance["task"] == "known"]
    assert known["accuracy"].tolist() == [1.0] * len(STEPS)
    assert known["acquired"].all()
    quality = read_table(study.root / "quality.parquet")
    kinds = [("atp", "corrupted"), ("ig", "corrupted"), ("ig", "mean"), ("ig", "zero")]
    for step in STEPS:
        rows = quality[(quality["task"] == "known") & (quality["step"] == step)].set_index(["method", "baseline"])
        assert sorted(rows.index) == kinds
        assert (rows["status"] == "attributed").all()
        assert (rows.loc["ig", "completeness_gap"] < 0.1).all()
        assert (rows["n_examples"] == rows["n_clusters"]).all()
        assert set(rows["n_examples"]) == {6}
        assert rows.loc[[("atp", "corrupted")], "ig_steps"].tolist() == [1]
    primary = primary_attribution(quality)
    assert len(primary) == len(performance)
    others = primary[primary["status"] != "attributed"]
    assert others["reason"].str.len().min() > 10
    assert len(others) + (quality["status"] == "attributed").sum() == len(quality)
    attributed = read_table(study.root / "attribution.parquet")
    assert set(attributed["task"]) == set(quality.loc[quality["status"] == "attributed", "task"])
    assert (attributed.groupby(["task", "step", "method", "baseline"])["feature"].min() == -1).all()


def test_the_strongest_and_some_random_features_are_verified_and_kept(study):
    everything = read_table(study.root / "attribution8.parquet")
    kept = read_table(study.root / "attribution.parquet")
    for (task, method, baseline), rows in everything.groupby(["task", "method", "baseline"]):
        features = rows[rows["feature"] >= 0]
        verified = features["exact_effect"].notna()
        assert verified[features["rank"] <= 3].all()
        assert 7 <= verified.sum() <= 3 * 2 + 4  # by each method of the baseline, and the random ones
        assert (features["exact_effect_heldout"].notna() == verified).all()
        here = kept[(kept["step"] == 8) & (kept["task"] == task)]
        here = here[(here["method"] == method) & (here["baseline"] == baseline) & (here["feature"] >= 0)]
        assert set(here["feature"]) == set(features.loc[verified | (features["rank"] <= 5), "feature"])
    corrupted = everything[everything["baseline"] == "corrupted"].pivot(
        index=["task", "feature"], columns="method", values="exact_effect"
    )
    both = corrupted.dropna()
    assert (both["ig"] == both["atp"]).all()  # the truth does not depend on what approximates it


def test_exact_effects_and_mean_codes_of_the_step_are_those_of_the_definition(study, model):
    """One verified feature, replaced by its mean code by hand in a full pass of the model."""
    rows = read_table(study.root / "attribution8.parquet")
    rows = rows[(rows["task"] == "known") & (rows["method"] == "ig") & (rows["baseline"] == "mean")]
    row = rows[rows["exact_effect"].notna()].sort_values("rank").iloc[0]
    snapshot = read_snapshot_prompts(
        study.root / "examples.jsonl", [study.root / f"p{step}.h5" for step in STEPS],
        study.root / "dictionary.safetensors", [], step=8, layer=1, largest=6,
    )  # fmt: skip
    feature, here = int(row["feature"]), snapshot.here
    for half, column in (
        (snapshot.ranking("known"), "exact_effect"), (snapshot.evaluation("known"), "exact_effect_heldout"),
    ):  # fmt: skip
        changes = []
        for index, example in enumerate(half.examples):
            here_rows = slice(half.offset[index], half.offset[index + 1])
            moved = half.clean_code.toarray()[here_rows, feature] - (0.2 if feature % 5 else 0.0)
            shift = np.outer(moved, here.decoder[feature]) / here.scale
            activation = torch.from_numpy((half.clean[here_rows] - shift).astype(np.float32))[None]
            tokens = torch.tensor([example.clean_tokens])
            with torch.no_grad():
                before = model(tokens).logits[0, -1]
                after = run_from(model, activation, tokens=tokens, layer=1)[0, -1]
            pair = [example.clean_token, example.patch_token]
            changes.append(float((before[pair[0]] - before[pair[1]]) - (after[pair[0]] - after[pair[1]])))
        assert row[column] == pytest.approx(np.mean(changes), abs=1e-4)


def test_positions_show_the_strongest_features_on_ranking_examples_and_add_up(study):
    positions = read_table(study.root / "positions.parquet")
    attributed = primary_attribution(read_table(study.root / "attribution.parquet"))
    examples = read_examples(study.root / "examples.jsonl")
    for (task, step), rows in positions.groupby(["task", "step"]):
        here = attributed[(attributed["task"] == task) & (attributed["step"] == step)]
        strongest = here[(here["rank"] >= 1) & (here["rank"] <= 3)]["feature"]
        assert set(rows["feature"]) == {-2, -1, *strongest}
        assert rows["example"].nunique() == 2
        for line, of_example in rows.groupby("example"):
            assert examples[line].task == task
            shown = of_example[of_example["feature"] == -2].sort_values("position")
            assert shown["position"].tolist() == list(range(len(examples[line].clean_tokens)))
            assert "".join(shown["token"]).strip() == examples[line].clean_prefix.replace("Ġ", "").strip()


def test_curves_end_where_they_must(study):
    curves = read_table(study.root / "curves.parquet")
    curves = curves[curves["task"] == "known"]
    ranked = {("attr_here", ablation, "feature", 0) for ablation in ("zero", "mean", "resample")}
    ranked |= {(ranking, "resample", "feature", 0) for ranking in ("attr_final", "norm")}
    controls = {(name, "resample", "feature", draw) for name, n in (("random", 2), ("matched", 3)) for draw in range(n)}
    baselines = {("attr_here", "resample", unit, 0) for unit in ("neuron", "pca")}
    names = ["ranking", "ablation", "unit", "draw"]
    assert set(curves[names].itertuples(index=False, name=None)) == ranked | controls | baselines
    drawn = curves["ranking"].isin(["random", "matched"])
    assert set(curves.loc[drawn, "k"]) == {2}
    of_features = curves[~drawn & (curves["unit"] == "feature")]
    assert set(of_features["k"]) == {0, 1, 2, 4, N_FEATURES}
    assert set(curves.loc[curves["unit"] == "pca", "k"]) == {0, 1, 2, 4, D_MODEL}
    for _, here in of_features.groupby(["step", "ablation"]):
        at = here.groupby(["mode", "k"])["metric"]
        spread, ends = at.max() - at.min(), at.first()
        assert spread[("disrupt", 0)] == spread[("restore", N_FEATURES)] == 0
        assert ends[("disrupt", 0)] == ends[("restore", N_FEATURES)]
        assert ends[("restore", 0)] == ends[("disrupt", N_FEATURES)]


def test_the_final_ranking_is_that_of_the_last_base_snapshot(study):
    curves = read_table(study.root / "curves.parquet").set_index(["step", "mode", "ablation", "k"])
    curves = curves.xs("resample", level="ablation")
    here, final = (curves[curves["ranking"] == name]["metric"] for name in ("attr_here", "attr_final"))
    here = here[(curves["unit"] == "feature")[curves["ranking"] == "attr_here"]]
    pd.testing.assert_series_equal(here.loc[STEPS[-1]], final.loc[STEPS[-1]], check_names=False)
    assert not here.loc[STEPS[0]].equals(final.loc[STEPS[0]])


def test_every_full_curve_has_a_summary_and_only_the_main_one_is_tested(study):
    curves, summary = read_table(study.root / "curves.parquet"), read_table(study.root / "summary.parquet")
    key = ["task", "step", "mode", "ranking", "ablation", "unit"]
    full = curves[~curves["ranking"].isin(["random", "matched"])][key].drop_duplicates()
    assert sorted(summary[key].itertuples(index=False)) == sorted(full.itertuples(index=False))
    main = (summary["ranking"] == "attr_here") & (summary["ablation"] == "resample") & (summary["unit"] == "feature")
    assert (summary["matched_k"].notna() == main).all()
    assert (summary["nonadditivity"].notna() == (main & (summary["mode"] == "disrupt"))).all()
    assert summary.loc[main, "p_matched_holm"].between(0.25, 1).all()
    neurons = summary[summary["unit"] == "neuron"]
    np.testing.assert_allclose(neurons["effect_share"].dropna(), 1, atol=1e-4)


def test_losses_through_the_dictionary_start_from_the_models_own(study):
    losses = read_table(study.root / "losses.parquet")
    assert set(losses["step"]) == set(STEPS)
    assert (losses.groupby("step")["activation"].nunique() == 4).all()
    clean = losses[losses["activation"] == "clean"].set_index("step")
    assert (clean["kl"] == 0).all()
    with torch.no_grad():
        model = load(study.root / "step8")
        table = read_tokens(study.root / "tokens.h5")
        rows = read_rows(study.root / "a8.h5")
        held = np.unique(rows.sequence[rows.split == 1])
        assert len(held) > 10  # more than asked for: a choice of them was read
        logits = model(torch.from_numpy(table.tokens[held].astype(np.int64))).logits.log_softmax(dim=-1)
    every = -logits[:, 1:-1].gather(2, torch.from_numpy(table.tokens[held, 2:].astype(np.int64))[..., None])
    assert clean.loc[8, "loss"] == pytest.approx(float(every.mean()), abs=0.3)
    assert clean["n_documents"].tolist() == [10] * len(STEPS)
