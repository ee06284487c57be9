"""Classes of predicted tokens, by rule, from the tokens themselves, the tokenizer and the training text.

A family sorts the scored predictions into classes by their target; a target that no class of a family fits is in none.

    all         every target
    form        other (end of text, part of a character, no text) · whitespace (nothing else) · digit (holds one) ·
                punctuation (no letter) · word_continuation (no space before it, and the token before ends in a letter) ·
                word_start; the first rule that holds
    case        of word starts: capitalised_start (the first letter is upper case) · lowercase_start
    frequency   bands of the tokens sorted by their probability under the unigram model: those that make up the first
                quarter of the text, the second, the third, the next fifth, the rarest twentieth
    repetition  repeated_bigram (target and the token before it stood side by side earlier in the sequence) ·
                repeated_token (only the target occurred earlier) · first_occurrence
    novelty     new_bigram (target never follows the token before it in the training text) · new_trigram (it does, but
                not after the two tokens before it) · seen_trigram; needs two tokens of context in the document
    position    how many tokens of the sequence precede the target, in bands that double
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from snapcoder.ngrams import NgramModel

FREQUENCY_EDGES = (0.25, 0.5, 0.75, 0.95)  # of the text's tokens, from the most frequent down
_FORMS = ("word_start", "word_continuation", "punctuation", "digit", "whitespace", "other")
_SPELLED_BYTES = re.compile(r"<0x[0-9A-F]{2}( 0x[0-9A-F]{2})*>|<id \d+>")


@dataclass(frozen=True)
class TokenClasses:
    """One family: the names of its classes, and the class of each prediction [row], −1 for none."""

    family: str
    names: tuple[str, ...]
    label: np.ndarray


def token_classes(
    tokens: np.ndarray,
    doc: np.ndarray,
    at: tuple[np.ndarray, np.ndarray],
    *,
    ngrams: NgramModel,
    texts: Sequence[str],
    end_of_text: int,
) -> list[TokenClasses]:
    """Return every family over the predictions made after the tokens at `at` (sequence [row], position [row]).

    tokens, doc [sequence, position]; texts: text of every token by id, as `token_strings` gives it.
    """
    tokens = tokens.astype(np.int64)
    sequence, position = at
    previous, target = tokens[sequence, position], tokens[sequence, position + 1]
    form, capital = _forms(previous, target, texts, end_of_text)
    starts = form == _FORMS.index("word_start")
    bands = int(np.log2(max(tokens.shape[1] - 1, 1))) + 1
    return [
        TokenClasses("all", ("all",), np.zeros(len(target), dtype=np.int64)),
        TokenClasses("form", _FORMS, form),
        TokenClasses("case", ("capitalised_start", "lowercase_start"), np.where(starts, np.where(capital, 0, 1), -1)),
        TokenClasses("frequency", _frequency_names(), frequency_bands(ngrams.unigram)[target]),
        TokenClasses(
            "repetition",
            ("first_occurrence", "repeated_token", "repeated_bigram"),
            _repetition(tokens, sequence, position),
        ),
        TokenClasses(
            "novelty", ("seen_trigram", "new_trigram", "new_bigram"), _novelty(tokens, doc, sequence, position, ngrams)
        ),
        TokenClasses(
            "position",
            tuple(_band_name(band, tokens.shape[1] - 1) for band in range(bands)),
            np.floor(np.log2(position + 1)).astype(np.int64),
        ),
    ]


def _forms(
    previous: np.ndarray, target: np.ndarray, texts: Sequence[str], end_of_text: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the form of each target [row], and whether its first letter is upper case [row]."""
    letters = [next((character for character in text if character.isalpha()), "") for text in texts]
    empty = np.array(
        [not text or index == end_of_text or bool(_SPELLED_BYTES.fullmatch(text)) for index, text in enumerate(texts)]
    )
    ends_in_letter = np.array([text[-1:].isalpha() for text in texts]) & ~empty
    joined = np.array([not text[:1].isspace() for text in texts])[target] & ends_in_letter[previous]
    rules = [
        empty[target],
        np.array([text.isspace() for text in texts])[target],
        np.array([any(character.isdigit() for character in text) for text in texts])[target],
        np.array([not letter for letter in letters])[target],
        joined,
    ]
    order = [_FORMS.index(name) for name in ("other", "whitespace", "digit", "punctuation", "word_continuation")]
    form = np.select(rules, order, default=_FORMS.index("word_start"))
    return form, np.array([letter.isupper() for letter in letters])[target]


def frequency_bands(unigram: np.ndarray) -> np.ndarray:
    """Return the band of each token [vocab]: a token is in the band where its share of the text begins."""
    order = np.argsort(-unigram, kind="stable")
    begins = np.cumsum(unigram[order]) - unigram[order]
    band = np.empty(len(unigram), dtype=np.int64)
    band[order] = np.searchsorted(FREQUENCY_EDGES, begins, side="right")
    return band


def _frequency_names() -> tuple[str, ...]:
    edges = [0, *(round(100 * edge) for edge in FREQUENCY_EDGES), 100]
    return tuple(f"frequency_{low:02d}_{high:02d}" for low, high in pairwise(edges))


def _repetition(tokens: np.ndarray, sequence: np.ndarray, position: np.ndarray) -> np.ndarray:
    vocab = int(tokens.max()) + 1
    token_key = np.arange(len(tokens))[:, None] * vocab + tokens
    seen_token = seen_before(token_key)
    seen_pair = seen_before(token_key[:, :-1] * vocab + tokens[:, 1:])
    return np.where(seen_pair[sequence, position], 2, np.where(seen_token[sequence, position + 1], 1, 0))


def seen_before(key: np.ndarray) -> np.ndarray:
    """Return which keys [row, column] occur earlier in reading order, of the same shape."""
    _, first = np.unique(key, return_index=True)
    seen = np.ones(key.size, dtype=bool)
    seen[first] = False
    return seen.reshape(key.shape)


def _novelty(
    tokens: np.ndarray, doc: np.ndarray, sequence: np.ndarray, position: np.ndarray, ngrams: NgramModel
) -> np.ndarray:
    before = np.maximum(position - 1, 0)
    inside = (position > 0) & (doc[sequence, before] == doc[sequence, position])
    previous, target = tokens[sequence, position], tokens[sequence, position + 1]
    pairs, _, _ = ngrams.order("bigram").lookup(previous, target)
    triples, _, _ = ngrams.order("trigram").lookup(tokens[sequence, before] * ngrams.vocab_size + previous, target)
    return np.where(inside, np.where(pairs == 0, 2, np.where(triples == 0, 1, 0)), -1)


def _band_name(band: int, largest: int) -> str:
    low, high = 2**band, min(2 ** (band + 1) - 1, largest)
    return f"position_{low}" if low == high else f"position_{low}_{high}"
