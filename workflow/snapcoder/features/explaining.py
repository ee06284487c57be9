"""What a language model is shown of a feature, and how its answers are read. Nothing is sent from here."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csc_array

from snapcoder.storage.activations import RowTable
from snapcoder.storage.tokens import TokenTable

BEFORE, AFTER = 20, 4  # tokens of a context that are shown around the marked one
LEVELS = 9  # activations are shown as whole numbers up to this

_TASK = (
    "You study one feature of a small language model: a direction that is active on some tokens. In each context the token "
    "in question is marked ⟦so⟧, with the feature's activation on it from 0 (silent) to 9 (its strongest). The model reads from left "
    "to right: only what stands before the marked token and the token itself can matter."
)
_EXPLAIN = (
    "Say in one sentence what the feature detects. Then judge how complex that is, from 1 to 5: 1, one token or word; 2, a few "
    "related tokens, or the token before; 3, a fixed phrase or pair of words; 4, syntax or a pattern over several words; "
    "5, a meaning that only the wider context gives. And judge how consistently the active contexts fit your sentence, "
    "from 1 (hardly) to 5 (all of them). "
    'Answer with JSON only: {"explanation": "…", "complexity": n, "consistency": n}'
)
_DETECT = (
    "A colleague says of this feature: {explanation}\nHere are new contexts without activations. For each, say whether the "
    'feature is active on the marked token. Answer with JSON only: {{"active": [true or false for each of the {n} contexts, in order]}}'
)


@dataclass(frozen=True)
class Case:
    """One feature's evidence: contexts as shown, and held-back ones with whether the feature is active on them."""

    feature: int
    shown: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    active: tuple[bool, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Judgement:
    """What the model said of a feature."""

    explanation: str
    complexity: int
    consistency: int


def sampled_features(timing: pd.DataFrame, examples: pd.DataFrame, *, most: int, rng: np.random.Generator) -> list[int]:
    """Return up to `most` features that have examples (0: all), one of each onset interval in turn, ascending."""
    known = set(examples["feature"])
    frame = timing[timing["feature"].isin(known) & (timing["class"] != "dead")]
    strata = [
        rng.permutation(group["feature"].to_numpy()) for _, group in frame.groupby("onset_hi", dropna=False, sort=True)
    ]
    longest = max((len(stratum) for stratum in strata), default=0)
    in_turn = [int(stratum[turn]) for turn in range(longest) for stratum in strata if turn < len(stratum)]
    return sorted(in_turn[:most] if most else in_turn)


def silent_contexts(
    chunks: Iterator[tuple[int, csc_array]],
    features: Sequence[int],
    rows: RowTable,
    tokens: TokenTable,
    texts: Sequence[str],
    *,
    count: int,
    rng: np.random.Generator,
) -> dict[int, list[str]]:
    """Return `count` marked contexts per feature on whose token it is silent, drawn at random.

    chunks: the first feature of each chunk of neighbours, and their shared code [row, feature of the chunk].
    """
    vocabulary, wanted = np.array(texts, dtype=object), set(features)
    found = {}
    for start, z in chunks:
        for column in range(z.shape[1]):
            if start + column not in wanted:
                continue
            on = z.indices[z.indptr[column] : z.indptr[column + 1]]
            silent = np.setdiff1d(rng.choice(len(rows), min(len(rows), 8 * (count + 1)), replace=False), on)
            drawn = rng.permutation(silent)[:count]
            found[start + column] = [_row_context(row, rows, tokens, vocabulary) for row in drawn]
    return found


def _row_context(row: int, rows: RowTable, tokens: TokenTable, vocabulary: np.ndarray) -> str:
    place = int(rows.position[row])
    words = list(vocabulary[tokens.tokens[rows.sequence[row]]])
    return marked(words, place)


def marked(words: Sequence[str], focus: int) -> str:
    """Return a context as text, with the token in question in double brackets."""
    before, after = "".join(words[max(0, focus - BEFORE) : focus]), "".join(words[focus + 1 : focus + 1 + AFTER])
    return f"{before}⟦{words[focus]}⟧{after}".replace("\n", "⏎")


def make_case(
    feature: int,
    examples: pd.DataFrame,
    silent: Sequence[str],
    *,
    top: int,
    quantile: int,
    held_out: int,
    rng: np.random.Generator,
) -> Case:
    """Return one feature's case from its rows of FEATURE_EXAMPLES and contexts where it is silent.

    Held back are the weakest of the top examples, and as many silent contexts, in random order; none when there are too few.
    """
    by_kind = {
        kind: examples[examples["kind"] == kind].sort_values("rank").to_dict("records") for kind in ("top", "quantile")
    }
    n_held = min(held_out, len(by_kind["top"]) // 2, len(silent) // 2)
    strong = by_kind["top"][: len(by_kind["top"]) - n_held]
    strongest = strong[0]["act"]
    active = [(_level(row["act"], strongest), _text(row)) for row in [*strong[:top], *by_kind["quantile"][:quantile]]]
    shown = [*active, *((0, text) for text in silent[n_held:])]
    held = [(_text(row), True) for row in by_kind["top"][len(strong) :]] + [(text, False) for text in silent[:n_held]]
    mixed = [held[index] for index in rng.permutation(len(held))]
    return Case(
        feature=feature,
        shown=tuple(f"[{level}] {text}" for level, text in shown),
        held_out=tuple(text for text, _ in mixed),
        active=tuple(on for _, on in mixed),
    )


def _text(row: Mapping[Any, Any]) -> str:
    return marked(list(row["tokens"]), int(row["focus"]))


def _level(act: float, strongest: float) -> int:
    return max(1, round(LEVELS * act / strongest))


def explain_messages(case: Case) -> list[dict[str, str]]:
    """Return the messages that ask what a feature detects."""
    return [
        {"role": "system", "content": _TASK},
        {"role": "user", "content": "\n".join([*case.shown, "", _EXPLAIN])},
    ]


def detect_messages(case: Case, explanation: str) -> list[dict[str, str]]:
    """Return the messages that ask which held-back contexts activate a feature, by its explanation alone."""
    asked = _DETECT.format(explanation=explanation, n=len(case.held_out))
    contexts = [f"{number}. {text}" for number, text in enumerate(case.held_out, start=1)]
    return [{"role": "system", "content": _TASK}, {"role": "user", "content": "\n".join([asked, *contexts])}]


def read_judgement(text: str) -> Judgement:
    """Read the answer to `explain_messages`; raise ValueError in one line when it is not as asked."""
    said = _json_object(text)
    explanation = said.get("explanation")
    if not isinstance(explanation, str) or not explanation.strip():
        raise ValueError("the answer has no explanation")
    levels = []
    for name in ("complexity", "consistency"):
        value = said.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value not in range(1, 6):
            raise ValueError(f"the answer's {name} is not a whole number from 1 to 5")
        levels.append(int(value))
    return Judgement(" ".join(explanation.split()), *levels)


def read_detection(text: str, *, n: int) -> list[bool]:
    """Read the answer to `detect_messages`; raise ValueError in one line when it is not as asked."""
    active = _json_object(text).get("active")
    if not isinstance(active, list) or len(active) != n or not all(isinstance(value, bool) for value in active):
        raise ValueError(f"the answer is not a list of {n} times true or false")
    return active


def balanced_accuracy(said: Sequence[bool], truth: Sequence[bool]) -> float:
    """Return the mean of the shares of active and of silent contexts that were told right; chance is 0.5."""
    told, active = np.array(said, dtype=bool), np.array(truth, dtype=bool)
    return float((told[active].mean() + (~told[~active]).mean()) / 2)


def _json_object(text: str) -> dict[str, Any]:
    """Return the JSON object inside an answer, which may stand in a code block or between sentences."""
    start, stop = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[start : stop + 1]) if start >= 0 else None
    except json.JSONDecodeError as error:
        raise ValueError(f"the answer is not JSON ({error.msg})") from error
    if not isinstance(found, dict):
        raise ValueError("the answer holds no JSON object")
    return found
