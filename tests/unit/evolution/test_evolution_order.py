import numpy as np
import pandas as pd
import pytest

from snapcoder.evolution.order import order_tests
from snapcoder.study.order import OrderSettings
from snapcoder.tables.order import ORDER_TESTS

STEPS = np.array([0, 4, 16, 64, 256, 1024])
SETTINGS = OrderSettings(permutations=300, bootstrap=200)
KEY = list(ORDER_TESTS.key)


def timing_table(onset_index, classes=None):
    """One feature per index of its onset snapshot; 0 is left-censored, None never starts."""
    first = [None if i is None else int(i) for i in onset_index]
    n = len(first)
    rng = np.random.default_rng(0)
    kinds = ["transient" if i is None else "emergent" if i else "initialization" for i in first]
    return pd.DataFrame(
        {
            "layer": 2,
            "feature": np.arange(n),
            "class": kinds if classes is None else classes,
            "onset_lo": pd.array(
                [STEPS[i - 1] if i else STEPS[-1] if i is None else None for i in first], dtype="Int64"
            ),
            "onset_hi": pd.array([None if i is None else STEPS[i] for i in first], dtype="Int64"),
            "onset_censoring": ["right" if i is None else "interval" if i else "left" for i in first],
            "peak_step": pd.array([STEPS[-1] if i is None else STEPS[min(i + 1, 5)] for i in first], dtype="Int64"),
            "rate_mean": rng.random(n),
            "norm_max": rng.random(n),
        }
    )


def complexity_table(features, level, kind="token"):
    return pd.DataFrame(
        {
            "layer": 2,
            "feature": features,
            "complexity": level,
            "context_need": np.asarray(level, float) / 5,
            "type": kind,
        }
    )


def metric_tables(settled=2, level=3, noise=0.01, steps=STEPS, draws=150):
    """All KLs fall at snapshot `settled`, both gaps cross zero at `level`."""
    rng = np.random.default_rng(1)
    at = np.arange(len(steps))
    kl = np.where(at < settled, 5.0, 1.0 + 0.01 * (len(steps) - at))
    curves = {f"kl_{n}_{kind}": kl for n in ("uni", "bi") for kind in ("context", "marginal")}
    curves |= {"gap_h1": np.where(at < level, -1.0, 1.0), "gap_h2": np.where(at < level, -1.0, 1.0)}
    metrics = pd.DataFrame(
        [
            {"layer": 2, "metric": m, "step": s, "value": v, "n": 900}
            for m, c in curves.items()
            for s, v in zip(steps, c, strict=True)
        ]
    )
    drawn = [
        metrics.assign(draw=i, value=metrics["value"] + noise * rng.standard_normal(len(metrics))) for i in range(draws)
    ]
    return metrics, pd.concat(drawn)[["step", "metric", "draw", "value"]]


def formation_table(timing, shift=0):
    index = np.searchsorted(STEPS, timing["onset_hi"].fillna(STEPS[-1]).to_numpy(dtype=float))
    index = np.clip(index + shift, 0, len(STEPS) - 1)
    return pd.DataFrame(
        {
            "feature": timing["feature"],
            "formation_max": 0.3,
            "onset_hi": pd.array(STEPS[index], dtype="Int64"),
            "onset_censoring": "interval",
        }
    )


def run(timing, complexity, metrics=None, formation=None, onsets=None, settings=SETTINGS):
    metrics, draws = metric_tables() if metrics is None else metrics
    formation = formation_table(timing) if formation is None else formation
    return order_tests(timing, complexity, metrics, draws, formation, onsets=onsets, settings=settings)


def one(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1, table
    return table.iloc[0]


@pytest.fixture(scope="module")
def planted():
    """Features start at snapshots 0, 4 and 5; complexity follows onset; three types start in turn."""
    onset = np.repeat([0, 0, 4, 4, 5], 20)
    timing = timing_table(onset)
    kinds = np.repeat(["token", "token", "prev_token", "induction", "contextual"], 20)
    level = np.repeat([1, 2, 3, 3, 5], 20)
    return timing, complexity_table(timing["feature"], level, kinds)


@pytest.fixture(scope="module")
def table(planted):
    return run(*planted)


def test_metrics_that_settle_before_emergent_features_are_found_to(table):
    where = {"question": "ngram_before_features", "group": "emergent", "tolerance": 0.05, "y": "onset_median"}
    row = one(table, x="kl_bi_context", **where)
    # settled in (4, 16], onset in (64, 256]: 64/16 at least, 256/4 at most
    assert (row["ci_lo"], row["ci_hi"]) == pytest.approx((np.log10(4), np.log10(64)))
    assert row["effect"] == pytest.approx((np.log10(64 * 256) - np.log10(4 * 16)) / 2)
    assert row["verdict"] == "supported"
    assert row["n"] == 60
    last = one(table, x="all_metrics", **where)
    assert last["verdict"] == "supported"
    assert last["ci_lo"] == pytest.approx(0.0)  # the gaps cross in (16, 64], right before
    assert "after" not in last["note"]
    assert last["p"] == pytest.approx(1 / 151)


def test_features_of_the_first_snapshot_are_not_after_anything(planted, table):
    row = one(
        table, question="ngram_before_features", group="all", tolerance=0.05, y="onset_first_quartile", x="gap_h1"
    )
    assert row["verdict"] == "not_supported"
    assert np.isnan(row["ci_lo"])
    assert row["ci_hi"] < 0
    assert "by step 0" in row["note"]


def test_the_same_interval_decides_nothing(planted):
    table = run(*planted, metrics=metric_tables(settled=4, level=4))
    row = one(
        table, question="ngram_before_features", group="emergent", x="all_metrics", y="onset_median", tolerance=0.05
    )
    assert row["verdict"] == "undecidable"
    assert row["ci_lo"] < 0 < row["ci_hi"]


def test_a_loss_that_never_reaches_the_ngrams_comes_after_the_features(planted):
    table = run(*planted, metrics=metric_tables(level=9))
    row = one(table, question="ngram_before_features", group="emergent", x="gap_h2", y="onset_median", tolerance=0.05)
    assert row["verdict"] == "not_supported"
    assert np.isnan(row["ci_lo"])
    assert row["ci_hi"] < 0
    joint = one(
        table, question="ngram_before_features", group="emergent", x="all_metrics", y="onset_median", tolerance=0.05
    )
    assert joint["verdict"] == "not_supported"


def test_wavering_documents_widen_the_interval(planted):
    metrics, draws = metric_tables(noise=0.0)
    odd = draws["draw"] % 2 == 1
    draws.loc[odd & (draws["step"] == 16) & (draws["metric"] == "kl_uni_context"), "value"] = 5.0
    where = {
        "question": "ngram_before_features",
        "group": "emergent",
        "x": "kl_uni_context",
        "y": "onset_median",
        "tolerance": 0.05,
    }
    row = one(run(*planted, metrics=(metrics, draws)), **where)
    assert row["ci_lo"] == pytest.approx(0.0)
    assert row["ci_hi"] == pytest.approx(np.log10(64))


def test_unigrams_and_bigrams_are_compared_draw_by_draw(planted):
    metrics, draws = metric_tables()
    for frame in (metrics, draws):
        frame.loc[(frame["metric"] == "kl_bi_context") & (frame["step"] < 1024), "value"] += 5.0
    table = run(*planted, metrics=(metrics, draws))
    row = one(table, question="unigram_before_bigram", x="kl_uni_context")
    assert row["verdict"] == "supported"
    assert (row["ci_lo"], row["ci_hi"]) == pytest.approx((np.log10(16), np.log10(256)))
    assert one(table, question="unigram_before_bigram", x="kl_uni_marginal")["verdict"] == "undecidable"


def test_the_stated_order_of_types_is_found_and_pairs_are_corrected(planted, table):
    row = one(table, question="type_order", group="emergent")
    # induction and previous-token features start together, contextual ones after both: 800 of 1,200 pairs
    assert row["effect"] == pytest.approx(800 / 1200)
    assert row["statistic"] == 800
    assert row["verdict"] == "supported"
    pairs = table[(table["question"] == "type_pair") & (table["group"] == "emergent")].set_index("x")
    assert pairs.loc["prev_token < induction", "effect"] == 0
    assert pairs.loc["prev_token < induction", "verdict"] == "not_supported"  # nothing beyond 0.2 is left
    assert pairs.loc["induction < contextual", "p_adjusted"] > pairs.loc["induction < contextual", "p"]
    assert set(pairs["correction"]) == {"Holm over 3"}


def test_types_in_the_reverse_order_do_not_support_the_claim(planted):
    timing, complexity = planted
    kinds = np.repeat(["token", "token", "contextual", "induction", "prev_token"], 20)
    row = one(run(timing, complexity.assign(type=kinds)), question="type_order", group="emergent")
    assert row["effect"] < 0
    assert row["verdict"] == "not_supported"


def test_a_missing_type_is_said_and_undecidable(planted):
    timing, complexity = planted
    table = run(timing, complexity.assign(type=complexity["type"].replace("induction", "bigram")))
    row = one(table, question="type_order", group="all")
    assert row["verdict"] == "undecidable"
    assert "induction 0" in row["note"]
    assert np.isnan(row["p"])


def test_planted_complexity_is_supported_plain_and_partial(table):
    rows = table[(table["question"] == "later_more_complex") & (table["group"] == "all")]
    assert set(rows["x"]) == {"onset", "peak"}
    assert set(rows["y"]) == {"complexity", "context_need"}
    assert (rows["verdict"] == "supported").all()
    assert (rows["n"] == 100).all()
    assert rows["correction"].str.startswith("Benjamini–Hochberg over").all()


def test_what_was_measured_of_some_features_only_is_tested_on_these(planted):
    timing, complexity = planted
    known = np.arange(len(complexity)) % 2 == 0
    judged = complexity.assign(context_window=2.0 ** complexity["complexity"], complexity_llm=complexity["complexity"])
    judged.loc[~known, ["context_window", "complexity_llm"]] = np.nan
    table = run(timing, judged)
    rows = table[table["y"].isin(["context_window", "complexity_llm"]) & (table["group"] == "all")]
    assert len(rows) == 8
    assert (rows["n"] == known.sum()).all()
    assert (rows["verdict"] == "supported").all()


def test_complexity_at_random_is_not_supported_when_there_are_many_features():
    rng = np.random.default_rng(5)
    timing = timing_table(rng.integers(1, 6, 500))
    table = run(timing, complexity_table(timing["feature"], rng.integers(1, 6, 500)))
    row = one(
        table, question="later_more_complex", x="onset", y="complexity", group="emergent", statistic_name="spearman"
    )
    assert row["verdict"] == "not_supported"


def test_complexity_at_random_is_undecidable_when_there_are_few_features():
    rng = np.random.default_rng(6)
    timing = timing_table(rng.integers(1, 6, 25))
    table = run(timing, complexity_table(timing["feature"], rng.permutation(np.arange(25) % 5 + 1)))
    row = one(
        table, question="later_more_complex", x="onset", y="complexity", group="emergent", statistic_name="spearman"
    )
    assert row["ci_hi"] > 0.2
    assert row["verdict"] == "undecidable"


def test_a_driver_of_both_makes_the_plain_correlation_only():
    rng = np.random.default_rng(7)
    rate = rng.random(400)
    timing = timing_table(1 + np.clip((rate * 5 + 0.5 * rng.standard_normal(400)).astype(int), 0, 4))
    timing["rate_mean"] = rate
    level = 1 + np.clip((rate * 5 + 0.5 * rng.standard_normal(400)).astype(int), 0, 4)
    table = run(timing, complexity_table(timing["feature"], level))
    where = {"question": "later_more_complex", "x": "onset", "y": "complexity", "group": "emergent"}
    assert one(table, statistic_name="spearman", **where)["verdict"] == "supported"
    partial = one(table, statistic_name="partial_spearman", **where)
    assert abs(partial["effect"]) < 0.25 < one(table, statistic_name="spearman", **where)["effect"]


def test_formation_at_the_norms_onset_agrees_and_elsewhere_does_not(planted):
    _, complexity = planted
    mixed = timing_table(np.tile([1, 2, 3, 4, 5], 20))
    where = {"question": "formation_agrees", "group": "emergent", "statistic_name": "share_within_one_snapshot"}
    same = one(run(mixed, complexity), **where)
    assert (same["effect"], same["verdict"]) == (1.0, "supported")
    crossed = formation_table(timing_table(np.repeat([1, 2, 3, 4, 5], 20)))
    other = one(run(mixed, complexity, formation=crossed), **where)
    assert other["effect"] == 13 / 25
    assert other["p"] > 0.3
    assert other["verdict"] != "supported"
    # of 25 equally likely pairs of five places, 13 lie within one of each other
    assert float(other["note"].removeprefix("by chance ").removesuffix("%")) == pytest.approx(52, abs=2)


def test_features_that_never_form_do_not_agree(planted):
    mixed = timing_table(np.tile([1, 2, 3, 4, 5], 20))
    never = formation_table(mixed).assign(onset_hi=pd.array([None] * 100, dtype="Int64"), onset_censoring="right")
    table = run(mixed, planted[1], formation=never)
    where = {"question": "formation_agrees", "group": "emergent"}
    assert one(table, statistic_name="share_within_one_snapshot", **where)["effect"] == 0
    assert np.isnan(one(table, statistic_name="spearman", **where)["effect"])


def test_combined_evidence_adds_rows_of_its_own_and_leaves_the_others(planted, table):
    timing, complexity = planted
    onsets = timing_table(np.repeat([0, 3, 3, 3, 3], 20))[
        ["feature", "class", "onset_lo", "onset_hi", "onset_censoring"]
    ]
    both = run(timing, complexity, onsets=onsets)
    assert set(both["onset_by"]) == {"norm", "combined", "none"}
    same = both[(both["onset_by"] != "combined") & (both["question"] != "later_more_complex")]
    pd.testing.assert_frame_equal(
        same.reset_index(drop=True), table[table["question"] != "later_more_complex"].reset_index(drop=True)
    )
    assert one(both, question="type_order", group="emergent", onset_by="combined")["effect"] == 0
    assert not ((both["x"] == "peak") & (both["onset_by"] == "combined")).any()


def test_relabelling_features_changes_nothing(planted, table):
    timing, complexity = planted
    order = np.random.default_rng(8).permutation(100)
    moved = timing.assign(feature=order).sort_values("feature")
    formation = formation_table(timing).assign(feature=order).sort_values("feature")
    again = run(moved, complexity.assign(feature=order).sort_values("feature"), formation=formation)
    pd.testing.assert_frame_equal(again, table)


@pytest.mark.parametrize(
    "onset, steps",
    [([], STEPS), ([None, None], STEPS), ([0, 0, 1], STEPS[:2]), ([1, 1, 1], STEPS[:2]), ([0], STEPS[:1])],
)
def test_tiny_studies_run_through_and_claim_nothing(onset, steps):
    timing = timing_table(onset)
    table = run(timing, complexity_table(timing["feature"], [3] * len(onset)), metrics=metric_tables(1, 1, steps=steps))
    assert not table.duplicated(KEY).any()
    unsupported = table[table["question"] != "unigram_before_bigram"]
    assert "supported" not in set(unsupported["verdict"])


def test_without_scored_features_formation_agrees_with_nothing(planted):
    table = run(*planted, formation=formation_table(planted[0]).iloc[:0])
    rows = table[table["question"] == "formation_agrees"]
    assert set(rows["verdict"]) == {"undecidable"}
    assert (rows["n"] == 0).all()


def test_dead_features_are_in_no_group():
    timing = timing_table([1, 2, 3], classes=["dead"] * 3)
    table = run(timing, complexity_table(timing["feature"], [1, 2, 3]))
    assert (table.loc[table["question"] != "unigram_before_bigram", "n"] == 0).all()


def test_without_draws_nothing_about_ngrams_is_claimed(planted):
    metrics, draws = metric_tables()
    table = run(*planted, metrics=(metrics, draws.iloc[:0]))
    rows = table[table["question"].isin(["ngram_before_features", "unigram_before_bigram"])]
    assert set(rows["verdict"]) == {"undecidable"}
