"""Settings of the snapshots: which ones, where they come from, and how the built-in source trains them."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class LocalSettings:
    """Checkpoints that lie on this machine."""

    pattern: str = setting("", "Folder of a Hugging Face checkpoint, with {step} in it: models/pythia/step{step}.")
    tokens_per_step: int | None = setting(
        None, "Tokens of one training step, to give the token axis; empty: unknown.", unit="tokens", minimum=1
    )
    warmup_steps: int | None = setting(
        None, "Length of the learning-rate warm-up, for the warm-up/phase comparison.", unit="training steps", minimum=0
    )


@dataclass(frozen=True)
class SnapshotSettings:
    """Which snapshots the study looks at."""

    source: str = setting(
        "pretrain",
        "Where snapshots come from: `pretrain` trains a model here, `local` reads checkpoints from disk.",
        choices=("pretrain", "local"),
    )
    steps: tuple[int, ...] = setting(
        (0, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1408, 2000),
        "Base snapshots: the dictionary is trained on these.",
        unit="training steps",
        minimum=0,
        unique=True,
    )
    added: tuple[int, ...] = setting(
        (),
        "Snapshots shown through an extension of the frozen dictionary; add some later and only their own jobs run.",
        unit="training steps",
        minimum=0,
        unique=True,
    )
    fixed_batch: int = setting(
        64, "Held-out sequences of the fixed batch that every snapshot is scored on.", unit="sequences", minimum=1
    )
    local: LocalSettings = setting(LocalSettings, "Used with source: local.")


@dataclass(frozen=True)
class PretrainSettings:
    """The language model that source: pretrain trains (GPT-NeoX, Pythia's architecture)."""

    d_model: int = setting(128, "Width of the residual stream.", unit="dimensions", minimum=8)
    n_layers: int = setting(4, "Number of blocks.", unit="blocks", minimum=1)
    n_heads: int = setting(4, "Attention heads per block.", unit="heads", minimum=1)
    steps: int = setting(2000, "Length of training.", unit="training steps", minimum=2)
    batch_size: int = setting(32, "Sequences per step.", unit="sequences", minimum=1)
    lr: float = setting(3e-3, "Peak learning rate.", minimum=1e-8, maximum=1.0)
    lr_final: float = setting(
        0.1, "Final learning rate, as a share of the peak (cosine decay).", minimum=0.0, maximum=1.0
    )
    warmup_steps: int = setting(100, "Linear warm-up of the learning rate.", unit="training steps", minimum=0)
    weight_decay: float = setting(0.1, "AdamW weight decay (matrices only).", minimum=0.0)
    beta2: float = setting(0.95, "AdamW's second-moment decay.", minimum=0.0, maximum=0.99999)
    clip: float = setting(1.0, "Largest gradient norm.", minimum=0.0)
    precision: str = setting(
        "bf16", "Arithmetic of the forward pass: bf16 autocast or full fp32.", choices=("bf16", "fp32")
    )
    save_steps: tuple[int, ...] = setting(
        (
            0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512,
            640, 768, 896, 1024, 1200, 1408, 1600, 1800, 2000,
        ),
        "Steps at which weights are saved: more than a study needs, so that snapshots can be added without training again.",
        unit="training steps",
        minimum=0,
        unique=True,
    )  # fmt: skip
    checkpoint_every: int = setting(
        100, "How often training can be resumed from after a kill.", unit="training steps", minimum=1
    )
    seed: int = setting(0, "Seed of initialisation and data order.", minimum=0)
