"""Losses and task scores through a dictionary, against dictionaries whose answer is known and plain forward hooks."""

import dataclasses

import numpy as np
import pytest
import torch
from planted_tasks import D_MODEL, N_FEATURES, STEPS, VOCAB, make_dictionary
from scipy.sparse import csr_array

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.prompt_codes import of_snapshot, prompt_codes
from snapcoder.attribution.reconstruction import (
    HeldOutText,
    TextLosses,
    gated,
    held_out_text,
    loss_rows,
    reconstruction,
    share,
    text_losses,
)
from snapcoder.attribution.task_prompts import SnapshotPrompts
from snapcoder.attribution.task_reconstruction import task_logit_diffs, task_row, task_rows
from snapcoder.language_model import blocks, capture
from snapcoder.storage.activations import RowTable
from snapcoder.storage.tables import read_table, write_table
from snapcoder.storage.task_examples import cluster_ids, task_lines
from snapcoder.storage.tokens import TokenTable
from snapcoder.tables.downstream import RECONSTRUCTION_LOSS, TASK_RECONSTRUCTION
from snapcoder.tasks.prompts import capture_prompts
from snapcoder.tasks.selection import split_halves

LAYER, STEP, CONTEXT = 1, 8, 10


def token_table(model, seed=0, n=12):
    """Text that the model knows: mostly its own first guesses, so that losing its activations costs something."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, VOCAB, size=(n, CONTEXT))
    for position in range(1, CONTEXT):
        with torch.no_grad():
            guess = model(torch.from_numpy(tokens[:, :position])).logits[:, -1, 1:].argmax(dim=1).numpy() + 1
        tokens[:, position] = np.where(rng.random(n) < 0.8, guess, tokens[:, position])
    tokens = tokens.astype(np.uint16)
    doc = np.repeat(np.arange(n)[:, None], CONTEXT, axis=1).astype(np.int32)
    doc[::2, 6:] += 100  # a border inside every other sequence
    return TokenTable(tokens, doc, (np.arange(n) % 2).astype(np.uint8), VOCAB, 0, "x")


def cached_rows(table, *, skip=1):
    """Train rows first, the first position of every sequence left out, the last sequence cut short."""
    place = [
        (sequence, position)
        for split in (0, 1)
        for sequence in table.sequences(split)
        for position in range(skip, CONTEXT)
    ][:-3]
    sequence, position = np.array(place).T
    return RowTable(
        sequence, position, table.tokens[sequence, position], table.doc[sequence, position], table.split[sequence]
    )


@pytest.fixture(scope="module")
def table(model):
    return token_table(model)


@pytest.fixture
def text(table):
    return held_out_text(table, cached_rows(table), sequences=99, seed=0)


@pytest.fixture
def clean(model, text):
    """The activations of the cached rows, [row, model]."""
    where = text.row >= 0
    activation = capture(model, torch.from_numpy(text.tokens), layer=LAYER).detach().numpy()[where]
    return activation[np.argsort(text.row[where])]


def exact_dictionary(rng):
    """An orthonormal basis that is always on, in the first features; the others are nothing."""
    basis = np.linalg.qr(rng.normal(size=(D_MODEL, D_MODEL)))[0].astype(np.float32)
    here = STEPS.index(STEP)
    made = make_dictionary(rng, threshold=-1e30)
    encoder, decoder = np.zeros_like(made.encoder), np.zeros_like(made.decoder)
    encoder[here, :, :D_MODEL], decoder[:, :D_MODEL] = basis.T, basis
    zeros = {"encoder_bias": np.zeros(N_FEATURES, np.float32), "decoder_bias": np.zeros_like(made.decoder_bias)}
    return dataclasses.replace(made, encoder=encoder, decoder=decoder, **zeros)


def code_of(dictionary, activation):
    here = of_snapshot(dictionary, STEP)
    return here, prompt_codes(dictionary, here, [activation] * len(STEPS), activation)


def losses_of(model, text, rebuilt, mean):
    return text_losses(model, text, lambda rows: rebuilt[rows], mean=mean, layer=LAYER)


def rows_of(losses):
    return loss_rows(losses, step=STEP, layer=LAYER, bootstrap=60, seed=0).set_index("activation")


def hooked_losses(model, text, values):
    """The obvious way: a hook on the block, one sequence at a time; values None or [row, model] or [model]."""
    found = []
    for tokens, doc, row in zip(text.tokens, text.doc, text.row, strict=True):

        def replace(_module, _inputs, output, row=row):
            hidden = (output if isinstance(output, torch.Tensor) else output[0]).clone()
            for position in np.flatnonzero(row >= 0):
                if values is not None:
                    new = values if values.ndim == 1 else values[row[position]]
                    hidden[0, position] = torch.from_numpy(new)
            return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

        handle = blocks(model)[LAYER].register_forward_hook(replace)
        with torch.no_grad():
            logits = model(torch.from_numpy(tokens)[None]).logits[0]
        handle.remove()
        found += [
            float(torch.nn.functional.cross_entropy(logits[t], torch.tensor(tokens[t + 1])))
            for t in range(len(tokens) - 1)
            if row[t] >= 0 and doc[t] == doc[t + 1]
        ]
    return np.array(found)


def test_losses_are_those_of_a_plain_hook_on_the_block(model, text, clean, dictionary):
    here, code = code_of(dictionary, clean)
    rebuilt, mean = reconstruction(code, here), clean.mean(axis=0)
    losses = losses_of(model, text, rebuilt, mean)
    stand_ins = {"clean": None, "reconstructed": rebuilt, "mean": mean, "zero": np.zeros(D_MODEL, np.float32)}
    for name, values in stand_ins.items():
        np.testing.assert_allclose(losses.loss[name], hooked_losses(model, text, values), atol=2e-5, err_msg=name)
    assert len(losses.doc) == len(losses.loss["clean"]) > 20
    assert (losses.kl["reconstructed"] > 1e-4).any()


def test_divergences_are_those_of_the_definition(model, text, clean):
    """Of the last scored prediction, from two full passes and scipy's relative entropy."""
    from scipy.stats import entropy

    losses = losses_of(model, text, clean, np.zeros(D_MODEL))
    where = np.argwhere((text.row[:, :-1] >= 0) & (text.doc[:, :-1] == text.doc[:, 1:]))
    sequence, position = where[-1]
    tokens = torch.from_numpy(text.tokens[sequence])[None]
    activation = capture(model, tokens, layer=LAYER).detach()
    activation[0, text.row[sequence] >= 0] = 0
    with torch.no_grad():
        p = model(tokens).logits[0, position].softmax(dim=0).double().numpy()
        with continue_from(model, layer=LAYER) as run:
            q = run.logits(tokens, activation)[0, position].softmax(dim=0).double().numpy()
    assert losses.kl["zero"][-1] == pytest.approx(entropy(p, q), rel=1e-3)


def test_with_the_error_kept_nothing_changes(model, text, clean):
    losses = losses_of(model, text, clean, clean.mean(axis=0))
    np.testing.assert_array_equal(losses.loss["reconstructed"], losses.loss["clean"])
    np.testing.assert_allclose(losses.kl["reconstructed"], 0, atol=1e-6)
    rows = rows_of(losses)
    assert rows.loc["mean", "recovered"] == 1.0


def test_an_exact_dictionary_recovers_the_whole_loss(model, text, clean):
    here, code = code_of(exact_dictionary(np.random.default_rng(5)), clean)
    rebuilt = reconstruction(code, here)
    np.testing.assert_allclose(rebuilt, clean, atol=1e-4)
    rows = rows_of(losses_of(model, text, rebuilt, clean.mean(axis=0)))
    for ablation in ("mean", "zero"):
        assert rows.loc[ablation, "recovered"] == pytest.approx(1, abs=1e-3)
        assert rows.loc[ablation, "recovered_ci_lo"] <= 1.001
        assert rows.loc[ablation, "recovered_ci_hi"] >= 0.999


def test_a_dictionary_of_nothing_is_the_mean_and_recovers_nothing_of_it(model, text, clean):
    mean = clean.mean(axis=0)
    made = make_dictionary(np.random.default_rng(5))
    nothing = dataclasses.replace(
        made,
        decoder=np.zeros_like(made.decoder),
        decoder_bias=np.zeros_like(made.decoder_bias),
        center=np.stack([mean] * len(STEPS)),
    )
    here, code = code_of(nothing, clean)
    rows = rows_of(losses_of(model, text, reconstruction(code, here), mean))
    assert rows.loc["mean", "recovered"] == pytest.approx(0, abs=1e-4)
    assert rows.loc["reconstructed", "loss"] == pytest.approx(rows.loc["mean", "loss"], abs=1e-5)
    assert rows["recovered"].isna().to_dict() == {"clean": True, "reconstructed": True, "mean": False, "zero": False}


def test_rows_that_were_not_cached_keep_their_activation_and_are_not_scored(table):
    rows = cached_rows(table, skip=3)
    text = held_out_text(table, rows, sequences=99, seed=0)
    assert len(text.tokens) == 6  # all held-out sequences
    assert (text.row[:, :3] == -1).all()
    assert (text.row[-1, -3:] == -1).all()
    places = np.argwhere(text.row >= 0)
    sequences = table.sequences(1)
    for sequence, position in places:
        cached = text.cached[text.row[sequence, position]]
        assert (rows.sequence[cached], rows.position[cached]) == (sequences[sequence], position)
    assert len(places) == len(text.cached) == (rows.split == 1).sum()


def test_sequences_are_drawn_alike_every_time_and_no_more_than_asked_for(table):
    rows = cached_rows(table)
    few, again = (held_out_text(table, rows, sequences=2, seed=3) for _ in range(2))
    assert len(few.tokens) == 2
    np.testing.assert_array_equal(few.tokens, again.tokens)


def test_no_held_out_row_is_said_in_one_line(table):
    rows = cached_rows(table)
    train = RowTable(*(getattr(rows, field.name)[rows.split == 0] for field in dataclasses.fields(RowTable)))
    with pytest.raises(ValueError, match=r"raise activations\.heldout_tokens"):
        held_out_text(table, train, sequences=2, seed=0)


def test_batches_change_nothing(model, text, clean, monkeypatch):
    whole = losses_of(model, text, clean * 0.9, clean.mean(axis=0))
    monkeypatch.setattr("snapcoder.attribution.reconstruction._BATCH_TOKENS", CONTEXT)
    one_by_one = losses_of(model, text, clean * 0.9, clean.mean(axis=0))
    for name, values in whole.loss.items():
        np.testing.assert_allclose(values, one_by_one.loss[name], atol=1e-5)
    np.testing.assert_array_equal(whole.doc, one_by_one.doc)


def test_the_gate_is_the_snapshots_own():
    rng = np.random.default_rng(0)
    here = of_snapshot(make_dictionary(rng), STEP)
    z = rng.normal(size=(30, N_FEATURES)).astype(np.float32)
    expected = np.where(z * here.gate_norm > here.threshold, z, 0)
    np.testing.assert_array_equal(gated(csr_array(z), here).toarray(), expected)


def test_a_share_of_nothing_is_undefined():
    draws = np.array([0.01, 0.2, -0.2, 0.1, -0.1])
    assert np.isnan(share(np.ones(5), draws)).all()
    assert np.isnan(share(np.ones(5), np.zeros(5))).all()
    clear = np.array([2.0, 2.1, 1.9, 2.0, 2.0])
    np.testing.assert_allclose(share(clear / 2, clear), 0.5)


def test_an_ablation_that_helps_leaves_nothing_to_recover():
    rng = np.random.default_rng(0)
    doc, clean = np.repeat(np.arange(20), 5), 3 + 0.01 * rng.random(100)
    loss = {"clean": clean, "reconstructed": clean - 0.1, "mean": clean - 1, "zero": clean + 1}
    rows = rows_of(TextLosses(doc, loss, {name: np.zeros(100) for name in loss}))
    assert np.isnan(rows.loc["mean", "recovered"])
    assert rows.loc["zero", "recovered"] == pytest.approx(1.1)


def snapshot_prompts(model, dictionary, examples):
    lines = np.arange(len(examples))
    own = capture_prompts(model, examples, lines, step=STEP, layer=LAYER, examples_sha256="x")
    return SnapshotPrompts(
        dictionary=dictionary,
        here=of_snapshot(dictionary, STEP),
        examples=examples,
        halves=split_halves(task_lines(examples), cluster_ids(examples), largest=99),
        base=[own] * len(STEPS),
        own=own,
    )


def scored(model, dictionary, examples):
    snapshot = snapshot_prompts(model, dictionary, examples)
    with continue_from(model, layer=LAYER) as run:
        return task_logit_diffs(run, snapshot, examples[0].task)


def test_task_scores_are_those_of_the_model_on_both_prefixes(model, dictionary, examples):
    lines, found = scored(model, dictionary, examples)
    assert len(lines) == len(examples) // 2
    for at, line in enumerate(lines):
        example = examples[line]
        for side in ("clean", "patch"):
            with torch.no_grad():
                logits = model(torch.tensor([getattr(example, f"{side}_tokens")])).logits[0, -1]
            expected = float(logits[example.clean_token] - logits[example.patch_token])
            assert found[side][at] == pytest.approx(expected, abs=1e-4)


def test_an_exact_dictionary_keeps_every_task(model, examples):
    _, found = scored(model, exact_dictionary(np.random.default_rng(5)), examples)
    np.testing.assert_allclose(found["reconstructed"], found["clean"], atol=1e-3)


def row_of(**found):
    n = len(found["clean"])
    options = {"task": "t", "step": 1, "layer": 0, "bootstrap": 200, "seed": 0}
    return task_row(found, np.arange(n), **options)


def test_shares_recovered_of_a_task_are_one_zero_half_or_undefined():
    rng = np.random.default_rng(0)
    patch = rng.normal(-1, 0.3, size=40)
    clean = patch + rng.normal(2, 0.2, size=40)
    for rebuilt, expected in ((clean, 1), (patch, 0), ((clean + patch) / 2, 0.5)):
        row = row_of(clean=clean, patch=patch, reconstructed=rebuilt)
        assert row["recovered"] == pytest.approx(expected)
        assert row["recovered_ci_lo"] - 1e-9 <= expected <= row["recovered_ci_hi"] + 1e-9
        assert row["logit_diff"] == pytest.approx(rebuilt.mean())
        assert row["accuracy"] == pytest.approx((rebuilt > 0).mean())
    noise = row_of(clean=patch + rng.normal(0, 1, size=40), patch=patch, reconstructed=clean)
    assert np.isnan(noise["recovered"])
    assert np.isnan(noise["recovered_ci_hi"])
    assert np.isfinite(noise["logit_diff"])


def test_the_rows_fit_their_tables(model, dictionary, examples, text, clean, tmp_path):
    snapshot = snapshot_prompts(model, dictionary, examples)
    options = {"step": STEP, "layer": LAYER, "bootstrap": 20, "seed": 0}
    with continue_from(model, layer=LAYER) as run:
        tasks = task_rows(run, snapshot, **options)
    losses = loss_rows(losses_of(model, text, clean, clean.mean(axis=0)), **options)
    for rows, schema in ((tasks, TASK_RECONSTRUCTION), (losses, RECONSTRUCTION_LOSS)):
        write_table(tmp_path / "t.parquet", rows, schema, {})
        assert len(read_table(tmp_path / "t.parquet")) == len(rows) > 0


def test_a_text_of_one_document_has_no_interval(model, text, clean):
    one = HeldOutText(text.tokens, np.zeros_like(text.doc), text.row, text.cached)
    rows = rows_of(losses_of(model, one, clean, clean.mean(axis=0)))
    assert rows["loss_ci_lo"].isna().all()
    assert np.isfinite(rows["loss"]).all()
