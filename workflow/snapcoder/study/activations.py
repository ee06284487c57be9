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
    mode: str = setting(
        "cache",
        "What the dictionary learns on. cache: the cached rows; stream: stream_tokens rows whose forward passes the trainer runs itself, so that only a small sample needs to be cached.",
        choices=("cache", "stream"),
    )
    stream_tokens: int = setting(
        1_000_000,
        "stream: rows from training documents that the dictionary learns on, none of them written to disk.",
        unit="tokens",
        minimum=1_000,
    )
    tokens: int = setting(
        100_000,
        "Rows cached from training documents: the dictionary learns on these (cache), or they are the sample that sets the scales and that every analysis reads (stream).",
        unit="tokens",
        minimum=1_000,
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
        "Type on disk and in memory while a dictionary is trained. int8: one byte per value, with a step per row and units per dimension; bfloat16: as its uint16 bit pattern, for values too large for float16.",
        choices=("float16", "float32", "bfloat16", "int8"),
    )
    batch_size: int = setting(128, "Sequences per forward pass.", unit="sequences", minimum=1)
    seed: int = setting(0, "Seed of the choice of sequences.", minimum=0)
