"""What attribution costs, in passes through the model and in time: `python benchmarks/attribution_cost.py`.

Passes are counted where they happen: every example whose logits are computed, and every one whose gradient is. Time is
compared with bare passes: forward and backward of the same examples through the whole model, in the same batches.
"""

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from snapcoder.attribution.continuation import Continuation, continue_from
from snapcoder.attribution.contributions import attribute
from snapcoder.attribution.exact import exact_effects, verified_features
from snapcoder.attribution.gradients import example_batches
from snapcoder.attribution.of_task import Subject, task_gradients
from snapcoder.attribution.prompt_codes import of_snapshot
from snapcoder.attribution.rows import attribution_rows
from snapcoder.attribution.task_prompts import SnapshotPrompts
from snapcoder.storage.dictionaries import Dictionary
from snapcoder.storage.task_examples import Example
from snapcoder.study.analysis import TaskSettings
from snapcoder.tasks.prompts import capture_prompts
from snapcoder.tasks.scoring import answer_tokens, prefix_tokens

TASK, VOCAB = "benchmark", 2048


@dataclass
class Passes:
    """Examples that went forward without a gradient, and forward and backward."""

    forward: int = 0
    both: int = 0


def counting(run: Continuation, passes: Passes) -> Continuation:
    """Make a continuation count what goes through it."""
    inner = run.last_logits

    def last_logits(tokens: torch.Tensor, activation: torch.Tensor) -> torch.Tensor:
        logits = inner(tokens, activation)  # type: ignore[arg-type]
        passes.forward += len(activation)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: backward(len(gradient)))
        return logits

    def backward(n: int) -> None:
        passes.forward -= n
        passes.both += n

    run.last_logits = last_logits  # type: ignore[method-assign, assignment]
    return run


def language_model(options: argparse.Namespace, seed: int) -> PreTrainedModel:
    """Return a random GPT-NeoX that stands for one snapshot."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=VOCAB,
        hidden_size=options.width,
        intermediate_size=4 * options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.width // 32,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    config._attn_implementation = "eager"
    return GPTNeoXForCausalLM(config).eval().requires_grad_(False)


def random_examples(n: int, length: int) -> list[Example]:
    """Return examples of random tokens."""
    rng = np.random.default_rng(0)
    prefixes = rng.integers(0, VOCAB, size=(n, 2, length)).tolist()
    answers = [rng.choice(VOCAB, size=2, replace=False).tolist() for _ in range(n)]
    return [
        Example(TASK, "file", "", "", "", "", "", tuple(clean), tuple(patch), *pair)
        for (clean, patch), pair in zip(prefixes, answers, strict=True)
    ]


def random_dictionary(width: int, n_features: int, *, layer: int) -> Dictionary:
    """Return a dictionary of one snapshot with random unit directions, a few in a hundred of them active."""
    rng = np.random.default_rng(1)
    decoder = rng.normal(size=(1, n_features, width)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=2, keepdims=True)
    return Dictionary(
        encoder=np.ascontiguousarray(decoder.transpose(0, 2, 1)),
        decoder=decoder,
        encoder_bias=np.zeros(n_features, dtype=np.float32),
        decoder_bias=np.zeros((1, width), dtype=np.float32),
        threshold=np.full(n_features, 2.2, dtype=np.float32),
        scale=np.ones(1, dtype=np.float32),
        center=np.zeros((1, width), dtype=np.float32),
        steps=(0,),
        gate="per_snapshot",
        arm="batch_topk",
        layer=layer,
    )


def snapshot_prompts(
    model: PreTrainedModel, examples: list[Example], options: argparse.Namespace, layer: int
) -> SnapshotPrompts:
    """Return the prompts of one snapshot, scaled as the dictionary wants them; all examples rank."""
    lines = np.arange(len(examples))
    own = capture_prompts(model, examples, lines, step=0, layer=layer, examples_sha256="")
    dictionary = random_dictionary(options.width, options.features, layer=layer)
    dictionary.scale[:] = np.sqrt(options.width / (own.clean**2).sum(axis=1).mean())
    return SnapshotPrompts(dictionary, of_snapshot(dictionary, 0), examples, {TASK: (lines, lines[:0])}, [own], own)


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def bare_passes(model: PreTrainedModel, subject: Subject) -> None:
    """Run every example forward and backward through the whole model, once."""
    for _, _, batch in example_batches(subject.prompts, subject.settings.batch_tokens):
        embedded = model.get_input_embeddings()(prefix_tokens(batch, "clean", model.device)).requires_grad_(True)
        logits = model(inputs_embeds=embedded, use_cache=False, logits_to_keep=1).logits[:, -1]
        clean, patch = answer_tokens(batch, model.device)
        difference = logits.gather(1, clean[:, None]) - logits.gather(1, patch[:, None])
        torch.autograd.grad(difference.sum(), embedded)


def attribute_all(subject: Subject) -> None:
    """Attribute as the step does, up to the rows of the table, without the check against exact effects."""
    gradients = task_gradients(subject)
    for kind in subject.kinds:
        found = attribute(subject.prompts, subject.snapshot.here, gradients[kind], subject.paths[kind[1]])
        attribution_rows(
            found,
            gradients[kind],
            np.arange(len(found.error)),
            exact={},
            flips=subject.settings.sign_flips,
            bootstrap=subject.settings.bootstrap,
            rng=subject.rng("cost"),
            names={},
        )


def verify(subject: Subject) -> None:
    """Compute the exact effects of as many features as the step does."""
    settings, prompts, here = subject.settings, subject.prompts, subject.snapshot.here
    size = np.asarray(abs(prompts.delta).sum(axis=0)).ravel()
    rng = subject.rng("cost")
    features = verified_features(size, top=settings.exact_top, random=settings.exact_random, rng=rng)
    moved = prompts.delta[:, features].toarray()
    exact_effects(subject.run, prompts, moved, here.decoder[features] / here.scale, batch_tokens=settings.batch_tokens)


def measure(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Return seconds and passes per example of one snapshot."""
    model, layer = language_model(options, seed), options.layers // 2 - 1
    examples = random_examples(options.examples, options.tokens)
    snapshot = snapshot_prompts(model, examples, options, layer)
    settings = TaskSettings(attributions=("atp_corrupted",), ig_steps=options.points, ig_tolerance=0.0)
    with continue_from(model, layer=layer) as run:
        passes = Passes()
        subject = Subject(counting(run, passes), snapshot, TASK, settings, np.zeros(options.features))
        n_codes = seconds(lambda: (subject.prompts, subject.paths))
        attributing = seconds(lambda: attribute_all(subject))
        counted = (passes.both / len(examples), passes.forward / len(examples))
        verifying = seconds(lambda: verify(subject))
        checks = passes.forward / len(examples) - counted[1]
    bare_passes(model, subject)  # warm
    bare = min(seconds(lambda: bare_passes(model, subject)) for _ in range(options.repeats))
    return {
        "both": counted[0], "forward": counted[1], "checks": checks, "bare": bare, "attributing": attributing,
        "codes": n_codes, "verifying": verifying, "active": subject.prompts.clean_code.nnz / len(subject.prompts.clean),
    }  # fmt: skip


def report(options: argparse.Namespace, rows: list[dict[str, float]]) -> str:
    """Return the page."""
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    passes = mean["both"] + mean["forward"] / 3
    lines = [
        "# What attribution costs",
        "",
        f"`python benchmarks/attribution_cost.py`: {options.examples} examples of {options.tokens} tokens, "
        f"{options.points} points of integrated gradients and attribution patching, at each of {options.snapshots} "
        f"snapshots (random GPT-NeoX of {options.layers} blocks, width {options.width}, vocabulary {VOCAB}, read after "
        f"half of its blocks; {options.features} features, {mean['active']:.0f} active per token). "
        f"{platform.machine()}, {torch.get_num_threads()} threads.",
        "Snapshots are jobs of their own, so that 32 of them cost 32 times as much. A pass: one example forward and backward; "
        "a forward pass alone counts as a third. Passes of attribution run only the blocks above the dictionary; the bare "
        "passes, forward and backward of the same examples in the same batches, run all of them.",
        "",
        "| per example and snapshot | forward and backward | forward only | passes | seconds of all examples | in bare passes |",
        "|---|---|---|---|---|---|",
        f"| bare pass | 1 | 0 | 1 | {mean['bare']:.2f} | 1 |",
        f"| attribution, with rows, errors and p-values | {mean['both']:g} | {mean['forward']:g} | {passes:.2f} | "
        f"{mean['attributing']:.2f} | {mean['attributing'] / mean['bare']:.1f} |",
        f"| codes of the prompts and paths | 0 | 0 | 0 | {mean['codes']:.2f} | {mean['codes'] / mean['bare']:.1f} |",
        f"| exact effects of {TaskSettings().exact_top + TaskSettings().exact_random} features | 0 | "
        f"{mean['checks']:.1f} | {mean['checks'] / 3:.1f} | {mean['verifying']:.2f} | "
        f"{mean['verifying'] / mean['bare']:.1f} |",
        "",
        f"Bound: 12 passes. Attribution takes {passes:.2f}, and the time of {mean['attributing'] / mean['bare']:.1f} bare "
        "passes. Exact effects are a check beside it; features that do not move on an example are not run.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--snapshots", type=int, default=3)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("attribution_cost.md"))
    options = parser.parse_args()
    text = report(options, [measure(options, seed) for seed in range(options.snapshots)])
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
