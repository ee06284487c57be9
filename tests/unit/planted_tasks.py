"""A random tiny GPT-NeoX, a random dictionary over it, and examples for both."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from snapcoder.attribution.prompt_codes import of_snapshot, prompt_codes
from snapcoder.attribution.task_prompts import TaskPrompts
from snapcoder.storage.dictionaries import Dictionary
from snapcoder.storage.task_examples import Example
from snapcoder.tasks.prompts import capture_prompts

VOCAB, D_MODEL, N_FEATURES, STEPS = 40, 16, 24, (0, 8, 64)


@pytest.fixture(scope="session")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPTNeoXConfig(
            vocab_size=VOCAB,
            hidden_size=D_MODEL,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=32,
            initializer_range=0.3,
        )
        config._attn_implementation = "eager"
        return GPTNeoXForCausalLM(config).eval()


def make_examples(task, n, rng, lengths=(5, 7)):
    """Random examples of one task; prefixes of several lengths, so that grouping is exercised."""
    examples = []
    for index in range(n):
        length = lengths[index % len(lengths)]
        clean, patch = rng.integers(0, VOCAB, size=(2, length)).tolist()
        answers = rng.choice(VOCAB, size=2, replace=False).tolist()
        examples.append(Example(task, "file", "", "c", "p", "a", "b", tuple(clean), tuple(patch), *answers))
    return examples


@pytest.fixture
def examples():
    return make_examples("planted", 12, np.random.default_rng(1))


def make_dictionary(rng, *, gate="per_snapshot", threshold=0.3):
    shape = (len(STEPS), N_FEATURES, D_MODEL)
    decoder = rng.normal(size=shape).astype(np.float32) / np.float32(np.sqrt(D_MODEL))
    return Dictionary(
        encoder=np.ascontiguousarray(decoder.transpose(0, 2, 1)) / len(STEPS),
        decoder=decoder,
        encoder_bias=rng.normal(size=N_FEATURES).astype(np.float32) * 0.1,
        decoder_bias=rng.normal(size=(len(STEPS), D_MODEL)).astype(np.float32) * 0.1,
        threshold=np.full(N_FEATURES, threshold, dtype=np.float32),
        scale=rng.uniform(0.5, 2.0, size=len(STEPS)).astype(np.float32),
        center=rng.normal(size=(len(STEPS), D_MODEL)).astype(np.float32) * 0.1,
        steps=STEPS,
        gate=gate,
        arm="batch_topk",
        layer=1,
    )


@pytest.fixture
def dictionary():
    return make_dictionary(np.random.default_rng(2))


def task_prompts(model, dictionary, examples, *, step=8, layer=1, noise=0.0):
    """Prompts of one snapshot with their codes; the other base snapshots hold noisy copies of its activations."""
    lines = np.arange(len(examples))
    own = capture_prompts(model, examples, lines, step=step, layer=layer, examples_sha256="x")
    rng = np.random.default_rng(9)
    here = of_snapshot(dictionary, step)
    codes = []
    for activation in (own.clean, own.patch):
        base = [activation + noise * rng.normal(size=activation.shape).astype(np.float32) for _ in dictionary.steps]
        codes.append(prompt_codes(dictionary, here, base, activation))
    return here, TaskPrompts(examples, own.offset, own.clean, own.patch, *codes)


class HeadRun:
    """Stands in for a continuation: logits are a given function of the activations [example, position, model]."""

    device = torch.device("cpu")

    def __init__(self, head):
        self._head = head

    def last_logits(self, tokens, activation):
        return self._head(activation)


def linear_head(seed=0):
    """Linear in every position's activation, with a weight of its own for each position."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(32, D_MODEL, VOCAB, generator=generator)
    return HeadRun(lambda activation: torch.einsum("btd,tdv->bv", activation, weight[: activation.shape[1]]))


def planted_problem(rng, n_examples, *, carriers=(3, 7)):
    """Examples whose answer only two features carry, by a saturating head that reads just their directions.

    Sixteen features have orthogonal decoders and change at random between clean and patch, the two carriers always
    upwards; the rest never change. Returns the snapshot's dictionary, the prompts and the head.
    """
    dictionary = make_dictionary(rng)
    directions = np.linalg.qr(rng.normal(size=(D_MODEL, D_MODEL)))[0].astype(np.float32)
    dictionary.decoder[:, :D_MODEL] = directions
    here = of_snapshot(dictionary, 8)
    examples = [replace(example, clean_token=1, patch_token=2) for example in make_examples("t", n_examples, rng)]
    offset = np.concatenate([[0], np.cumsum([len(example.clean_tokens) for example in examples])])
    delta = rng.normal(size=(offset[-1], N_FEATURES)).astype(np.float32)
    delta[:, D_MODEL:] = 0
    delta[:, carriers] = np.abs(delta[:, carriers])
    patch = rng.normal(size=(offset[-1], D_MODEL)).astype(np.float32)
    clean = patch + (delta @ here.decoder / np.float32(here.scale))
    read = torch.from_numpy(directions[list(carriers)].sum(axis=0) / 4)

    def head(activation):
        score = torch.tanh(activation @ read).sum(dim=1)
        return torch.nn.functional.one_hot(torch.tensor(1), VOCAB) * score[:, None]

    return (
        here,
        TaskPrompts(examples, offset, clean, patch, csr_array(delta), csr_array(delta.shape, dtype=np.float32)),
        HeadRun(head),
    )


def exact_problem(effects, *, n_examples=8, product=False, seed=4):
    """Examples whose metric changes by known amounts: effects maps features to logits, the same in every example.

    The decoder's first sixteen features are orthonormal and all change at the last position; the head adds up the
    coordinates of the carriers, or multiplies them (product), and reads nothing else. Patch coordinates of carriers are 0.
    """
    rng = np.random.default_rng(seed)
    dictionary = make_dictionary(rng)
    directions = np.linalg.qr(rng.normal(size=(D_MODEL, D_MODEL)))[0].astype(np.float32)
    dictionary.decoder[:, :D_MODEL] = directions
    dictionary.scale[:] = 1.0
    here = of_snapshot(dictionary, 8)
    examples = [replace(example, clean_token=1, patch_token=2) for example in make_examples("t", n_examples, rng, (3,))]
    offset = np.arange(n_examples + 1) * 3
    code = np.zeros((2, offset[-1], N_FEATURES), dtype=np.float32)  # clean and patch
    code[:, offset[1:] - 1, :D_MODEL] = rng.uniform(0.5, 1.0, size=(2, n_examples, D_MODEL))
    carriers = list(effects)
    code[:, :, carriers] = 0
    for feature, effect in effects.items():
        code[0, offset[1:] - 1, feature] = effect
    clean, patch = code @ here.decoder
    read = torch.from_numpy(directions[carriers])

    def head(activation):
        coordinates = activation[:, -1] @ read.T  # [example, carrier]
        score = coordinates.prod(dim=1) if product else coordinates.sum(dim=1)
        return torch.nn.functional.one_hot(torch.tensor(1), VOCAB) * score[:, None]

    return here, TaskPrompts(examples, offset, clean, patch, csr_array(code[0]), csr_array(code[1])), HeadRun(head)
