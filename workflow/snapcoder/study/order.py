"""Settings of the tests of order, and of formation in the activations."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class OrderSettings:
    """What comes before what (SCIENCE 6.12): n-gram statistics before features, types in turn, simple before complex."""

    permutations: int = setting(10_000, "Permutations behind each p-value.", unit="permutations", minimum=100)
    bootstrap: int = setting(
        2000, "Bootstrap draws over features behind each interval (BCa needs some thousand).", unit="draws", minimum=100
    )
    tolerance: tuple[float, ...] = setting(
        (0.05, 0.1, 0.2),
        "A distance to an n-gram model has settled when it has made all but this share of its fall from the first snapshot to its lowest; the smallest decides, the others show how much hangs on it.",
        minimum=0.0,
        maximum=0.5,
        unique=True,
    )
    smallest_effect: float = setting(
        0.2,
        "Rank correlations and differences of probability below this count as none: a claim is not supported, rather than undecidable, when its interval ends below.",
        minimum=0.0,
        maximum=1.0,
    )
    seed: int = setting(0, "Seed of permutations and bootstraps.", minimum=0)


@dataclass(frozen=True)
class FormationSettings:
    """When features form in the activations themselves, without decoder or norm (after SAE-Track, arXiv 2412.17626)."""

    top: int = setting(25, "Strongest rows of a feature in each half of the documents.", unit="rows", minimum=5)
    permutations: int = setting(1000, "Random exchanges of rows and their controls.", unit="permutations", minimum=100)
    directions: int = setting(
        100, "Random directions whose strongest rows show what choosing alone does.", unit="directions", minimum=10
    )
    memory_gb: float = setting(
        1.0,
        "Codes of as many features as fit are held while their strongest rows are looked for; the file is read once for each such chunk.",
        unit="GB",
        minimum=0.01,
    )
    seed: int = setting(0, "Seed of the halves, controls, exchanges and directions.", minimum=0)
