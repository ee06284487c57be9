"""Subject–verb agreement from templates, after the `simple`, `nounpp` and `within_rc` sets of sparse feature circuits.

Which candidates survive is up to the tokenizer (see `files.tokenize_candidates`): with a small vocabulary mostly
pronouns, with a large one the nouns too.
"""

from snapcoder.tasks.files import Candidate
from snapcoder.tasks.questions import both_texts

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
_HEADS = (
    "the man", "the men", "the king", "the kings", "the word", "the words", "the city", "the cities", "the day",
    "the days", "the son", "the sons", "the house", "the houses", "the servant", "the servants",
)  # fmt: skip
_CLAUSE_OPENINGS = ("And", "For")


def template_candidates() -> list[Candidate]:
    """Return the candidates of sva_simple, sva_nounpp and sva_within_rc, each in both directions, in a fixed order.

    within_rc: the verb agrees with the subject of its relative clause, and the head noun before it misleads as often
    as it helps: both directions follow every head, and heads come in both numbers.
    """
    candidates = []
    for opening in _OPENINGS:
        for subjects in _SUBJECTS:
            for verbs in _VERBS:
                candidates += _both("sva_simple", opening, subjects, "", verbs)
                for phrase in _PHRASES:
                    candidates += _both("sva_nounpp", opening, subjects, f" {phrase}", verbs)
    for opening in _CLAUSE_OPENINGS:
        for head in _HEADS:
            for subjects in _SUBJECTS:
                for verbs in _VERBS:
                    candidates += _both("sva_within_rc", f"{opening} {head} that", subjects, "", verbs, head)
    return candidates


def _both(
    task: str, opening: str, subjects: tuple[str, str], phrase: str, verbs: tuple[str, str], head: str = ""
) -> list[Candidate]:
    prefixes = [f"{opening} {subject}{phrase}" for subject in subjects]
    case = f"{subjects[0]}/{subjects[1]}{phrase}" + (f" after {head}" if head else "")
    cluster = f"{case}:{verbs[0]}/{verbs[1]}"  # openings and directions repeat one question, they ask no new one
    return both_texts(task, (case, case), prefixes, verbs, cluster)
