"""Settings of what connects features with abilities."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class CarrierSettings:
    """Which features carry a task, and since when (RelIE, lead and lag, hand-overs)."""

    top: int = setting(
        20, "A carrier is among this many largest absolute attributions at some snapshot.", unit="features", minimum=1
    )
    bootstrap: int = setting(1000, "Bootstrap draws over features behind each interval.", unit="draws", minimum=100)
    permutations: int = setting(
        2000, "Permutations of onsets among features alike behind each p-value.", unit="permutations", minimum=100
    )
    seed: int = setting(0, "Seed of bootstraps and permutations.", minimum=0)
