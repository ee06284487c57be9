"""Settings of the evidence for a feature's presence that does not rest on its decoder norm."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class PresenceSettings:
    """Presence by independent evidence: permutations, probes, latent scaling (SCIENCE 4, 6.2, 6.12)."""

    permutations: int = setting(
        20,
        "Permutations of the tokens within documents behind the null of the regression. The smallest attainable p is "
        "1/(1 + permutations · null_features).",
        unit="draws",
        minimum=1,
    )
    null_features: int = setting(
        10,
        "Features per decile of firing rate that are permuted; their draws are pooled over the decile.",
        unit="features",
        minimum=1,
    )
    fdr: float = setting(
        0.05, "Present by regression: false discovery rate within a snapshot.", minimum=0.0001, maximum=0.5
    )
    min_active: int = setting(
        100, "Latent scaling is left undefined below this many activations.", unit="activations", minimum=2
    )
    min_positives: int = setting(
        20,
        "Regression is tested, and probes are fitted and scored (on either half of the documents), from this many "
        "active tokens on.",
        unit="tokens",
        minimum=2,
    )
    probe_positives: int = setting(128, "Active tokens scored per feature.", unit="tokens", minimum=2)
    probe_negatives: int = setting(512, "Tokens that inactive ones are taken from.", unit="tokens", minimum=2)
    probe_ridge: float = setting(
        0.001, "Ridge of the probes' shared covariance, as a share of the mean variance.", minimum=0.0
    )
    probe_auroc: float = setting(
        0.75, "Present by probe: the interval of the AUROC lies above this.", minimum=0.5, maximum=1.0
    )
    segments: int = setting(
        20,
        "Stretches of whole documents that standard errors are computed over; every second one fits directions, the "
        "others test them.",
        unit="stretches",
        minimum=2,
    )
    seed: int = setting(0, "Seed of the permutations.", minimum=0)
