"""Indirect-object identification: of two persons, the one who does not act again is the one that is acted upon.

"When A and B went to the field, B gave the bread to" → A (after Wang et al. 2211.00593). The patch prefix lets the
other one act, and nothing else differs.
"""

from collections.abc import Mapping
from itertools import combinations

from snapcoder.tasks.files import Candidate
from snapcoder.tasks.questions import both_texts

TASK = "ioi"
NAMES = (
    "Mary", "John", "Tom", "James", "Peter", "Paul", "Mark", "Luke", "Sarah", "Anna", "Jack", "Alice", "Bob", "David",
    "Daniel", "Michael", "George", "Henry", "Edward", "Richard", "William", "Robert", "Thomas", "Kate", "Lucy",
    "Moses", "Jacob", "Joseph", "Aaron", "Saul", "Solomon", "Joshua", "Isaac", "Abraham", "Romeo", "Antony", "Brutus",
)  # fmt: skip
PERSONS = ("the king", "the man", "the son", "the woman", "the child", "the servant", "the prince", "the queen")
"""Where the vocabulary has no names: persons whose noun is one token."""

TEMPLATES = (
    "When {first} and {second} went to the {place},{actor} gave the {thing} to{the}",
    "Then {first} and {second} came to the {place}, and{actor} gave the {thing} to{the}",
    "After {first} and {second} were in the {place},{actor} brought the {thing} to{the}",
    "And {first} and {second} were near the {place}, and{actor} sent the {thing} to{the}",
)
PLACES = ("house", "city", "field", "water")
THINGS = ("bread", "book", "water", "gold")


def name_candidates(vocabulary: Mapping[str, int], *, space: str, largest: int) -> tuple[list[Candidate], str]:
    """Return the candidates, and which names were found, for messages.

    `vocabulary` maps the tokenizer's pieces to ids; only names that with a leading space are single tokens are used,
    or, with fewer than four of them, persons whose noun is. Every pair of names comes in both orders and with either
    one acting: as often the first (BABA) as the second (ABBA), so that a guess from order alone is right half of the
    time. Not more than `largest` candidates, evenly from all pairs and templates.
    """
    names = [name for name in NAMES if space + name in vocabulary]
    persons = [person for person in PERSONS if space + person.split()[-1] in vocabulary]
    found = names if len(names) >= 4 or len(names) >= len(persons) else persons
    note = "names of single tokens: " + (", ".join(found) or "none")
    questions = [(index, template, pair) for index, template in enumerate(TEMPLATES) for pair in combinations(found, 2)]
    stride = max(1, -(-4 * len(questions) // largest))
    candidates: list[Candidate] = []
    for number, (index, template, pair) in enumerate(questions[::stride]):
        filled = template.replace("{place}", PLACES[number % len(PLACES)])
        filled = filled.replace("{thing}", THINGS[number // len(PLACES) % len(THINGS)])
        for first, second in (pair, pair[::-1]):
            candidates += _question(filled, first, second, f"{pair[0]}/{pair[1]}/{index}")
    return candidates, note


def _question(template: str, first: str, second: str, cluster: str) -> list[Candidate]:
    """Return the question with the second and with the first one acting."""
    *article, answer_first = first.split()
    *_, answer_second = second.split()
    the = "".join(f" {word}" for word in article)
    prefixes = [template.format(first=first, second=second, actor=f" {actor}", the=the) for actor in (second, first)]
    return both_texts(TASK, ("ABBA", "BABA"), prefixes, (f" {answer_first}", f" {answer_second}"), cluster)
