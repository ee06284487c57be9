"""Do the intervals of phase boundaries hold what they promise? `python benchmarks/segment_coverage.py`.

Writes benchmarks/segment_coverage.md. Curves with known breaks, and curves without any, are simulated and given to the very
functions that the step phase_segments calls.
"""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snapcoder.phases.boundaries import boundaries, resampled_places
from snapcoder.phases.clocks import Clock, clocks
from snapcoder.phases.one_process import increment_p, smooth_p
from snapcoder.phases.segmentation import best_cuts, criteria, standardise

logger = logging.getLogger(__name__)

STEPS = np.array((0, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1408, 2000))
NOISES = (1.0, 1.5, 3.0)  # mean size of a jump, in standard deviations of a snapshot about its segment
MEASURED = 0.3  # share of that scatter's variance that documents and features explain: what resampling sees
OPTIONS = {"max_segments": 4, "min_size": 2}


@dataclass(frozen=True)
class Setting:
    """One kind of curves with known breaks."""

    name: str
    snapshots: int
    metrics: int
    breaks: int
    correlation: float = 0.5  # of two metrics' scatter
    memory: float = 0.0  # correlation of neighbouring snapshots' scatter
    clock: str = "log_step"
    model: str = "piecewise_const"


SETTINGS = (
    Setting("few snapshots, one metric", 12, 1, 1),
    Setting("few snapshots", 12, 7, 1),
    Setting("default study's grid", 17, 7, 2),
    Setting("default study's grid, uncorrelated metrics", 17, 7, 2, correlation=0.0),
    Setting("default study's grid, closely correlated", 17, 11, 2, correlation=0.9),
    Setting("many snapshots", 32, 7, 2),
    Setting("neighbouring snapshots alike", 17, 7, 2, memory=0.4),
    Setting("linear clock", 17, 7, 1, clock="step"),
    Setting("changes of slope", 24, 7, 1, model="piecewise_linear"),
)


def grid(n: int) -> np.ndarray:
    """Return n snapshots: the default study's for 17, else 0 and log-spaced steps to 2000."""
    return STEPS if n == len(STEPS) else np.concatenate([[0], np.round(np.geomspace(4, 2000, n - 1))]).astype(int)


def scatter(rng: np.random.Generator, setting: Setting, n: int) -> np.ndarray:
    """Return correlated deviations with variance 1, [snapshot, metric]."""
    own = rng.standard_normal((n, setting.metrics))
    noise = np.sqrt(1 - setting.correlation) * own + np.sqrt(setting.correlation) * rng.standard_normal((n, 1))
    for t in range(1, n):
        noise[t] = setting.memory * noise[t - 1] + np.sqrt(1 - setting.memory**2) * noise[t]
    return noise


def known_breaks(rng: np.random.Generator, setting: Setting, n: int) -> np.ndarray:
    """Return break places at least three (lines: five) snapshots apart."""
    apart = 5 if setting.model == "piecewise_linear" else 3
    while True:
        places = np.sort(rng.choice(np.arange(apart, n - apart + 1), setting.breaks, replace=False))
        if (np.diff([0, *places, n]) >= apart).all():
            return places


def broken(rng: np.random.Generator, setting: Setting, clock: Clock, places: np.ndarray, size: float) -> np.ndarray:
    """Return curves [snapshot, metric] that jump, or bend halfway between two snapshots, at the places."""
    change = (
        size
        * rng.choice([-1, 1], (len(places), setting.metrics))
        * rng.uniform(0.4, 1.6, (len(places), setting.metrics))
    )
    if setting.model == "piecewise_const":
        return (np.arange(len(clock.position))[:, None] >= places[None, :]).astype(float) @ change
    kinks = (clock.position[places] + clock.position[places - 1]) / 2
    return 8 * np.maximum(clock.position[:, None] - kinks[None, :], 0.0) @ change


def covered(setting: Setting, size: float, repeats: int) -> dict[str, float]:
    """Return how often intervals hold the true break, with the number of segments known and where BIC found it."""
    steps = grid(setting.snapshots)
    clock = clocks(steps, tokens=None, loss=None)[setting.clock]
    options = {**OPTIONS, "model": setting.model}
    inside, exact, naive, width, found = [], [], [], [], []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        places = known_breaks(rng, setting, len(steps))
        truth = broken(rng, setting, clock, places, size)
        curves = truth + scatter(rng, setting, len(steps))
        made = curves + np.sqrt(MEASURED) * np.stack([scatter(rng, setting, len(steps)) for _ in range(100)])
        k = setting.breaks + 1
        sure = boundaries(curves, made, clock, k, interval_draws=100, rng=rng, **options)
        drawn, _ = resampled_places(made, clock, k, **options)
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        standard = standardise(curves, clock.weight)[None]
        chosen = (
            criteria(standard, clock, best_cuts(standard, clock, **options), model=setting.model)[:, 0].argmin() + 1
        )
        inside.append((sure.intervals[:, 0] <= places) & (places <= sure.intervals[:, 1]))
        exact.append(sure.places == places)
        naive.append((low <= places) & (places <= high))
        width.append(sure.intervals[:, 1] - sure.intervals[:, 0])
        found.append(chosen == k)
    where = np.array(found)
    return {
        "coverage": float(np.mean(inside)),
        "found": float(where.mean()),
        "coverage where found": float(np.mean(np.array(inside)[where])) if where.sum() >= 20 else float("nan"),
        "exact": float(np.mean(exact)),
        "resampling alone": float(np.mean(naive)),
        "width": float(np.mean(width)),
        "one snapshot": float(np.mean(np.array(width) == 0)),
    }


def s_curve(x: np.ndarray, middle: float, width: float) -> np.ndarray:
    """Return a logistic curve that takes `width` from 10 to 90%."""
    return 1 / (1 + np.exp(-(x - middle) / width * 2 * np.log(9)))


SHAPES: dict[str, tuple[bool, Callable[[np.ndarray, np.random.Generator], np.ndarray]]] = {
    "no change": (False, lambda x, rng: 0 * x),
    "straight line": (False, lambda x, rng: x),
    "exponential, rate 2": (False, lambda x, rng: np.exp(-2 * x)),
    "exponential, rate 5": (False, lambda x, rng: np.exp(-5 * x)),
    "exponential, rate 10": (False, lambda x, rng: np.exp(-10 * x)),
    "power law": (False, lambda x, rng: 0.05 / (0.05 + x)),
    "parabola": (False, lambda x, rng: 4 * (x - rng.uniform(0.3, 0.7)) ** 2),
    "S-curve, width 0.7": (False, lambda x, rng: s_curve(x, rng.uniform(0.3, 0.7), 0.7)),
    "random walk": (False, lambda x, rng: rng.standard_normal(len(x)).cumsum() / 4),
    "S-curve, width 0.3": (True, lambda x, rng: s_curve(x, rng.uniform(0.3, 0.7), 0.3)),
    "S-curve, width 0.15": (True, lambda x, rng: s_curve(x, rng.uniform(0.3, 0.7), 0.15)),
    "jump": (True, lambda x, rng: (x > rng.uniform(0.3, 0.7)).astype(float)),
    "two jumps": (True, lambda x, rng: (x > rng.uniform(0.2, 0.4)) + 1.0 * (x > rng.uniform(0.6, 0.8))),
}


def rejected(shape: str, clock_name: str, model: str, noise: float, metrics: int, repeats: int) -> np.ndarray:
    """Return the shares of curves with p < 0.05: increments, smooth, both (p_perm)."""
    clock = clocks(STEPS, tokens=None, loss=None)[clock_name]
    p = []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        curve = SHAPES[shape][1]
        base = np.stack([curve(clock.position, np.random.default_rng((repeat, 1)))] * metrics, axis=1)
        if shape == "random walk":
            base = np.stack([curve(clock.position, rng) for _ in range(metrics)], axis=1)
        size = rng.choice([-1, 1], metrics) * rng.uniform(0.5, 1.5, metrics)
        curves = base * size + noise * scatter(rng, Setting("", 17, metrics, 0), len(STEPS))
        options = {**OPTIONS, "model": model, "draws": 99, "rng": rng}
        p.append((increment_p(curves, clock, **options), smooth_p(curves, clock, **options)))
    both = np.array(p)
    return np.array([*(both < 0.05).mean(axis=0), (both.max(axis=1) < 0.05).mean()])


COLUMNS = (
    "curves", "snapshots", "metrics", "breaks", "jump / scatter", "best place is right", "**coverage, number known**",
    "number found by BIC", "coverage where found", "resampling alone", "mean width, snapshots", "of one snapshot",
)  # fmt: skip


def coverage_table(repeats: int) -> list[str]:
    """Return what the rows about intervals say together, and the rows."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    needed, sure = [], []
    for setting in SETTINGS:
        for size in NOISES:
            r = covered(setting, size, repeats)
            logger.info("%s, %s: %s", setting.name, size, r)
            (sure if r["exact"] >= 0.95 else needed).append(r["coverage"])
            where = r["coverage where found"]
            cells = (
                setting.name, setting.snapshots, setting.metrics, setting.breaks, size, f"{r['exact']:.1%}",
                f"**{r['coverage']:.1%}**", f"{r['found']:.0%}", "–" if np.isnan(where) else f"{where:.1%}",
                f"{r['resampling alone']:.1%}", f"{r['width']:.1f}", f"{r['one snapshot']:.0%}",
            )  # fmt: skip
            lines.append(f"| {' | '.join(map(str, cells))} |")
    told = f"Coverage where the best place alone is right less than 95% of the time: {min(needed):.1%} to {max(needed):.1%}."
    if sure:
        told += (
            f" Where the best place alone is right that often: {min(sure):.1%} to {max(sure):.1%}; places are discrete, so no "
            "interval that holds the best one can cover less."
        )
    return [told, "", *lines]


def null_table(repeats: int) -> list[str]:
    """Return the rows about the tests against one process."""
    lines = [
        "| curve | boundary | clock | model | noise | increments | smooth | **both: p_perm** |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for shape, (has_boundary, _) in SHAPES.items():
        for clock, model in (
            ("log_step", "piecewise_const"),
            ("log_step", "piecewise_linear"),
            ("step", "piecewise_const"),
        ):
            for noise in (0.02, 0.1):
                r = rejected(shape, clock, model, noise, 6, repeats)
                lines.append(
                    f"| {shape} | {'yes' if has_boundary else 'no'} | {clock} | {model} | {noise} | {r[0]:.0%} | {r[1]:.0%} | "
                    f"**{r[2]:.0%}** |"
                )
    return lines


def main() -> None:
    """Simulate, and write the tables beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200, help="simulated studies per row about intervals")
    parser.add_argument("--null-repeats", type=int, default=100, help="simulated studies per row about tests")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    lines = [
        "# Intervals of phase boundaries, and tests against one process, on simulated curves",
        "",
        f"Command: `python benchmarks/segment_coverage.py --repeats {arguments.repeats} --null-repeats {arguments.null_repeats}`.",
        "",
        "## Coverage of the 95% intervals",
        "",
        f"Each row: {arguments.repeats} simulated studies; a share of 97% has a standard error of "
        f"{np.sqrt(0.97 * 0.03 / arguments.repeats):.1%}. Jumps have random sizes (0.4 to 1.6 times the mean) and signs. Scatter of "
        f"metrics is correlated at 0.5 unless said otherwise; {MEASURED:.0%} of its variance is what resampling sees. *Number known*: "
        "the cut has as many segments as the truth; *where found*: only studies in which BIC chose that number (left out below 20 "
        "studies; weak breaks that BIC finds are a selection). *Resampling alone*: middle 95% of the best places in resampled "
        "curves. On the linear clock breaks are as likely between any two snapshots, though early ones hardly weigh.",
        "",
        *coverage_table(arguments.repeats),
        "",
        "## Share of studies with p < 0.05",
        "",
        f"Each row: {arguments.null_repeats} simulated studies of 6 metrics on the default study's 17 snapshots. p_perm is the larger of "
        "the two p-values. Without a boundary the share should be at most 5%; with one it is the power.",
        "",
        *null_table(arguments.null_repeats),
    ]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
