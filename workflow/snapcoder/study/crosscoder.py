"""Settings of the crosscoder (CROSSCODER 1; docs/concepts.md)."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class ExtensionSettings:
    """How an added snapshot is fitted to the frozen dictionary."""

    level: str = setting(
        "adapted",
        "frozen: only a decoder; adapted: also the snapshot's own encoder term on the frozen pre-activation.",
        choices=("frozen", "adapted"),
    )
    ridge: float = setting(
        1e-3, "Ridge strength of the exact decoder fit, relative to the mean squared code.", minimum=0.0
    )
    steps: int = setting(100, "Optimiser steps of the adapted level.", unit="optimiser steps", minimum=1)
    lr: float = setting(1e-3, "Learning rate of the adapted level.", minimum=1e-8, maximum=1.0)
    batch_size: int = setting(1024, "Rows per step of the adapted level.", unit="tokens", minimum=8)
    rows: int = setting(
        50_000, "Train rows that the adapted level is fitted on (the first ones).", unit="tokens", minimum=8
    )


@dataclass(frozen=True)
class CrosscoderSettings:
    """The dictionary and how it is trained."""

    preset: str | None = setting(
        None,
        "paper2025 takes every number of the paper's recipe; keys written here still win over it.",
        choices=("paper2025",),
    )
    arm: str = setting(
        "batchtopk",
        "Activation function and sparsity: batchtopk, topk (per token), jumprelu (tanh penalties) or relu_l1 (shows the shrinkage artefact).",
        choices=("batchtopk", "topk", "jumprelu", "relu_l1"),
    )
    n_features: int = setting(1024, "Size of the dictionary.", unit="features", minimum=8, maximum=10_000_000)
    steps: int = setting(1500, "Length of training.", unit="optimiser steps", minimum=1)
    batch_size: int = setting(1024, "Rows per step.", unit="tokens", minimum=8)
    lr: float = setting(4e-3, "Peak learning rate (Adam).", minimum=1e-8, maximum=1.0)
    lr_warmup_steps: int = setting(30, "Linear warm-up of the learning rate.", unit="optimiser steps", minimum=0)
    lr_decay_share: float = setting(
        0.2, "Last share of training over which the learning rate falls linearly to lr_final.", minimum=0.0, maximum=1.0
    )
    lr_final: float = setting(0.03125, "Final learning rate as a share of the peak.", minimum=0.0, maximum=1.0)
    beta2: float = setting(0.999, "Adam's second-moment decay.", minimum=0.0, maximum=0.99999)
    clip: float = setting(1.0, "Largest gradient norm; 0 switches clipping off.", minimum=0.0)
    k: int = setting(
        20, "batchtopk, topk: active features per token, averaged over snapshots.", unit="features/token", minimum=1
    )
    k_start: float = setting(
        4.0, "batchtopk, topk: training starts with this many times k active features.", minimum=1.0, maximum=100.0
    )
    k_anneal_share: float = setting(
        0.6, "First share of training over which their number falls to k.", minimum=0.0, maximum=1.0
    )
    gate: str = setting(
        "per_snapshot",
        "per_snapshot: a feature is on at a snapshot when z·norm there passes the threshold; shared: one decision for all snapshots by the root-mean-square norm.",
        choices=("per_snapshot", "shared"),
    )
    sparsity: str = setting(
        "tanh_quad",
        "jumprelu: penalty on tanh(c·f·norm): tanh sums it, tanh_quad adds the frequency term.",
        choices=("tanh", "tanh_quad"),
    )
    sparsity_weight: float = setting(0.3, "Weight λ of the sparsity penalty (jumprelu, relu_l1).", minimum=0.0)
    sparsity_warmup_share: float = setting(
        0.1, "First share of training over which λ rises from 0.", minimum=0.0, maximum=1.0
    )
    tanh_stretch: float = setting(4.0, "c of the tanh penalties.", minimum=0.0)
    frequency_scale: float = setting(
        0.01, "ρ of tanh_quad: the frequency above which a feature pays more than linearly.", minimum=1e-9
    )
    threshold_init: float = setting(0.1, "jumprelu: initial threshold θ.", minimum=1e-9)
    threshold_window: float = setting(
        4.0, "jumprelu: width ε of the rectangular window of the straight-through gradient.", minimum=1e-9
    )
    threshold_lr_factor: float = setting(0.1, "jumprelu: learning-rate factor of log θ.", minimum=0.0)
    ste_include_negative: bool = setting(
        True, "jumprelu: let negative pre-activations inside the window move the threshold, as in the submitted code."
    )
    auxiliary_weight: float = setting(
        0.03125, "batchtopk: weight of the loss that lets dead features explain the residual.", minimum=0.0
    )
    dead_after: int = setting(
        100, "batchtopk: a feature is dead after this many steps without firing.", unit="optimiser steps", minimum=1
    )
    center: bool = setting(True, "Subtract each snapshot's mean activation before scaling.")
    init_norm: float | None = setting(
        None, "Initial decoder norm; empty: grid search for the lowest initial reconstruction error.", minimum=1e-6
    )
    precision: str = setting(
        "bf16", "Arithmetic of the large matrix products; weights and sums stay fp32.", choices=("bf16", "fp32")
    )
    path: str = setting(
        "auto",
        "How a step is computed: dense products, or sparse loops after the encoder's product; auto takes the faster one by the expected share of active features.",
        choices=("auto", "dense", "sparse"),
    )
    optimizer_state: str = setting(
        "fp32",
        "Adam's moments: fp32; lean keeps the first in bfloat16 and one second moment per feature, a quarter of the memory.",
        choices=("fp32", "lean"),
    )
    eval_every: int = setting(100, "How often held-out scores are written.", unit="optimiser steps", minimum=1)
    checkpoint_every: int = setting(
        100, "How often training can be resumed from after a kill.", unit="optimiser steps", minimum=1
    )
    device: str = setting(
        "auto", "Where training runs; auto takes a GPU when there is one.", choices=("auto", "cpu", "cuda")
    )
    gpus: int = setting(
        1,
        "GPUs of one machine that train one dictionary together, a process each (device: cpu: as many processes without).",
        minimum=1,
        maximum=1024,
    )
    sharding: str = setting(
        "auto",
        "What is shared out over several GPUs. auto: features when n_features > snapshots · width of the model, else snapshots.",
        choices=("auto", "features", "snapshots"),
    )
    memory_gb: float = setting(
        8.0,
        "Activations are held in memory up to this size; more are read from a scratch file beside the dictionary. When streaming it holds two pools, which must fit, then the cached sample and the snapshots, which are read from disk again and again where they do not.",
        unit="GB",
        minimum=0.0,
    )
    pool_tokens: int | None = setting(
        None,
        "Rows that are shuffled together. Sequences are drawn into pools of about this many rows, one pool after another; empty: all rows at once (activations.mode cache) or 262144 (stream).",
        unit="tokens",
        minimum=1_000,
    )
    seed: int = setting(0, "Seed of initialisation and row order.", minimum=0)
    extension: ExtensionSettings = setting(ExtensionSettings, "How added snapshots are fitted.")


PAPER2025 = {
    "arm": "jumprelu",
    "n_features": 24_576,
    "steps": 390_625,
    "batch_size": 2048,
    "lr": 5e-5,
    "lr_warmup_steps": 5000,
    "lr_decay_share": 0.2,
    "lr_final": 1 / 32,
    "beta2": 0.999,
    "clip": 0.0,
    "gate": "per_snapshot",
    "sparsity": "tanh_quad",
    "sparsity_weight": 0.3,
    "sparsity_warmup_share": 0.1,
    "tanh_stretch": 4.0,
    "frequency_scale": 0.01,
    "threshold_init": 0.1,
    "threshold_window": 4.0,
    "threshold_lr_factor": 0.1,
    "ste_include_negative": True,
    "center": False,
    "init_norm": None,
    "precision": "fp32",
}
"""Every number of CROSSCODER 1.6 for Pythia-160M. The key `preset` puts these under the study's own keys."""
