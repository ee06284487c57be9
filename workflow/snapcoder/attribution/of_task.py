"""Everything that is attributed of one task at one snapshot: by every method and baseline, and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from snapcoder.attribution.continuation import Continuation
from snapcoder.attribution.contributions import Attribution, attribute, position_shares
from snapcoder.attribution.exact import exact_effects, verified_features
from snapcoder.attribution.gradients import (
    PathGradient,
    clean_gradient,
    completeness_gap,
    metric_at,
    path_gradients,
    point_numbers,
)
from snapcoder.attribution.paths import Path, moved_code, moved_features, path_from
from snapcoder.attribution.rows import attribution_rows, feature_ranking, position_rows, quality_row
from snapcoder.attribution.task_prompts import SnapshotPrompts, TaskPrompts
from snapcoder.storage.task_examples import cluster_ids
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.attribution import PRIMARY
from snapcoder.tasks.selection import task_rng

Kind = tuple[str, str]
"""A method (atp, ig) and a baseline (corrupted, zero, mean)."""


@dataclass(frozen=True)
class TaskTables:
    """Rows of the tables attribution, attribution_quality and attribution_positions."""

    attribution: pd.DataFrame
    quality: pd.DataFrame
    positions: pd.DataFrame


@dataclass(frozen=True)
class Subject:
    """One task at one snapshot; mean_code [feature]: mean gated code there."""

    run: Continuation
    snapshot: SnapshotPrompts
    task: str
    settings: TaskSettings
    mean_code: np.ndarray

    @cached_property
    def prompts(self) -> TaskPrompts:
        """The examples that features are ranked on."""
        return self.snapshot.ranking(self.task)

    @cached_property
    def kinds(self) -> list[Kind]:
        """Methods and baselines to attribute by, the primary one first."""
        asked = [(method, baseline) for method, baseline in (name.split("_") for name in self.settings.attributions)]
        return list(dict.fromkeys([PRIMARY, *asked]))

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The path from every baseline."""
        here = self.snapshot.here
        return {b: path_from(b, self.prompts, here, self.mean_code) for b in dict.fromkeys(b for _, b in self.kinds)}

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a generator that depends on the seed, the task and the purpose only."""
        return task_rng(f"{purpose} of {self.task}", self.settings.seed)


def attribute_task(subject: Subject, *, texts: Sequence[str], where: Mapping[str, object]) -> TaskTables:
    """Attribute one task and check it; texts: of every token; where: layer and step, the same in all rows."""
    prompts, settings = subject.prompts, subject.settings
    gradients = task_gradients(subject)
    found = {
        kind: attribute(prompts, subject.snapshot.here, gradients[kind], subject.paths[kind[1]])
        for kind in subject.kinds
    }
    exact = _exact(subject, _checked(subject, found))
    cluster = cluster_ids(prompts.examples)
    rows, quality = [], []
    for kind in subject.kinds:
        names = {**where, "task": subject.task, "method": kind[0], "baseline": kind[1]}
        part = attribution_rows(
            found[kind],
            gradients[kind],
            cluster,
            exact=exact[kind[1]],
            flips=settings.sign_flips,
            bootstrap=settings.bootstrap,
            rng=subject.rng("sign flips and bootstrap"),  # the same draws for every kind
            names=names,
        )
        top = feature_ranking(found[kind])[: settings.exact_top]
        rows.append(part)
        quality.append(
            quality_row(
                found[kind],
                gradients[kind],
                part,
                top,
                n_clusters=len(np.unique(cluster)),
                tolerance=settings.ig_tolerance,
                names=names,
            )
        )
    positions = _positions(subject, gradients[PRIMARY], rows[0], texts, {**where, "task": subject.task})
    return TaskTables(pd.concat(rows, ignore_index=True), pd.DataFrame(quality), positions)


def task_gradients(subject: Subject) -> dict[Kind, PathGradient]:
    """Return the gradient behind every method and baseline; each pass is made once for all that need it.

    The clean gradient serves attribution patching from every baseline, and its forward pass gives the clean metric.
    """
    run, prompts, paths, settings = subject.run, subject.prompts, subject.paths, subject.settings
    size, ends = settings.batch_tokens, [prompts.clean - path.change for path in paths.values()]
    base = dict(zip(paths, metric_at(run, prompts, ends, batch_tokens=size), strict=True))
    if any(method == "atp" for method, _ in subject.kinds):
        at_clean = clean_gradient(run, prompts, batch_tokens=size)
        clean, gradient = at_clean.metric_clean, at_clean.gradient
    else:
        clean, gradient = metric_at(run, prompts, [prompts.clean], batch_tokens=size)[0], np.zeros(0)
    found: dict[Kind, PathGradient] = {}
    integrated = path_gradients(
        run,
        prompts,
        {baseline: paths[baseline].change for method, baseline in subject.kinds if method == "ig"},
        clean=clean,
        base=base,
        numbers=point_numbers(settings.ig_steps),
        tolerance=settings.ig_tolerance,
        batch_tokens=size,
    )
    for method, baseline in subject.kinds:
        if method == "ig":
            found[method, baseline] = integrated[baseline]
        else:
            gap = completeness_gap(prompts, paths[baseline].change, gradient, clean - base[baseline])
            found[method, baseline] = PathGradient(gradient, clean, base[baseline], 1, ((1, gap),))
    return found


def _checked(subject: Subject, found: Mapping[Kind, Attribution]) -> dict[str, np.ndarray]:
    """Return the features to verify per baseline: the strongest by each of its methods, and random other ones."""
    settings, checked = subject.settings, {}
    for baseline in subject.paths:
        sizes = [abs(np.asarray(a.feature.mean(axis=0)).ravel()) for (_, b), a in found.items() if b == baseline]
        rng = subject.rng(f"verified features from {baseline}")
        strongest = [verified_features(size, top=settings.exact_top, random=0, rng=rng) for size in sizes]
        others = sizes[0].copy()
        others[np.concatenate(strongest)] = 0
        drawn = verified_features(others, top=0, random=settings.exact_random, rng=rng)
        checked[baseline] = np.unique(np.concatenate([*strongest, drawn]))
    return checked


def _exact(subject: Subject, checked: Mapping[str, np.ndarray]) -> dict[str, dict[int, tuple[float, float]]]:
    """Return per baseline the mean exact effect of each verified feature, on the same and on the held-out examples."""
    every = np.unique(np.concatenate(list(checked.values())))
    heldout = subject.snapshot.evaluation(subject.task, features=every)
    here, effects = subject.snapshot.here, {}
    for baseline, features in checked.items():
        path, columns = subject.paths[baseline], np.searchsorted(every, features)
        moved = moved_features(path.varying, path.constant, features)
        moved_heldout = moved_features(*moved_code(baseline, heldout, subject.mean_code[every]), columns)
        directions = here.decoder[features] / np.float32(here.scale)
        same, other = (
            exact_effects(subject.run, examples, move, directions, batch_tokens=subject.settings.batch_tokens)
            for examples, move in ((subject.prompts, moved), (heldout, moved_heldout))
        )
        means = zip(same.mean(axis=0).tolist(), other.mean(axis=0).tolist(), strict=True)
        effects[baseline] = dict(zip(features.tolist(), means, strict=True))
    return effects


def _positions(
    subject: Subject,
    gradient: PathGradient,
    rows: pd.DataFrame,
    texts: Sequence[str],
    where: Mapping[str, object],
) -> pd.DataFrame:
    """Return the attributions at every position of the first ranking examples, for the strongest features."""
    strongest = rows[(rows["rank"] > 0) & (rows["rank"] <= subject.settings.shown_features)]
    features, prompts = strongest["feature"].to_numpy(np.int64), subject.prompts
    lines, path = subject.snapshot.halves[subject.task][0], subject.paths[PRIMARY[1]]
    return pd.concat(
        [
            position_rows(
                position_shares(prompts, subject.snapshot.here, gradient, path, example=example, features=features),
                features,
                [texts[token] for token in prompts.examples[example].clean_tokens],
                names={**where, "example": int(lines[example])},
            )
            for example in range(min(subject.settings.shown_examples, len(prompts.examples)))
        ],
        ignore_index=True,
    )
