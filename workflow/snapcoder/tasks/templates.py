"""Subject–verb agreement from templates, after the `simple` and `nounpp` sets of sparse feature circuits.

Which candidates survive is up to the tokenizer (see `files.tokenize_candidates`): with a small vocabulary mostly
pronouns, with a large one the nouns too.
"""

from snapcoder.tasks.files import Candidate

_SUBJECTS = (
    ("he", "they"), ("she", "they"), ("the man", "the men"), ("the king", "the kings"), ("the son", "the sons"),
    ("the child", "the children"), ("the brother", "the brothers"), ("the servant", "the servants"),
    ("this", "these"), ("the woman", "the women"), ("the city", "the cities"), ("the word", "the words"),
)  # fmt: skip
_OPENINGS = ("And when", "For", "But", "Now", "Then", "If", "And as", "Because", "And", "So")
_VERBS = ((" is", " are"), (" was", " were"), (" has", " have"))
_PHRASES = (
    "with him", "with them", "of the city", "of the cities", "in the house", "in the houses", "from the land",
    "from the sons of Israel", "with the king", "with the kings", "by the sea", "before all the people",
    "near the man", "near the men", "among you", "of his father",
)  # fmt: skip


def template_candidates() -> list[Candidate]:
    """Return the candidates of both tasks, sva_simple and sva_nounpp, each in both directions, in a fixed order."""
    candidates = []
    for opening in _OPENINGS:
        for subjects in _SUBJECTS:
            for verbs in _VERBS:
                candidates += _both("sva_simple", opening, subjects, "", verbs)
                for phrase in _PHRASES:
                    candidates += _both("sva_nounpp", opening, subjects, f" {phrase}", verbs)
    return candidates


def _both(task: str, opening: str, subjects: tuple[str, str], phrase: str, verbs: tuple[str, str]) -> list[Candidate]:
    prefixes = [f"{opening} {subject}{phrase}" for subject in subjects]
    case = f"{subjects[0]}/{subjects[1]}{phrase}"
    cluster = f"{case}:{verbs[0]}/{verbs[1]}"  # openings and directions repeat one question, they ask no new one
    return [
        Candidate(task, "template", case, prefixes[0], prefixes[1], verbs[0], verbs[1], cluster),
        Candidate(task, "template", case, prefixes[1], prefixes[0], verbs[1], verbs[0], cluster),
    ]
