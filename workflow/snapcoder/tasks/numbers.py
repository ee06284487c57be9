"""Greater-than: a span of years ends after it began ("from the year 1732 to the year 17" → a later one).

After Hanna et al. (2305.00586). Here every question has two answers and two prefixes: one starts between the two
answers, so that only the larger can end it; the other starts below both, where the smaller is nearer. Between the same
two numbers each is right once, so a model that does not look at the start is right exactly half of the time, whatever
numbers it likes.
"""

from snapcoder.tasks.files import Candidate
from snapcoder.tasks.questions import both_texts

TASK = "greater_than"
STYLES = ("years", "decades", "words")
"""years: two digits in one token. decades: the same question for tokenizers with a token per digit, which ask for the
next digit. words: numbers from one to twelve, for vocabularies with number words but no digits in the text."""

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NOUNS = ("war", "reign", "feast", "work")
_FRAMES = ("It took {} or", "It was from {} to", "They were between {} and", "There were not {} but")


def number_candidates(style: str) -> list[Candidate]:
    """Return the candidates of one of `STYLES`; which style survives is up to the tokenizer (`tokenize_candidates`)."""
    if style == "years":
        templates = [f"The {noun} was from the year 17{{}} to the year 17" for noun in _NOUNS]
        found = [
            _question(templates[(low + span) % len(templates)], [f"{number:02d}" for number in numbers], "")
            for span in (4, 6, 9)
            for low in range(10, 100 - 3 * span)
            for numbers in [_spread(low, span)]
        ]
    elif style == "decades":
        found = [
            _question(
                f"The {_NOUNS[low % len(_NOUNS)]} was from the year 1{century}{{}}5 to the year 1{century}",
                [str(number) for number in _spread(low, 1)],
                "",
            )
            for century in range(1, 10)
            for low in range(1, 7)
        ]
    else:
        found = [
            _question(frame, [WORDS[number] for number in _spread(low, span)], " ")
            for frame in _FRAMES
            for span in (1, 2, 3)
            for low in range(len(WORDS) - 3 * span)
        ]
    return [candidate for pair in found for candidate in pair]


def _spread(low: int, span: int) -> tuple[int, int, int, int]:
    """Return the start below both answers, the smaller answer, the start between them, and the larger answer."""
    return low, low + span, low + 2 * span, low + 3 * span


def _question(template: str, numbers: list[str], space: str) -> list[Candidate]:
    """Return the question from the start between the answers and from the one below both."""
    below, smaller, between, larger = numbers
    prefixes = template.format(between), template.format(below)
    answers = space + larger, space + smaller
    return both_texts(TASK, ("greater", "nearer"), prefixes, answers, f"{template}: {below}, {between}")
