"""Settings of the effective context length of features."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class ContextSettings:
    """How many tokens of context a feature needs: the snapshots are run again on cut contexts (SCIENCE 6.10)."""

    examples: int = setting(5, "Strongest contexts of each feature that are cut.", unit="examples", minimum=1)
    suffixes: tuple[int, ...] = setting(
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48),
        "Lengths of the suffixes that are run, the shortest first; a context that none of them holds for needs all of its tokens.",
        unit="tokens",
        minimum=1,
        unique=True,
    )
    share: float = setting(
        0.9, "A suffix is long enough when it keeps this share of the activation.", minimum=0.05, maximum=1.0
    )
    front: str = setting(
        "end_of_text",
        "What stands before a cut context, so that its first token is no attention sink: the end-of-text token, as if a document began here; the sequence's own first token; or nothing.",
        choices=("end_of_text", "sequence_start", "none"),
    )
    max_features: int = setting(
        1000, "Most features measured, drawn at random from those that fire; 0: all.", unit="features", minimum=0
    )
    memory_gb: float = setting(
        2.0,
        "Memory for the codes while examples are chosen, and for the snapshots: when all of them fit they are loaded once, else once per length.",
        unit="GB",
        minimum=0.0,
    )
    seed: int = setting(0, "Seed of the choice of features.", minimum=0)
