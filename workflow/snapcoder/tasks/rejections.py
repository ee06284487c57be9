"""Why a candidate is no example: the names of the reasons, and the rows that count them."""

from collections.abc import Iterable, Mapping

import pandas as pd

NOT_ONE_TOKEN = "answer_not_one_token"
LENGTHS_DIFFER = "lengths_differ"
MERGED_AT_JOIN = "merged_at_join"
CONTEXT_TOO_LONG = "context_too_long"
SAME_ANSWER = "same_answer"
DUPLICATE = "duplicate"
UNSEEN = "token_unseen"
NO_PARTNER = "no_partner"
NO_BEGINNING = "no_shared_beginning"

REASONS: Mapping[str, str] = {
    NOT_ONE_TOKEN: "an answer is not one token, or a pair differs in more than one token",
    LENGTHS_DIFFER: "the prefixes have different numbers of tokens",
    MERGED_AT_JOIN: "a token spans the join of prefix and answer",
    CONTEXT_TOO_LONG: "more tokens than the context holds",
    SAME_ANSWER: "both answers, or both texts, are the same tokens",
    DUPLICATE: "the task has the same tokens already",
    UNSEEN: "a token does not occur in the held-out text",
    NO_BEGINNING: "a pair differs in its first token, so no beginning asks for the next",
    NO_PARTNER: "no other text makes a pair with it",
}


def rejection_rows(rejected: Iterable[tuple[str, Mapping[str, int]]]) -> pd.DataFrame:
    """Return TASK_REJECTIONS rows from each task's counts of reasons; a reason that never occurred has no row."""
    rows = [
        {"task": task, "reason": reason, "n": count}
        for task, counts in rejected
        for reason, count in counts.items()
        if count
    ]
    return pd.DataFrame(rows, columns=["task", "reason", "n"])
