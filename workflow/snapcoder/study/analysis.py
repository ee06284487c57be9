"""Settings of everything that is measured on a trained dictionary."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class EvolutionSettings:
    """When a feature counts as present, alive, turned (SCIENCE 1.3, 6.1)."""

    alpha: float = setting(
        0.5, "Present by norm: norm at least this share of the feature's own maximum.", minimum=0.01, maximum=1.0
    )
    consecutive: int = setting(
        2, "m: snapshots in a row that make an onset (the last snapshot alone counts).", unit="snapshots", minimum=1
    )
    rate_floor: float = setting(1e-4, "Alive: firing rate at or above this.", unit="1/token", minimum=0.0, maximum=1.0)
    baseline_step: int = setting(
        32, "Onset by firing compares with the rates at snapshots up to this step.", unit="training steps", minimum=0
    )
    dense_rate: float = setting(0.1, "Dense: mean firing rate above this.", unit="1/token", minimum=0.0, maximum=1.0)
    transient_lifetime: float = setting(
        0.2, "Transient: present in less than this share of snapshots.", minimum=0.0, maximum=1.0
    )
    flat_range: float = setting(
        0.1, "Flat: norm varies by less than this share of its maximum.", minimum=0.0, maximum=1.0
    )
    null_draws: int = setting(50, "Random dictionaries behind each dimensionality null.", unit="draws", minimum=2)
    null_features: int = setting(
        8192, "Features of each random dictionary that are worked out; they stand for all.", unit="features", minimum=64
    )
    permutations: int = setting(
        2000, "Orders of the snapshots' increments behind the test of a turning point.", unit="draws", minimum=100
    )
    bootstrap: int = setting(200, "Bootstrap draws behind each interval.", unit="draws", minimum=20)
    seed: int = setting(0, "Seed of bootstraps and nulls.", minimum=0)
    memory_gb: float = setting(
        1.0,
        "Memory for what a job holds of one snapshot; with less, codes and cache are read several times "
        "(docs/scaling.md).",
        unit="GB",
        minimum=0.0,
    )


@dataclass(frozen=True)
class BehaviourSettings:
    """Scoring the snapshots' own next-token predictions."""

    sequences: int = setting(600, "Held-out sequences scored.", unit="sequences", minimum=8)
    bootstrap: int = setting(200, "Bootstrap draws over documents.", unit="draws", minimum=20)
    batch_size: int = setting(64, "Sequences per forward pass.", unit="sequences", minimum=1)
    text_sequences: int = setting(
        64, "Sequences sampled from each n-gram model for the snapshots to predict.", unit="sequences", minimum=2
    )
    seed: int = setting(0, "Seed of the choice of sequences, of sampled text and of bootstraps.", minimum=0)


@dataclass(frozen=True)
class PhaseSettings:
    """Cutting training into phases (SCIENCE 6.5)."""

    max_segments: int = setting(
        4, "Largest number of segments that BIC may choose.", unit="segments", minimum=1, maximum=8
    )
    min_size: int = setting(2, "Fewest snapshots in a segment.", unit="snapshots", minimum=1)
    bootstrap: int = setting(
        200, "Draws over documents, features and seeds behind the interval of a boundary.", unit="draws", minimum=20
    )
    models: tuple[str, ...] = setting(
        ("piecewise_const", "piecewise_linear"),
        "What a segment is: a constant level, or a straight line over the clock.",
        choices=("piecewise_const", "piecewise_linear"),
        unique=True,
    )
    permutations: int = setting(
        499, "Permutations behind each test against one continuous process.", unit="draws", minimum=19
    )
    interval_draws: int = setting(
        100, "Simulated curves behind each place that may lie in a boundary's interval.", unit="draws", minimum=20
    )
    statistical_mi: float = setting(
        0.1, "Largest information beyond the bigram that still counts as statistical.", unit="nats", minimum=0.0
    )
    seed: int = setting(0, "Seed of bootstraps and permutations.", minimum=0)


@dataclass(frozen=True)
class TaskSettings:
    """Abilities and what carries them."""

    files: tuple[str, ...] = setting(
        (),
        "Task files, or patterns of them, beside the built-in tasks: sparse feature circuits, BLiMP, CLAMS or MultiBLiMP, "
        "told apart by their content (docs/definitions.md).",
        unique=True,
    )
    built_in: bool = setting(
        True,
        "Make the built-in tasks: agreement, copies and closing marks mined from held-out text, templates, induction.",
    )
    max_examples: int = setting(
        200,
        "Examples kept per task; half of them where built-in copies and closing marks are asked from both sides.",
        unit="examples",
        minimum=4,
    )
    min_examples: int = setting(
        40, "A task with fewer independent examples is dropped, with a row that says so.", unit="examples", minimum=4
    )
    prefix_tokens: int = setting(24, "Length of the contexts mined from held-out text.", unit="tokens", minimum=4)
    cloze_examples: int = setting(
        200,
        "Examples kept of each cloze task, which the last base snapshot chooses from held-out text; 0: no cloze.",
        unit="examples",
        minimum=0,
    )
    cloze_contexts: int = setting(
        3000, "Held-out contexts that are searched for cloze examples.", unit="contexts", minimum=100
    )
    attribution_examples: int = setting(
        100,
        "Examples per task that rank features, and as many others that ablations are scored on. With few, no feature can be "
        "told from chance (attribution_quality.n_significant) and rankings say little of other examples (exact_r_heldout).",
        unit="examples",
        minimum=2,
    )
    attributions: tuple[str, ...] = setting(
        ("atp_corrupted", "ig_zero"),
        "Attributions beside ig_corrupted (which is always made and ranks features): method and where the path begins.",
        choices=("ig_corrupted", "ig_zero", "ig_mean", "atp_corrupted", "atp_zero", "atp_mean"),
        unique=True,
    )
    ig_steps: int = setting(
        27,
        "Most points of the integrated-gradients midpoint rule. A third, a ninth … of them (whole numbers from 3 on) are "
        "tried first.",
        unit="points",
        minimum=1,
        maximum=10_000,
    )
    ig_tolerance: float = setting(
        0.05,
        "Completeness gap at which no more points are added; above it, attribution counts as not linear.",
        minimum=0.0,
    )
    top_features: int = setting(
        50,
        "Features kept in the attribution table per task, snapshot, method and baseline, beside the verified ones.",
        unit="features",
        minimum=1,
    )
    sign_flips: int = setting(10_000, "Random signs of examples behind each p-value.", unit="draws", minimum=100)
    exact_top: int = setting(
        20, "Strongest features whose effect is computed exactly, per baseline.", unit="features", minimum=1
    )
    exact_random: int = setting(10, "Other features verified likewise, drawn at random.", unit="features", minimum=0)
    shown_examples: int = setting(
        3, "Examples per task and snapshot with attributions at every position.", unit="examples", minimum=1
    )
    shown_features: int = setting(5, "Strongest features shown there.", unit="features", minimum=1)
    batch_tokens: int = setting(
        6144, "Tokens of one pass of attribution and ablation; more for a GPU.", unit="tokens", minimum=1
    )
    k_grid: tuple[int, ...] = setting(
        (0, 1, 2, 5, 10, 20, 50, 100, 200),
        "Numbers of features ablated; all of them is always added.",
        unit="features",
        minimum=0,
        unique=True,
    )
    k_shares: tuple[float, ...] = setting(
        (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
        "Further numbers of features ablated, as shares of the dictionary (the grid of MIB); those close to one of k_grid "
        "are left out.",
        minimum=0,
        maximum=1,
        unique=True,
    )
    control_sizes: tuple[int, ...] = setting(
        (10, 50),
        "Numbers of features at which random and matched features are ablated too.",
        unit="features",
        minimum=1,
        unique=True,
    )
    random_draws: int = setting(20, "Draws of features at random, per size.", unit="draws", minimum=1)
    matched_draws: int = setting(
        40,
        "Draws of features matched to the top ones by deciles of decoder norm and firing rate, per size. Corrected over "
        "the sizes, p can fall below 0.05 only with 20 draws per size.",
        unit="draws",
        minimum=1,
    )
    single_features: int = setting(
        10,
        "Top features that are also ablated one by one, to compare the sum with their joint effect.",
        unit="features",
        minimum=1,
    )
    bootstrap: int = setting(200, "Bootstrap draws over examples.", unit="draws", minimum=20)
    seed: int = setting(0, "Seed of examples, random rankings and bootstraps.", minimum=0)


@dataclass(frozen=True)
class FeatureSettings:
    """What is shown of each feature."""

    top: int = setting(12, "Strongest examples per feature.", unit="examples", minimum=1)
    quantiles: int = setting(4, "Lower activation bands shown, with two examples each.", unit="bands", minimum=0)
    context: int = setting(16, "Tokens shown on either side of an example.", unit="tokens", minimum=1)
    logits: int = setting(8, "Tokens listed as promoted and as suppressed.", unit="tokens", minimum=1)
    memory_gb: float = setting(
        1.0,
        "Memory for the codes of the features looked at together; with less, the codes are read several times "
        "(docs/scaling.md).",
        unit="GB",
        minimum=0.0,
    )


@dataclass(frozen=True)
class ReportSettings:
    """The report."""

    title: str = setting("", "Title of the report; empty: made from the study's name.")
    max_cards: int = setting(2000, "Features that get a card, strongest first.", unit="features", minimum=1)
