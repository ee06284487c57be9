"""The peers benchmark: its table, its scorer against closed forms, its loop, and Snapcoder's worker on toy rows."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

PEERS = Path(__file__).parents[3] / "benchmarks" / "peers"
sys.path.insert(0, str(PEERS))

from arms import DENSE, PRODUCTS, SNAPCODER, ArmEntry  # noqa: E402
from equal_sparsity import at_equal_sparsity, gate_norms, scored, threshold_of  # noqa: E402
from measurement import Problem, batches, measure  # noqa: E402
from planted_rows import SIZES, planted_rows  # noqa: E402
from side_by_side import Run, ratios, size_table, summary  # noqa: E402

TOY = SIZES["toy"]


def loaded(name: str):
    """Load a file of the benchmark whose name other folders may have, too."""
    spec = importlib.util.spec_from_file_location(f"peers_{name}", PEERS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problem(variant: str) -> Problem:
    return Problem(variant, TOY.n_snapshots, TOY.d_model, TOY.n_features, TOY.k, TOY.batch_size, TOY.n_train, lr=1e-2)


def run_of(arm: str, turn: int, step: float, *, peak: int = 300, error: str = "") -> Run:
    mib = 2**20
    memory = {"before_build": 100 * mib, "build_peak": 150 * mib, "before_first_step": 120 * mib, "peak": peak * mib}
    scores = {
        "steps": {"ev": 0.5, "l0": 3.0, "l0_any": 4.0, "step": 8.0},
        "seconds": {"ev": 0.75, "l0": 3.0, "l0_any": 4.5, "step": 40.0},
    }
    return Run("toy", turn, arm, [9.0] * 3 + [step] * 5, memory, scores if turn == 0 else {}, {}, error)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return planted_rows(TOY, seed=1)


@pytest.fixture(scope="module")
def exact() -> dict[str, np.ndarray]:
    """A dictionary whose features are the coordinates of a snapshot, so that it reconstructs without error."""
    eye = np.eye(4, dtype=np.float32)
    zero = np.zeros((4, 4), dtype=np.float32)
    encoder = np.stack([eye, zero])  # reads snapshot 0 only
    decoder = np.stack([eye, 2 * eye])  # and writes it, doubled, to snapshot 1
    return {
        "encoder": encoder,
        "encoder_bias": np.zeros(4, np.float32),
        "decoder": decoder,
        "decoder_bias": np.zeros((2, 4), np.float32),
        "gate": np.array("per_snapshot"),
    }


def test_rows_are_centred_and_scaled_on_the_train_rows(rows):
    train = rows[: TOY.n_train].astype(np.float64)
    assert rows.shape == (TOY.n_train + TOY.n_heldout, TOY.n_snapshots, TOY.d_model)
    assert np.abs(train.mean(axis=0)).max() < 1e-5
    np.testing.assert_allclose(np.square(train).sum(axis=2).mean(axis=0), TOY.d_model, rtol=1e-5)
    np.testing.assert_array_equal(rows, planted_rows(TOY, seed=1))


def test_a_perfect_dictionary_explains_everything_and_counts_what_is_on(exact):
    first = np.array([[3, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]], np.float32)
    x = np.stack([first, 2 * first], axis=1)
    score = scored(exact, x, 0.0)
    assert score.ev == pytest.approx(1.0)
    assert score.l0 == pytest.approx(4 / 3)
    assert score.l0_any == pytest.approx(4 / 3)
    # Above 3 (z · norm) snapshot 1 keeps 3·2, 2·2 and snapshot 0 keeps 3·1: three codes in three rows, two snapshots.
    some = scored(exact, x, 3.0)
    assert some.l0 == pytest.approx(3 / 6)
    assert some.l0_any == pytest.approx(2 / 3)
    lost = 1 + 4 + 1 + (4 + 4)  # snapshot 0 loses 1, 2 and 1, snapshot 1 loses 2 and 2
    deviation = np.square(x - x.mean(axis=0)).sum()
    assert some.ev == pytest.approx(1 - lost / deviation)


def test_the_threshold_leaves_k_features_on_per_token_and_snapshot(exact):
    x = np.random.default_rng(0).standard_normal((700, 2, 4)).astype(np.float32)
    assert scored(exact, x, threshold_of(exact, x, 1)).l0 == pytest.approx(1.0)
    z = x[:, 0]
    every = np.sort(np.concatenate([z.ravel(), 2 * z.ravel()]))
    assert threshold_of(exact, x, 1) == pytest.approx(every[-1400])


def test_a_threshold_of_zero_is_given_when_fewer_features_are_positive(exact):
    x = np.abs(np.random.default_rng(0).standard_normal((50, 2, 4))).astype(np.float32) * [1, 0, 0, 0]
    assert threshold_of(exact, x.astype(np.float32), 3) == 0.0


def test_gate_norms_of_three_four_decoders():
    decoder = np.zeros((2, 1, 2), np.float32)
    decoder[0, 0], decoder[1, 0] = [3, 4], [5, 12]
    assert gate_norms(decoder, "per_snapshot").ravel().tolist() == [5, 13]
    assert gate_norms(decoder, "sum").ravel().tolist() == [18, 18]
    np.testing.assert_allclose(gate_norms(decoder, "rms").ravel(), [97**0.5] * 2)
    with pytest.raises(ValueError, match="give per_snapshot, rms or sum"):
        gate_norms(decoder, "largest")


def test_batches_visit_every_train_row_once_in_an_epoch():
    x = torch.arange(600.0).reshape(-1, 1, 1)
    small = replace(problem("any"), n_train=512, batch_size=64)
    stream = batches(x, small)
    epoch = torch.cat([next(stream) for _ in range(8)]).flatten()
    assert sorted(epoch.tolist()) == list(range(512))


@pytest.mark.parametrize(
    ("worker", "build", "variant"),
    [("snapcoder_worker", "Snapcoder", variant) for variant in ("constant", "schedule")]
    + [("dense_batchtopk_worker", "DenseBatchTopK", "batchtopk")],
)
def test_a_worker_trains_and_its_dictionary_explains_more_after_more_steps(rows, worker, build, variant):
    torch.manual_seed(0)
    task = replace(problem(variant), planned_steps=30)
    result, kept = measure(getattr(loaded(worker), build), torch.from_numpy(rows), task, seconds=0.0, steps=30)
    assert len(result.seconds) == 30
    assert result.steps_of == {"seconds": 1, "steps": 30}
    assert result.memory["peak"] > 0
    ev = {}
    for moment in ("seconds", "steps"):
        dictionary = {key.split(".")[1]: value for key, value in kept.items() if key.startswith(moment)}
        ev[moment] = at_equal_sparsity(dictionary, rows, TOY.n_train, TOY.k).ev
    assert ev["steps"] > ev["seconds"] + 0.1


def test_snapcoder_own_scores_agree_with_the_benchmark_scorer(rows):
    x = torch.from_numpy(rows)
    arm = loaded("snapcoder_worker").Snapcoder(x, problem("constant"))
    for _ in range(10):
        arm.update()
    arm.trainer.score()
    dictionary = arm.dictionary()
    own = scored(dictionary, rows[TOY.n_train :], dictionary["threshold"])
    last = arm.trainer.tracked.history[-TOY.n_snapshots :]
    assert own.l0 == pytest.approx(np.mean([row["l0"] for row in last]), rel=0.02)  # its products are bf16
    assert own.ev == pytest.approx(np.mean([row["ev"] for row in last]), abs=0.02)


def test_ratios_are_taken_within_a_round():
    runs = [run_of("a", 0, 0.2), run_of("b", 0, 0.1), run_of("a", 1, 0.9), run_of("b", 1, 0.3)]
    runs.append(run_of("a", 2, 0.9))
    assert ratios(runs, "a", "b") == pytest.approx([2.0, 3.0])


def test_the_table_shows_medians_and_names_what_failed():
    broken = ArmEntry("broken", "broken", "any", "An arm that stops.")
    runs = [run_of("broken", 0, 0.1, error="ImportError: no such module")]
    for turn, factor in enumerate((1.0, 1.5)):
        runs += [run_of(SNAPCODER.name, turn, 0.01 * factor, peak=140), run_of(DENSE.name, turn, 0.04)]
        runs += [run_of(product.name, turn, 0.005) for product in PRODUCTS]
    table = size_table(runs, (SNAPCODER, DENSE, broken), TOY, name="toy", seconds=2, steps=8).splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in table}
    assert len({line.count("|") for line in table}) == 1
    assert cells["snapcoder"][1:3] == ["5,333", "4,267"]  # median of 6,400 and 4,267
    assert cells["snapcoder"][5:9] == ["2.50", "2.50", "20", "50"]
    assert cells[DENSE.name][3] == "3.33× (2.67×)"
    assert cells[DENSE.name][7:12] == ["180", "200", "300", "0.500", "0.750 (40)"]
    assert cells["broken"][1].startswith("does not run: `ImportError: no such module`")
    text = summary(runs, (SNAPCODER, DENSE, broken), name="toy")
    assert "3.33× (2.67×) the tokens/s of the fastest peer (dense BatchTopK (stand-in))" in text
    assert "2.50× the bare encoder product in fp32" in text


def test_the_command_writes_a_page_and_its_figures(tmp_path, monkeypatch):
    run = loaded("run")
    monkeypatch.setattr(run, "peers_python", lambda folder: Path(sys.executable))
    monkeypatch.setattr(run, "PRODUCTS", ())
    out = tmp_path / "peers.md"
    arguments = (
        "--sizes toy --seconds-per-arm 0.1 --steps 10 --rounds 1 --threads 1 --arms dense --learning-rates 1e-2 --out"
    )
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments.split(), str(out)])
    run.main()
    figures = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert [figure["arm"] for figure in figures] == [DENSE.name]
    assert not any(figure["error"] for figure in figures)
    assert 0 < figures[-1]["scores"]["steps"]["ev"] < 1
    page = out.read_text(encoding="utf-8")
    assert "## toy: 3 snapshots" in page
    assert "(learning rate 0.01 at toy)" in page
    assert str(tmp_path) not in page


def test_a_worker_that_stops_leaves_its_last_line_in_the_table(tmp_path):
    run = loaded("run")
    absent = replace(DENSE, worker="absent")
    options = type("Options", (), {"steps": 1, "seconds_per_arm": 0.1, "threads": 1})()
    result = run.run_arm(absent, "toy", TOY, 0, options, Path(sys.executable), tmp_path / "toy.npy")
    assert "absent_worker.py" in result.error
