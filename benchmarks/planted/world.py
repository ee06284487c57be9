"""Activations with known features: what appears, fades, turns, and how often; the truth that a dictionary is scored on.

Every row contains each feature in some amount, the same at all snapshots; a snapshot shows a feature along its own
direction, if the feature exists there at all. On top come noise drawn anew at each snapshot, a mean, and a unit of its
own for each snapshot, as the residual stream of a model in training has.
"""

from dataclasses import dataclass

import numpy as np

CLASSES = ("initial", "emergent", "transient", "vanishing", "sudden_turn", "slow_turn")
_SHARES = (0.25, 0.35, 0.15, 0.05, 0.1, 0.1)


@dataclass(frozen=True)
class Size:
    """A benchmark problem. l0: features in a row, averaged; n_features of the dictionary that is to find them.

    zipf: exponent of the frequencies over rank; rarest: the frequency that the tail of the rarest fifth runs down to,
    0 for no such tail; amounts: ratio of the largest typical
    amount of a feature to the smallest; noise, manifold: share of a snapshot's variance; correlated, nested: share of
    features that come with another one; inherited: share that take over the direction of one that has faded.
    """

    n_snapshots: int = 12
    d_model: int = 96
    planted: int = 300
    l0: float = 10.0
    n_features: int = 768
    batch_size: int = 1024
    n_rows: int = 80_000
    zipf: float = 1.0
    rarest: float = 0.0
    amounts: float = 1.0
    noise: float = 0.05
    manifold: float = 0.0
    correlated: float = 0.1
    nested: float = 0.0
    inherited: float = 0.05


SIZES = {
    "small": Size(n_snapshots=8, d_model=48, planted=120, l0=6, n_features=256, batch_size=512, n_rows=40_000),
    "easy": Size(),
    "hard": Size(
        planted=384, n_features=1024, zipf=1.0, rarest=1e-4, amounts=10.0, noise=0.05,
        manifold=0.01, correlated=0.2, nested=0.2, n_rows=160_000,
    ),
    "wide": Size(n_snapshots=6, d_model=64, planted=512, l0=14, n_features=1024, zipf=0.7, noise=0.08, nested=0.1),
    "long": Size(n_snapshots=24, d_model=64, planted=256, l0=10, n_features=768, noise=0.1, correlated=0.15),
}  # fmt: skip
"""easy and hard are the two that goals are set on; the others have shapes that nothing was tuned on."""


@dataclass(frozen=True)
class World:
    """x [row, snapshot, model] raw float32; amount [row, planted]; strength [snapshot, planted], 0 where absent;
    direction [snapshot, planted, model], unit length; onset [planted], first snapshot that shows it; offset [planted],
    first snapshot after it faded, n_snapshots for survivors; turn [planted], snapshot of a sudden turn, −1 for none;
    kind [planted], index into CLASSES; n_train: rows from here on are held out.
    """

    x: np.ndarray
    amount: np.ndarray
    strength: np.ndarray
    direction: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    turn: np.ndarray
    kind: np.ndarray
    n_train: int


def draw(size: Size, seed: int) -> World:
    """Draw a world; a pure function of its arguments."""
    rng = np.random.default_rng([seed, size.planted, size.n_snapshots])
    kind = _kinds(size.planted, rng)
    onset, offset, turn = _history(kind, size.n_snapshots, rng)
    when = np.arange(size.n_snapshots)[:, None]
    strength = ((when >= onset) & (when < offset)).astype(np.float32)
    strength *= np.where((when == onset) & (onset > 0), 0.75, 1.0)
    direction = _directions(kind, onset, offset, turn, size, rng)
    amount = _amounts(size, rng)
    x = np.empty((size.n_rows, size.n_snapshots, size.d_model), dtype=np.float32)
    growth = np.logspace(0, 1, size.n_snapshots) * rng.uniform(0.8, 1.25, size.n_snapshots)  # norms grow tenfold
    latent = rng.standard_normal((size.n_rows, 3)).astype(np.float32)
    curve = np.stack([latent[:, 0] * latent[:, 1], np.sin(2 * latent[:, 2]), np.abs(latent[:, 0]) - 0.8], axis=1)
    for s in range(size.n_snapshots):
        signal = (amount * strength[s]) @ direction[s]
        variance = float(signal.var(axis=0).sum())
        noise = rng.standard_normal(signal.shape).astype(np.float32)
        signal += noise * np.float32(np.sqrt(size.noise * variance / size.d_model))
        if size.manifold > 0:  # structure that is there, but is no feature: a curved surface in three dimensions
            bend = curve @ _unit(rng.standard_normal((3, size.d_model))).astype(np.float32)
            signal += bend * np.float32(np.sqrt(size.manifold * variance / bend.var(axis=0).sum()))
        signal += (rng.standard_normal(size.d_model) * np.sqrt(variance / size.d_model)).astype(np.float32)
        x[:, s] = signal * np.float32(growth[s])
    return World(x, amount, strength, direction, onset, offset, turn, kind, n_train=round(size.n_rows * 0.9))


def _kinds(planted: int, rng: np.random.Generator) -> np.ndarray:
    counts = np.floor(np.array(_SHARES) * planted).astype(int)
    counts[0] += planted - counts.sum()
    return rng.permutation(np.repeat(np.arange(len(CLASSES)), counts))


def _history(kind: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    onset, offset, turn = np.zeros(len(kind), int), np.full(len(kind), n), np.full(len(kind), -1)
    name = np.array(CLASSES)[kind]
    emergent, transient, vanishing = name == "emergent", name == "transient", name == "vanishing"
    onset[emergent] = rng.integers(1, n, emergent.sum())
    life = rng.integers(3, max(4, n // 3) + 1, transient.sum())
    onset[transient] = rng.integers(1, n - life)
    offset[transient] = onset[transient] + life
    offset[vanishing] = rng.integers(2, n - 1, vanishing.sum())
    sudden = name == "sudden_turn"
    turn[sudden] = rng.integers(2, n - 1, sudden.sum())
    return onset, offset, turn


def _directions(
    kind: np.ndarray, onset: np.ndarray, offset: np.ndarray, turn: np.ndarray, size: Size, rng: np.random.Generator
) -> np.ndarray:
    n, planted, d = size.n_snapshots, size.planted, size.d_model
    name = np.array(CLASSES)[kind]
    first, second = _unit(rng.standard_normal((2, planted, d)))
    second = _unit(second - (first * second).sum(axis=1, keepdims=True) * first)
    when = np.arange(n)[:, None]
    angle = np.zeros((n, planted))
    angle += np.where((name == "sudden_turn") & (when >= turn), np.radians(70), 0.0)
    angle += np.where(name == "slow_turn", np.radians(80) * when / (n - 1), 0.0)
    direction = np.cos(angle)[..., None] * first + np.sin(angle)[..., None] * second
    # Everything wobbles a little, as estimates from real snapshots do.
    direction = _unit(direction + 0.15 / np.sqrt(d) * rng.standard_normal(direction.shape))
    faded, late = np.flatnonzero(offset < n), np.flatnonzero((onset > 0) & (offset == n))
    for heir in rng.choice(late, min(len(late), round(size.inherited * planted)), replace=False):
        earlier = faded[offset[faded] <= onset[heir]]
        if len(earlier):
            old = direction[:, rng.choice(earlier)]
            direction[:, heir] = _unit(0.8 * old + 0.6 * direction[:, heir])
    return direction.astype(np.float32)


def _amounts(size: Size, rng: np.random.Generator) -> np.ndarray:
    planted, rows = size.planted, size.n_rows
    rate = (np.arange(planted) + 5.0) ** -size.zipf
    rate *= size.l0 / rate.sum()
    tail = planted // 5
    if size.rarest > 0:
        rate[-tail:] = np.geomspace(rate[-tail], size.rarest, tail)
    rate = rng.permutation(rate)
    on = rng.random((rows, planted), dtype=np.float32) < rate
    follower = rng.permutation(planted)
    leader = np.roll(follower, 1)
    for child, parent in zip(
        follower[: round(size.correlated * planted)], leader[: round(size.correlated * planted)], strict=True
    ):
        on[:, child] |= on[:, parent] & (rng.random(rows) < 0.3 * min(1.0, rate[child] / rate[parent]))
    nested = follower[len(follower) - round(size.nested * planted) :]
    common = np.argsort(-rate)[: planted // 3]
    for child in nested:  # a child occurs only where its parent does
        parent = common[rng.integers(len(common))]
        if parent != child and rate[child] < rate[parent]:
            on[:, child] = on[:, parent] & (rng.random(rows) < rate[child] / rate[parent])
    typical = np.exp(rng.uniform(-0.5, 0.5, planted) * np.log(size.amounts)).astype(np.float32)
    return on * typical * rng.uniform(0.5, 1.5, on.shape).astype(np.float32)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)
