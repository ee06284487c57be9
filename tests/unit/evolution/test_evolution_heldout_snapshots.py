import numpy as np
import pytest
from scipy.sparse import csr_array

from snapcoder.evolution.heldout_snapshots import Prediction, explained, heldout_snapshots, principal_components
from snapcoder.evolution.log_steps import log_steps
from snapcoder.storage.dictionaries import Dictionary, SnapshotDecoder, open_dictionary, write_dictionary
from snapcoder.storage.tables import write_table
from snapcoder.study.timing import TimingSettings
from snapcoder.tables.timing import HELDOUT_SNAPSHOTS

STEPS = (1, 10, 100, 1000)
D, F, N = 12, 20, 600
QUICK = TimingSettings(bootstrap=40)


def study(folder, *, noise=0.0, bend=0.0, drift=5.0, gate="per_snapshot", threshold=0.0, seed=0, steps=STEPS):
    """A dictionary whose decoders move on a straight line in log step (bend = 0), its code and its activations."""
    rng = np.random.default_rng(seed)
    first, last, off = rng.standard_normal((3, F, D))
    share = (log_steps(steps) - log_steps(steps)[0]) / 3
    decoder = np.stack([(1 - t) * first + t * last + bend * np.sin(3 * np.pi * t) * off for t in share])
    center = np.outer(share, drift * rng.standard_normal(D))
    scale = 0.5 + share
    z = rng.uniform(1, 2, (N, F)) * (rng.random((N, F)) < 0.2)
    dictionary = Dictionary(
        encoder=np.zeros((len(steps), D, F), "f4"), decoder=decoder.astype("f4"), encoder_bias=np.zeros(F, "f4"),
        decoder_bias=np.zeros((len(steps), D), "f4"), threshold=np.full(F, threshold, "f4"), scale=scale.astype("f4"),
        center=center.astype("f4"), steps=steps, gate=gate, arm="batchtopk", layer=2,
    )  # fmt: skip
    write_dictionary(folder / "dictionary.safetensors", dictionary, {})
    raw = np.einsum("rf,sfd->srd", z, decoder) + noise * rng.standard_normal((len(steps), N, D))
    raw = (raw / scale[:, None, None] + center[:, None]).astype("f4")
    return open_dictionary(folder / "dictionary.safetensors"), csr_array(z.astype("f4")), raw, dictionary


def predict(parts, z, raw, **keywords):
    table = heldout_snapshots(
        parts, z, doc=np.arange(N) // 30, heldout=lambda step: raw[parts.steps.index(step)],
        train=lambda step: raw[parts.steps.index(step)], settings=QUICK, **keywords,
    )  # fmt: skip
    return table.set_index(["step", "method"])


def test_decoders_on_a_straight_line_are_predicted_exactly(tmp_path):
    parts, z, raw, _ = study(tmp_path)
    table = predict(parts, z, raw)
    assert set(table.index.get_level_values("step")) == {10, 100}
    for step in (10, 100):
        for method in ("own", "interpolated", "endpoints"):
            assert table.loc[(step, method), "ev"] == pytest.approx(1, abs=1e-5)
        assert table.loc[(step, "nearest"), "ev"] < 0.99
    assert table.loc[(10, "own"), ["step_before", "step_after"]].tolist() == [1, 100]


def test_a_bend_tells_neighbours_from_endpoints(tmp_path):
    dense = tuple(int(10 ** (k / 4)) for k in range(13) if k not in (1, 2))
    parts, z, raw, _ = study(tmp_path, bend=1.0, steps=dense)
    ev = predict(parts, z, raw)["ev"].unstack()
    inner = ev.loc[dense[3] : dense[-3]]
    assert (inner["interpolated"] > inner["nearest"]).all()
    assert (inner["interpolated"] > inner["endpoints"] + 0.05).mean() > 0.7


def test_the_mean_that_moves_costs_only_the_blind_prediction(tmp_path):
    still, moving = tmp_path / "still", tmp_path / "moving"
    tables = []
    for folder, drift in ((still, 0.0), (moving, 50.0)):
        folder.mkdir()
        parts, z, raw, _ = study(folder, bend=0.3, drift=drift)
        raw[1:3] += drift  # off the line
        tables.append(predict(parts, z, raw)["ev"].unstack())
    np.testing.assert_allclose(tables[0]["pca"], tables[1]["pca"], atol=1e-3)
    assert (tables[1]["blind"] < tables[0]["blind"] - 1).all()


def test_the_code_is_gated_by_norms_that_are_interpolated_as_numbers():
    def part(direction, length):
        return Prediction.of(
            SnapshotDecoder(length * np.eye(2, dtype="f4")[[direction]], np.zeros(2, "f4"), 1.0, np.zeros(2, "f4"))
        )

    middle = part(0, 1.0).towards(part(1, 3.0), 0.5)
    assert middle.norm[0] == pytest.approx(2.0)  # the decoder itself has a norm of √2.5
    z = csr_array(np.array([[0.45], [0.55]], dtype="f4"))
    threshold = np.array([1.0], dtype="f4")
    found, l0 = middle.reconstruct(z, threshold=threshold, gate="per_snapshot")
    np.testing.assert_allclose(found, [[0, 0], [0.275, 0.825]], rtol=1e-5)
    assert l0 == 0.5
    assert middle.reconstruct(z, threshold=threshold, gate="shared")[1] == 1.0


def test_stored_decoders_are_read_one_snapshot_at_a_time_as_they_were_written(tmp_path):
    parts, _, _, dictionary = study(tmp_path)
    assert (parts.steps, parts.gate, parts.layer) == (STEPS, "per_snapshot", 2)
    np.testing.assert_array_equal(parts.threshold, dictionary.threshold)
    for s in range(len(STEPS)):
        np.testing.assert_array_equal(parts.snapshot(s).decoder, dictionary.decoder[s])
        np.testing.assert_array_equal(parts.snapshot(s).center, dictionary.center[s])
        assert parts.snapshot(s).scale == dictionary.scale[s]


def test_principal_components_explain_what_the_singular_values_say():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((400, 8)) * np.arange(1, 9) + 10).astype("f4")
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    for rank in (1, 3, 8):
        draws = (np.zeros(400, dtype=int), np.ones((3, 1)))
        found = explained(rows, principal_components(rows, rows, rank=rank), draws)
        assert found["ev"] == pytest.approx(values[:rank].sum() / values.sum(), abs=1e-4)
        assert np.isnan(found["ev_ci_lo"])  # one document has no interval


def test_the_interval_brackets_the_value_and_constant_activations_have_none(tmp_path):
    parts, z, raw, _ = study(tmp_path, noise=0.5)
    table = predict(parts, z, raw)
    assert (table["ev_ci_lo"] < table["ev"]).all()
    assert (table["ev"] < table["ev_ci_hi"]).all()
    assert predict(parts, z, np.zeros_like(raw))["ev"].isna().all()


def test_studies_without_an_inner_snapshot_or_held_out_rows_have_no_row(tmp_path):
    parts, z, raw, _ = study(tmp_path, steps=(1, 1000))
    table = predict(parts, z, raw).reset_index()
    assert table.empty
    write_table(tmp_path / "table.parquet", table, HELDOUT_SNAPSHOTS, {})
    parts, z, raw, _ = study(tmp_path)
    none = heldout_snapshots(
        parts, z[:0], doc=np.zeros(0, dtype=int), heldout=lambda _: raw[0][:0], train=lambda _: raw[0], settings=QUICK
    )
    assert none.empty
