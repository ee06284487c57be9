import numpy as np
import pandas as pd
import pytest
from planted_presence import KINDS, STEPS, measure, onset_tables, plant, renumbered, side_of

from snapcoder.evolution.presence import Block, measure_presence
from snapcoder.evolution.regression import CodeCovariance, CodeMoments, regression_r2
from snapcoder.storage.tables import TableSchema
from snapcoder.study.presence import PresenceSettings
from snapcoder.tables.presence import FEATURE_ONSETS, FEATURE_PRESENCE, PRESENCE


def index_of(step):
    return np.array([len(STEPS) if pd.isna(value) else STEPS.index(value) for value in step])


def problems(frame, schema: TableSchema) -> list[str]:
    import pyarrow as pa

    table = pa.Table.from_pandas(frame[[c.name for c in schema.columns]], schema=schema.arrow(), preserve_index=False)
    unknown = set(frame.columns) - {column.name for column in schema.columns}
    return schema.problems(table) + [f"unknown column {name}" for name in sorted(unknown)]


@pytest.fixture(scope="module")
def world():
    return plant(seed=1, noise=0.6)


@pytest.fixture(scope="module")
def found(world):
    onsets, rows, timing = onset_tables(world)
    return onsets.assign(kind=world.kind), rows, timing


def test_the_combined_onset_is_right_where_the_norm_is_fooled(world, found):
    onsets, _, _ = found
    for kind in KINDS:
        these = world.kind == kind
        combined = np.abs(index_of(onsets["onset_hi"]) - world.onset)[these] <= 1
        assert combined.mean() >= 0.9, kind
    fooled = np.isin(world.kind, ("shrunken", "covered", "leaked", "silent"))
    by_norm = np.abs(index_of(onsets["norm_hi"]) - world.onset)[fooled] <= 1
    assert by_norm.mean() < 0.1


def test_every_interval_brackets_the_truth(world, found):
    onsets, _, _ = found
    low = np.array([-1 if pd.isna(value) else STEPS.index(value) for value in onsets["onset_lo"]])
    assert ((low < world.onset) & (world.onset <= index_of(onsets["onset_hi"]))).mean() >= 0.95


@pytest.mark.parametrize(
    ("kind", "verdict", "evidence"),
    [
        ("start", "present_from_start", "norm"),
        ("turning", "present_from_start", "norm"),
        ("late", "confirmed", "norm"),
        ("shrunken", "shrinkage", "scaling"),
        ("covered", "decoupled", "scaling"),
        ("leaked", "unsupported", "regression"),
        ("silent", "silent", "firing"),
    ],
)
def test_each_way_to_fool_the_norm_has_its_verdict(found, kind, verdict, evidence):
    onsets = found[0][found[0]["kind"] == kind]
    assert (onsets["verdict"] == verdict).mean() >= 0.9
    assert (onsets.loc[onsets["verdict"] == verdict, "evidence"] == evidence).mean() >= 0.9


def test_a_turned_feature_is_absent_along_its_old_direction_and_present_along_its_own(world, found):
    rows = found[1][np.isin(found[1]["feature"], np.flatnonzero(world.kind == "turning"))]
    late = rows[rows["step"] >= STEPS[4]]  # the peak is the first snapshot
    assert late["nu_ref"].abs().median() < 0.3
    assert late["nu_eps"].median() == pytest.approx(1, abs=0.1)
    assert (late["by_scaling"] == "present").all()


def test_agreement_is_whole_where_nothing_is_wrong_and_less_where_the_norm_is_fooled(found):
    mean = found[0].groupby("kind")["agreement"].mean()
    assert mean["late"] > 0.95
    assert mean["shrunken"] < 0.8


def test_both_tables_fit_their_schemas(found):
    onsets, rows, _ = found
    assert problems(onsets.drop(columns="kind"), FEATURE_ONSETS) == []
    assert problems(rows, FEATURE_PRESENCE) == []


def test_too_few_activations_widen_the_onset_instead_of_inventing_one():
    world = plant(seed=2, rate=0.008, per_kind=5)
    onsets, _, _ = onset_tables(world)
    low = np.array([-1 if pd.isna(value) else STEPS.index(value) for value in onsets["onset_lo"]])
    brackets = (low < world.onset) & (world.onset <= index_of(onsets["onset_hi"]))
    fooled = np.isin(world.kind, ("shrunken", "covered"))
    assert brackets[fooled].mean() >= 0.9
    assert (onsets.loc[fooled, "verdict"] == "unclear").mean() >= 0.8
    assert (index_of(onsets["onset_hi"]) - low)[fooled].mean() > 2


def test_renumbering_the_features_renumbers_the_results():
    world = plant(seed=3, per_kind=2, n_rows=2000)
    order = np.random.default_rng(0).permutation(len(world.kind))
    plain = measure(world, 5)
    renamed = measure(renumbered(world, order), 5)
    expected = plain.iloc[order].reset_index(drop=True).assign(feature=np.arange(len(order)))
    pd.testing.assert_frame_equal(renamed, expected, rtol=1e-3, atol=1e-4)


def test_the_regression_is_that_of_the_trajectory_table(world):
    n_rows, n_features = world.z.shape
    moments, sums = CodeMoments(n_features), CodeCovariance(slice(0, n_features), center=np.zeros(56), scale=1.0)
    moments.add(world.z)
    sums.add(world.z, world.raw[6])
    found = sums.finish(moments.mean)
    expected = regression_r2(found, moments.variance, sums.total_variance, n_rows=n_rows) + 1 / (n_rows - 1)
    found = measure(world, 6)
    np.testing.assert_allclose(found["regress_r2"], expected, rtol=1e-4)
    np.testing.assert_allclose(found["regress_excess"], found["regress_r2"] - found["regress_null"])


def test_blocks_of_any_size_give_the_same_measurements(world):
    whole, cut = measure(world, 4, size=8000), measure(world, 4, size=700)
    exact = [
        "n_active",
        "regress_r2",
        "probe_auroc",
        "probe_n",
        "beta_eps",
        "beta_r",
        "free_eps",
        "free_eps_se",
        "single_corr",
    ]
    pd.testing.assert_frame_equal(whole[exact], cut[exact], rtol=1e-3, atol=1e-4)


def test_the_encoder_of_the_snapshot_alone_finds_the_code_where_the_feature_is(world):
    before, after = measure(world, 1), measure(world, 6)
    late = world.kind == "late"
    assert (after["single_p"][late] < 0.05).all()
    assert after["single_corr"][late].mean() > 0.3
    assert before["single_corr"][late].isna().all()  # planted with an encoder of zero before the onset
    assert before["single_p"][world.kind == "leaked"].min() > 0.005  # an encoder that has nothing to read


def test_an_own_code_takes_the_place_of_the_gate(world):
    side, blocks = side_of(world.dictionary, 6), [slice(i, i + 1000) for i in range(0, 8000, 1000)]

    def run(own):
        return measure_presence(
            side,
            codes=lambda: (world.z[part] for part in blocks),
            blocks=lambda: (Block(world.z[part], own(world.z[part]), world.raw[6][part]) for part in blocks),
            doc=world.doc,
            settings=PresenceSettings(),
            stream=0,
        )

    pd.testing.assert_frame_equal(run(lambda z: None), run(side.gated))


def test_a_dictionary_without_life_or_documents_gives_rows_of_undefined_values(world):
    z = world.z[:40] * 0
    z.eliminate_zeros()
    for doc in (np.zeros(40, int), np.arange(40)):
        found = measure_presence(
            side_of(world.dictionary, 0),
            codes=lambda: iter([z]),
            blocks=lambda: iter([Block(z, None, world.raw[0][:40])]),
            doc=doc,
            settings=PresenceSettings(),
            stream=0,
        )
        assert len(found) == world.dictionary.n_features
        assert found[["p_present", "probe_auroc", "beta_eps", "free_eps"]].isna().all(axis=None)
        assert problems(found.assign(layer=1, step=0, added=False), PRESENCE) == []


def test_rows_that_do_not_fit_the_codes_are_refused(world):
    blocks = [Block(world.z[:1000], None, world.raw[0][:1000])]
    for codes, said in (([world.z], "1000 activations for 8000 rows"), ([world.z[:500]], "500 rows of codes for 8000")):
        with pytest.raises(ValueError, match=said):
            measure_presence(
                side_of(world.dictionary, 0),
                codes=lambda codes=codes: iter(codes),
                blocks=lambda: iter(blocks),
                doc=world.doc,
                settings=PresenceSettings(),
                stream=0,
            )
