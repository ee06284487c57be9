"""Directions that turn in known ways: a smooth wander, a sudden turn, a turn of the whole basis."""

import numpy as np

from snapcoder.evolution.turning import Turns

STEPS = (0, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1408, 2000)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def sideways(rng, w):
    """Return random vectors orthogonal to w, of squared length 1 on average."""
    g = rng.standard_normal(w.shape) / np.sqrt(w.shape[1])
    return g - np.einsum("fd,fd->f", g, w)[:, None] * w


def wander(rng, *, rates, widths, n=300, d=64, noise=0.4):
    """Return estimated directions [snapshot, feature, model] that wander by rates (radian² per unit) over widths.

    noise: length of the independent estimation error of every snapshot, relative to the direction.
    """
    path = [unit(rng.standard_normal((n, d)))]
    for rate, width in zip(np.broadcast_to(rates, len(widths)), widths, strict=True):
        path.append(unit(path[-1] + np.sqrt(np.expm1(rate * width)) * sideways(rng, path[-1])))
    true = np.stack(path)
    return unit(true + noise * rng.standard_normal(true.shape) / np.sqrt(d))


def turn_all(rng, path, *, at, degrees):
    """Turn every direction by its own `degrees`, sideways, from snapshot `at` on."""
    angle = np.radians(degrees)
    axis = unit(sideways(rng, path[at - 1]))
    before = path[at - 1]
    # the rotation in the plane of direction and axis, applied to all later snapshots
    for s in range(at, len(path)):
        along, across = (np.einsum("fd,fd->f", path[s], v)[:, None] for v in (before, axis))
        path[s] += along * ((np.cos(angle) - 1) * before + np.sin(angle) * axis)
        path[s] += across * ((np.cos(angle) - 1) * axis - np.sin(angle) * before)
    return path


def turns_of(path, *, draws=0):
    """Return the cosines of a path of which every feature is alive throughout.

    With `draws`, the matrices of mean cosines too, the same under every draw.
    """
    adjacent = np.einsum("sfd,sfd->sf", path[:-1], path[1:])
    skipping = np.einsum("sfd,sfd->sf", path[:-2], path[2:])
    means = np.einsum("afd,bfd->ab", path, path) / path.shape[1] if draws else np.empty((0, 0))
    return Turns(adjacent, skipping, np.tile(means, (1 + draws, 1, 1)))
