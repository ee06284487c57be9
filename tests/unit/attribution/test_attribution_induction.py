"""Attribution on a model whose algorithm is known, because its weights were written by hand.

Two attention heads without normalisation. The residual stream holds the token, the position, the token before (written
by block 0), and the prediction (written by block 1), each as one-hot coordinates; so every coordinate is a feature.
Block 0 attends to the position before and copies its token; block 1 attends to where the token before equals the
current token, and copies the token there to the prediction. That is induction.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.contributions import attribute, position_shares
from snapcoder.attribution.exact import exact_effects
from snapcoder.attribution.gradients import clean_gradient, path_gradient
from snapcoder.attribution.paths import path_from
from snapcoder.attribution.prompt_codes import SnapshotDictionary
from snapcoder.attribution.task_prompts import TaskPrompts
from snapcoder.storage.task_examples import Example
from snapcoder.tasks.prompts import capture_prompts

V, P = 12, 10  # vocabulary, positions
TOKEN, POSITION, BEFORE, PREDICTION = 0, V, V + P, 2 * V + P
WIDTH = 3 * V + P


class Head(nn.Module):
    """Attention with score sharpness · q(x)·k(y), which copies v(y) into the stream."""

    def __init__(self, query, key, value, sharpness):
        super().__init__()
        self.query, self.key, self.value, self.sharpness = query, key, value, sharpness

    def forward(self, hidden, **_):
        score = self.sharpness * (hidden @ self.query) @ (hidden @ self.key).transpose(1, 2)
        n = hidden.shape[1]
        score = score.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), float("-inf"))
        return hidden + score.softmax(dim=-1) @ hidden @ self.value


def maps(source, target, matrix):
    """Read the block of coordinates at `source` through `matrix`, write it at `target`."""
    weight = torch.zeros(WIDTH, WIDTH)
    weight[source : source + matrix.shape[0], target : target + matrix.shape[1]] = matrix
    return weight


class InductionModel(nn.Module):
    """Has what `continue_from` and `capture` ask of a transformer."""

    def __init__(self, sharpness):
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=2, hidden_size=WIDTH)
        shift = torch.diag(torch.ones(P - 1), -1)  # position t asks for position t − 1
        previous = Head(
            maps(POSITION, POSITION, shift), maps(POSITION, POSITION, torch.eye(P)), maps(TOKEN, BEFORE, torch.eye(V)), 60.0
        )  # fmt: skip
        induction = Head(
            maps(TOKEN, TOKEN, torch.eye(V)), maps(BEFORE, TOKEN, torch.eye(V)), maps(TOKEN, PREDICTION, torch.eye(V)),
            sharpness,
        )  # fmt: skip
        self.layers = nn.ModuleList([previous, induction])
        self.device = torch.device("cpu")

    def forward(self, tokens=None, input_ids=None, use_cache=False, logits_to_keep=0):
        tokens = input_ids if tokens is None else tokens
        hidden = torch.zeros(*tokens.shape, WIDTH)
        hidden.scatter_(2, tokens[:, :, None] + TOKEN, 1.0)
        hidden[:, :, POSITION : POSITION + P] = torch.eye(P)[: tokens.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden)
        return SimpleNamespace(logits=10 * hidden[:, -logits_to_keep:, PREDICTION:])


A, B, C, X = 1, 2, 3, 4
CLEAN = (7, A, B, 8, 9, 5, A)  # … A B … A → B
PATCH = (7, X, B, 8, 9, 5, A)  # A did not occur before, so nothing can be copied
PLACE = 2  # where B stands, and where the token before is written
FEATURE = BEFORE + A


@pytest.fixture(scope="module")
def induction():
    """The hand-made model and prompts on which each residual coordinate after block 0 is one feature."""
    model = InductionModel(sharpness=8.0)
    examples = [Example("induction", "t", "", "", "", "B", "C", CLEAN, PATCH, B, C)]
    own = capture_prompts(model, examples, np.arange(1), step=0, layer=0, examples_sha256="x")
    here = SnapshotDictionary(
        decoder=np.eye(WIDTH, dtype=np.float32), decoder_bias=np.zeros(WIDTH, np.float32),
        threshold=np.zeros(WIDTH, np.float32), gate_norm=np.ones(WIDTH, np.float32), scale=1.0,
        center=np.zeros(WIDTH, np.float32),
    )  # fmt: skip
    prompts = TaskPrompts(examples, own.offset, own.clean, own.patch, csr_array(own.clean), csr_array(own.patch))
    return model, here, prompts


def test_the_hand_made_model_does_induction(induction):
    model = induction[0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        start, *block = rng.permutation(V)[:6].tolist()  # the first position has none before it
        n = int(rng.integers(1, 4))
        logits = model(torch.tensor([[start, *block, *block[:n]]])).logits[0, -1]
        assert int(logits.argmax()) == block[n]


def test_only_the_previous_token_feature_at_the_place_of_the_answer_carries_induction(induction):
    model, here, prompts = induction
    path = path_from("corrupted", prompts, here)
    changing = np.flatnonzero(np.abs(prompts.delta.toarray()).max(axis=0) > 1e-6)
    assert set(changing.tolist()) == {TOKEN + A, TOKEN + X, BEFORE + A, BEFORE + X}
    with continue_from(model, layer=0) as run:
        gradient = path_gradient(run, prompts, points=81)
        exact = exact_effects(run, prompts, prompts.delta.toarray(), here.decoder)[0]
    found = attribute(prompts, here, gradient, path)
    effect = float((gradient.metric_clean - gradient.metric_base)[0])
    assert effect > 8
    attributed = found.feature.toarray()[0]
    assert attributed[FEATURE] == pytest.approx(effect, rel=0.01)
    assert exact[FEATURE] == pytest.approx(effect, rel=1e-4)
    assert np.abs(np.delete(attributed, FEATURE)).max() < 1e-4
    assert np.abs(np.delete(exact, FEATURE)).max() < 1e-4
    assert -np.abs(found.by_distance[:, FEATURE]).argmax() == PLACE - (len(CLEAN) - 1)
    shares, error, everything = position_shares(
        prompts, here, gradient, path, example=0, features=np.array([FEATURE, TOKEN + A])
    )
    expected = np.zeros((len(CLEAN), 2))
    expected[PLACE, 0] = effect
    np.testing.assert_allclose(shares, expected, atol=0.01 * effect)
    np.testing.assert_allclose(everything, expected[:, 0], atol=0.01 * effect)
    assert np.abs(error).max() < 1e-5
    assert np.abs(found.error).max() < 1e-5


def test_attention_that_has_settled_hides_the_feature_from_its_gradient_at_the_clean_prompt(induction):
    """Why patching is not enough: where attention is sure, its derivative is nothing, though all depends on it."""
    model, here, prompts = induction
    with continue_from(model, layer=0) as run:
        at_clean = attribute(prompts, here, clean_gradient(run, prompts)).feature.toarray()[0, FEATURE]
        along = attribute(prompts, here, path_gradient(run, prompts, points=81)).feature.toarray()[0, FEATURE]
    assert at_clean < 0.05 * along
