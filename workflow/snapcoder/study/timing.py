"""Settings of onset distributions, their tests, and how far onsets depend on thresholds and snapshots."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class TimingSettings:
    """When features appear, and whether another threshold or other snapshots would say the same (SCIENCE 6.1, 6.11, 6.12)."""

    sigmoid_r2: float = setting(
        0.8, "A sigmoid onset is reported from this R² of the fit on.", minimum=0.0, maximum=1.0
    )
    alpha_grid: tuple[float, ...] = setting(
        (0.1, 0.25, 0.5),
        "Values of evolution.alpha at which onsets and classes are computed again.",
        minimum=0.01,
        maximum=1.0,
        unique=True,
    )
    consecutive_grid: tuple[int, ...] = setting(
        (1, 2, 3),
        "Values of evolution.consecutive at which they are.",
        unit="snapshots",
        minimum=1,
        unique=True,
    )
    thinning: tuple[int, ...] = setting(
        (2, 3),
        "Every n-th snapshot is kept, at each of n phases, and onsets and classes are computed again.",
        unit="snapshots",
        minimum=2,
        unique=True,
    )
    shuffles: int = setting(
        200, "Random orders of the snapshots in which histories are read again.", unit="orders", minimum=20
    )
    heldout_rows: int = setting(
        4096,
        "Held-out rows on which interpolated decoders are scored, and training rows that the principal components "
        "beside them are fitted on.",
        unit="rows",
        minimum=64,
    )
    null_draws: int = setting(
        2000, "Monte-Carlo draws behind the test of an onset distribution against each null.", unit="draws", minimum=100
    )
    bootstrap: int = setting(200, "Bootstrap draws behind each interval.", unit="draws", minimum=20)
    seed: int = setting(0, "Seed of bootstraps and nulls.", minimum=0)
