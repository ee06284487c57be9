"""Settings of the activation caches."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class ActivationSettings:
    """Which activations are cached, of which tokens."""

    layers: tuple[int, ...] = setting(
        (2,),
        "Blocks whose output (the residual stream after the block) is cached, counted from 0.",
        unit="block index",
        minimum=0,
        unique=True,
    )
    tokens: int = setting(
        100_000, "Rows cached from training documents; the dictionary learns on these.", unit="tokens", minimum=1_000
    )
    heldout_tokens: int = setting(
        20_000, "Rows cached from held-out documents; every score is taken on these.", unit="tokens", minimum=500
    )
    skip_positions: int = setting(
        1, "First positions of each sequence that are left out (attention sinks).", unit="tokens", minimum=0
    )
    skip_special: bool = setting(True, "Leave out the end-of-text token.")
    dtype: str = setting(
        "float16",
        "Type on disk. bfloat16 is stored as its uint16 bit pattern.",
        choices=("float16", "float32", "bfloat16"),
    )
    batch_size: int = setting(128, "Sequences per forward pass.", unit="sequences", minimum=1)
    seed: int = setting(0, "Seed of the choice of sequences.", minimum=0)
