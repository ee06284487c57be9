"""The induction task: random tokens that come a second time, so that only what followed before tells what follows."""

import numpy as np

from snapcoder.storage.task_examples import Example

BLOCK = 12
"""Tokens of the block that is repeated."""

REPEATS = (4, 6, 8)
"""Lengths of the second copy; few, because only prompts of one length share a forward pass."""


def make_induction(
    usable: np.ndarray, *, n_examples: int, context_length: int, rng: np.random.Generator
) -> list[Example]:
    """Make examples … A B … A → B; the patch prefix has another B′ in the first place, and nothing else differs.

    A block of distinct tokens, drawn uniformly from `usable` (token ids), is followed by its own beginning; the answer
    is what came next in the block. B and B′ are drawn alike, so guessing between them is right half of the time.
    Texts are left empty. Returns no examples when there are too few usable tokens or the context is too short.
    """
    repeats = [repeat for repeat in REPEATS if BLOCK + repeat <= context_length]
    if not repeats or len(usable) < BLOCK + 1:
        return []
    examples = []
    for _ in range(n_examples):
        drawn = rng.choice(usable, size=BLOCK + 1, replace=False)
        clean, other = drawn[:BLOCK], int(drawn[BLOCK])
        repeat = int(rng.choice(repeats))
        patch = clean.copy()
        patch[repeat] = other
        examples.append(
            Example(
                task="induction",
                kind="induction",
                case=f"repeat {repeat} of {BLOCK}",
                clean_prefix="",
                patch_prefix="",
                clean_answer="",
                patch_answer="",
                clean_tokens=tuple(np.concatenate([clean, clean[:repeat]]).tolist()),
                patch_tokens=tuple(np.concatenate([patch, clean[:repeat]]).tolist()),
                clean_token=int(clean[repeat]),
                patch_token=other,
            )
        )
    return examples
