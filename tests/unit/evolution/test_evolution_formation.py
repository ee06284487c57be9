from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from snapcoder.evolution.formation import formation
from snapcoder.evolution.formation_onset import formation_onsets, relative_formation
from snapcoder.evolution.formation_rows import Partners, partners, strongest_rows
from snapcoder.evolution.row_sums import RowSums
from snapcoder.evolution.selection import StrongestAlong
from snapcoder.storage.activations import RowTable
from snapcoder.study.analysis import EvolutionSettings

N, D, TOKENS = 3000, 24, 12


def row_table(rng, n=N):
    index = np.arange(n, dtype=np.int32)
    token = rng.integers(0, TOKENS, n).astype(np.int32)
    return RowTable(index // 10, index % 10, token, index // 20, np.zeros(n, np.uint8))


def planted(seed=0, strength=1.0, n=N):
    """Rows of token embeddings plus noise; features 0–3 fire on a token, 4–7 at random and add a direction of their own.

    Features 8–11 fire at random and add nothing. Returns codes, row table and activations.
    """
    rng = np.random.default_rng(seed)
    rows = row_table(rng, n)
    z = np.zeros((n, 12), dtype=np.float32)
    for feature in range(12):
        fires = rows.token == feature if feature < 4 else rng.random(n) < 0.08
        z[fires, feature] = rng.uniform(1, 2, fires.sum())
    embedding, direction = rng.standard_normal((TOKENS, D)), rng.standard_normal((12, D))
    a = embedding[rows.token] + 0.7 * rng.standard_normal((n, D)) + strength * z[:, 4:8] @ direction[4:8]
    return csr_array(z), rows, (a + 5.0).astype(np.float32)


def measure(z, rows, a, *, block=512, top=15, **options):
    table = strongest_rows([(0, z.tocsc())], rows, top=top, seed=0)
    settings = {"permutations": 300, "directions": 12, "seed": 0, **options}
    result = formation(
        table, partners(rows, seed=0), lambda: (a[i : i + block] for i in range(0, len(a), block)),
        mean=a.mean(axis=0, dtype=np.float64), **settings,
    )  # fmt: skip
    return result.set_index("feature"), table


@pytest.fixture(scope="module")
def measured():
    z, rows, a = planted()
    return (*measure(z, rows, a), rows, a)


def units(a):
    x = a - a.mean(axis=0, dtype=np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_similarity_is_the_mean_cosine_over_pairs_from_different_halves(measured):
    result, table, rows, a = measured
    unit, controls = units(a), partners(rows, seed=0)
    for feature in (0, 5, 9):
        own = table[table["feature"] == feature]
        first, second = (own.loc[own["half"] == h, "row"].to_numpy() for h in (0, 1))
        for name, of in (("similarity", np.arange(N)), ("random", controls.any_row), ("matched", controls.same_token)):
            cosines = [unit[of[j]] @ unit[of[k]] for j, k in product(first, second)]
            assert result.loc[feature, name] == pytest.approx(np.mean(cosines), abs=1e-5)
    assert result["formation"].to_numpy() == pytest.approx(result["similarity"] - result["matched"], abs=1e-6)


def test_only_features_with_a_direction_of_their_own_form(measured):
    result = measured[0]
    assert (result.loc[4:7, "formation"] > 0.15).all()
    assert (result.loc[4:7, "q"] < 0.02).all()
    assert (result.loc[4:7, "ci_lo"] > 0).all()
    rest = result.drop(index=[4, 5, 6, 7])
    assert (rest["formation"].abs() < 0.12).all()
    assert ((rest["ci_lo"] < 0) & (rest["ci_hi"] > 0)).sum() >= 7
    assert (rest["q"] > 0.05).all()


def test_a_token_alone_looks_formed_only_against_random_rows(measured):
    result = measured[0]
    assert (result.loc[:3, "similarity"] - result.loc[:3, "random"] > 0.4).all()
    assert (result.loc[:3, "formation"].abs() < 0.12).all()


def test_p_is_the_share_of_exchanges_of_rows_and_controls_by_document():
    z, rows, a = planted(n=240, strength=0.4)
    result, table = measure(z, rows, a, top=6, permutations=20_000)
    unit, same = units(a), partners(rows, seed=0).same_token
    feature = 5
    own = table[table["feature"] == feature]
    docs = own["doc"].unique()

    def statistic(exchanged):
        swap = own["doc"].isin(exchanged).to_numpy()
        row, control = own["row"].to_numpy(), same[own["row"].to_numpy()]
        active, passive = np.where(swap, control, row), np.where(swap, row, control)
        half = own["half"].to_numpy()
        return (unit[active[half == 0]].mean(0) @ unit[active[half == 1]].mean(0)
                - unit[passive[half == 0]].mean(0) @ unit[passive[half == 1]].mean(0))  # fmt: skip

    assert statistic([]) == pytest.approx(result.loc[feature, "formation"], abs=1e-5)
    chosen = [docs[np.array(bits, dtype=bool)] for bits in product((0, 1), repeat=len(docs))]
    exact = np.mean([statistic(exchanged) >= statistic([]) - 1e-9 for exchanged in chosen])
    assert result.loc[feature, "p"] == pytest.approx(exact, abs=0.015)


def test_p_of_features_that_add_nothing_is_uniform():
    found = [measure(*planted(seed=seed, strength=0.0, n=1500))[0].loc[4:, "p"] for seed in range(15)]
    p = np.concatenate(found)
    assert 0.04 < (p < 0.1).mean() < 0.18
    assert 0.35 < p.mean() < 0.65


def test_intervals_are_as_wide_as_repetition_says_and_too_wide_rather_than_too_narrow_at_zero():
    world = np.random.default_rng(99)
    embedding, direction = world.standard_normal((TOKENS, D)), world.standard_normal(D)
    repeated = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows = row_table(rng, 1500)
        z = rng.uniform(1, 2, (1500, 2)) * (rng.random((1500, 2)) < 0.08)
        a = embedding[rows.token] + 0.7 * rng.standard_normal((1500, D)) + 0.8 * z[:, :1] * direction
        repeated.append(measure(csr_array(z.astype(np.float32)), rows, a.astype(np.float32), permutations=100)[0])
    table = pd.concat(repeated)
    claimed = ((table["ci_hi"] - table["ci_lo"]) / (2 * 1.96)).groupby(level=0).median()
    real = table["formation"].groupby(level=0).std()
    assert claimed[0] == pytest.approx(real[0], rel=0.25)
    assert real[1] * 0.9 < claimed[1] < real[1] * 1.7  # pairs vary on their own there, and count for both halves


def test_scale_shift_and_block_size_do_not_matter(measured):
    result = measured[0]
    z, rows, a = planted()
    moved, _ = measure(z, rows, 8 * (a + 3), block=701)
    for name in ("similarity", "random", "matched", "formation", "ci_lo", "selection_p95"):
        assert moved[name].to_numpy() == pytest.approx(result[name].to_numpy(), abs=1e-4)


def test_relabelling_features_relabels_the_result(measured):
    z, rows, a = planted()
    order = np.random.default_rng(1).permutation(12)
    moved, _ = measure(csr_array(z.toarray()[:, order]), rows, a)
    pd.testing.assert_frame_equal(
        moved.set_axis(order).sort_index(), measured[0], check_names=False, rtol=1e-5, atol=1e-6
    )


def test_a_feature_on_too_few_rows_says_nothing_and_no_feature_gives_no_row():
    z, rows, a = planted()
    dense = z.toarray()
    dense[np.flatnonzero(dense[:, 9])[6:], 9] = 0
    result, _ = measure(csr_array(dense), rows, a)
    assert np.isnan(result.loc[9, ["formation", "p", "q", "ci_lo"]].to_numpy(dtype=float)).all()
    assert result.loc[9, "n_rows"] == 6
    assert measure(csr_array(z.shape, dtype=np.float32), rows, a)[0].empty


def test_partners_are_other_rows_of_the_same_half_and_token():
    rows = row_table(np.random.default_rng(2))
    controls = partners(rows, seed=3)
    assert abs(controls.half.mean() - 0.5) < 0.05
    assert (pd.Series(controls.half).groupby(rows.doc).nunique() == 1).all()
    for partner in (controls.any_row, controls.same_token):
        assert sorted(partner) == list(range(N))  # every row is the control of one row
        assert (controls.half[partner] == controls.half).all()
        assert (partner != np.arange(N)).all()
    assert (rows.token[controls.same_token] == rows.token).all()
    assert (rows.token[controls.any_row] == rows.token).mean() < 0.2


def test_a_token_seen_once_is_its_own_control():
    rows = row_table(np.random.default_rng(4), n=40)
    token = np.arange(40, dtype=np.int32)
    alone = partners(RowTable(rows.sequence, rows.position, token, rows.doc, rows.split), seed=0)
    assert (alone.same_token == np.arange(40)).all()


def test_the_strongest_rows_are_those_with_the_largest_codes_in_each_half():
    z, rows, _ = planted()
    half, dense = partners(rows, seed=0).half, z.toarray()
    table = strongest_rows([(0, z.tocsc()[:, :2]), (2, z.tocsc()[:, 2:])], rows, top=7, seed=0)
    assert not table.duplicated(["feature", "half", "rank"]).any()
    for (feature, h), own in table.groupby(["feature", "half"]):
        codes = np.sort(np.where(half == h, dense[:, feature], 0))[::-1]
        assert dense[own["row"], feature] == pytest.approx(codes[:7])
        assert (half[own["row"]] == h).all()
        assert own["rank"].tolist() == list(range(7))
    assert (table["doc"] == rows.doc[table["row"]]).all()


def test_random_directions_find_the_rows_furthest_along_them():
    rng = np.random.default_rng(5)
    x, half = rng.standard_normal((400, 6)).astype(np.float32), rng.integers(0, 2, 400)
    controls = Partners(half, np.arange(400), rng.permutation(400))
    strongest = StrongestAlong(controls, 6, directions=8, top=9, seed=0)
    for start in range(0, 400, 64):
        strongest.look(start, x[start : start + 64])
    sums = strongest.sums()
    for start in range(0, 400, 100):
        for total in sums:
            total.add(start, x[start : start + 100])
    direction = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    expected = []
    for w in direction.T:
        top = [np.flatnonzero(half == h)[np.argsort(-(x[half == h] @ w))[:9]] for h in (0, 1)]
        both = [x[rows] for rows in top], [x[controls.same_token[rows]] for rows in top]
        expected.append(np.subtract(*(first.mean(0) @ second.mean(0) for first, second in both)))
    assert strongest.formation(*sums) == pytest.approx(np.array(expected), abs=1e-4)


def test_row_sums_add_up_whatever_the_blocks():
    rng = np.random.default_rng(6)
    x, row, group = rng.standard_normal((50, 3)), rng.integers(0, 50, 40), np.arange(40) % 4
    total = RowSums(row, group, n_groups=5, n_rows=50, d_model=3)
    for start in range(0, 50, 7):
        total.add(start, x[start : start + 7].astype(np.float32))
    expected = [x[row[group == g]].sum(axis=0) for g in range(5)]
    assert total.sum == pytest.approx(np.array(expected), abs=1e-5)


def curves(formed, q=0.01, floor=0.2):
    formed = np.array(formed, dtype=float)
    return pd.DataFrame(
        [
            {"feature": f, "step": (0, 4, 16, 64)[s], "formation": value, "q": q, "selection_p95": floor}
            for f, curve in enumerate(formed)
            for s, value in enumerate(curve)
        ]
    )


def onsets(table, **settings):
    return formation_onsets(table, settings=EvolutionSettings(**settings)).set_index("feature")


def test_onsets_of_formation_follow_the_rule_of_the_norm():
    found = onsets(curves([[0, 0.1, 0.4, 0.5], [0.3, 0.3, 0.3, 0.3], [-0.1, -0.1, 0, 0], [0, 0.4, 0, 0.5]]))
    assert found["onset_censoring"].tolist() == ["interval", "left", "right", "interval"]
    assert found["onset_hi"].tolist()[:2] == [16, 0]
    assert found.loc[3, "onset_hi"] == 64  # one snapshot in between is not lasting
    assert found["onset_lo"].isna().tolist() == [False, True, False, False]
    assert found["above_selection"].tolist() == [True, True, False, True]
    assert found["peak_step"].tolist() == [64, 0, 16, 64]


def test_formation_that_exchanges_reach_too_is_no_onset():
    assert onsets(curves([[0, 0.1, 0.4, 0.5]], q=0.5))["onset_censoring"].tolist() == ["right"]


def test_unscored_features_have_no_peak_and_no_onset():
    found = onsets(curves([[np.nan] * 4, [np.nan, 0.1, 0.4, 0.5]]))
    assert found.loc[0, ["formation_max", "peak_step", "onset_hi"]].isna().all()
    assert not found.loc[0, "above_selection"]
    assert found.loc[1, "onset_hi"] == 16


def test_relative_formation_is_the_share_of_the_largest():
    table = relative_formation(curves([[0, 0.1, 0.4, 0.5], [-0.2, -0.1, -0.1, -0.3]]))
    assert table.loc[table["feature"] == 0, "formation_rel"].tolist() == pytest.approx([0, 0.2, 0.8, 1])
    assert table.loc[table["feature"] == 1, "formation_rel"].isna().all()
