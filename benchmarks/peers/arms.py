"""Who runs at which size, and what a reader of the table must know about each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ArmEntry:
    """worker: file name without `_worker.py`; own: runs in Snapcoder's environment, not the peers'; lr: learning rate.

    peer: the arm takes part in the comparison of peers; note: what the arm is.
    """

    name: str
    worker: str
    variant: str
    note: str
    lr: float = 2e-3
    own: bool = False
    peer: bool = True


PRODUCTS = (
    ArmEntry("product fp32", "encoder_product", "fp32", "", own=True, peer=False),
    ArmEntry("product bf16", "encoder_product", "bf16", "", own=True, peer=False),
)
"""The bare encoder product; it has no row of its own but is what a step is held against."""

SNAPCODER = ArmEntry(
    "snapcoder",
    "snapcoder",
    "constant",
    "Default arm (BatchTopK, one gate per snapshot) with a constant k and learning rate, as the other arms have them.",
    own=True,
    peer=False,
)
SNAPCODER_ARMS = (
    SNAPCODER,
    ArmEntry(
        "snapcoder, one gate",
        "snapcoder",
        "shared",
        "The same with one gate for all snapshots, as the dictionary_learning fork has it.",
        own=True,
        peer=False,
    ),
    ArmEntry(
        "snapcoder, default recipe",
        "snapcoder",
        "schedule",
        "The default recipe of a study as long as the column 'EV after steps' says: k falls from four times its value, the "
        "learning rate falls at the end, so early steps do more work.",
        lr=4e-3,
        own=True,
        peer=False,
    ),
)
DENSE = ArmEntry(
    "dense BatchTopK (stand-in)",
    "dense_batchtopk",
    "batchtopk",
    "A dense autograd step of the mathematics of the dictionary_learning fork's BatchTopK crosscoder, which no package "
    "index has. Not the fork's code: one matrix product encodes all snapshots.",
)
_LLAMASCOPIUM = (
    "The package's model, initialiser, loss, clipping, Adam and schedule in the order of Trainer.fit. Needed to make it "
    "step on a CPU: fit's loop written out (fit asks every batch for a mask, and with a mask the crosscoder's loss stops "
    "with an error), norm_activation='inference' (rows are scaled already), no metrics, "
    "lr_cool_down_steps=1 (0 divides by zero). "
)
LLAMASCOPIUM_ARMS = (
    ArmEntry(
        "llamascopium JumpReLU fp32",
        "llamascopium",
        "jumprelu",
        _LLAMASCOPIUM + "JumpReLU with the tanh penalty (λ 0.3, window 4), no autocast.",
    ),
    ArmEntry(
        "llamascopium JumpReLU bf16",
        "llamascopium",
        "jumprelu_bf16",
        "The same under bf16 autocast, the Trainer's default.",
    ),
    ArmEntry(
        "llamascopium BatchTopK bf16",
        "llamascopium",
        "batchtopk_bf16",
        "The same package with its BatchTopK activation and no penalty: its L0 is k from the first step on.",
    ),
)
SINGLE_ARMS = (
    SNAPCODER,
    DENSE,
    ArmEntry(
        "SAELens BatchTopK",
        "sae_lens",
        "batchtopk",
        "BatchTopKTrainingSAE of one snapshot under its own SAETrainer.step.",
    ),
    ArmEntry(
        "sparsify TopK",
        "sparsify",
        "topk",
        "EleutherAI's SparseCoder (TopK per token) of one snapshot with Adam; its Trainer wants a language model, so the "
        "part of its loop that trains is written out. Triton decoding has no CPU form; it takes its eager one.",
    ),
)


def arms_of(size: str, n_snapshots: int) -> tuple[ArmEntry, ...]:
    """Return the arms that run at a size: crosscoders, or autoencoders where there is one snapshot."""
    if size == "toy":
        return (SNAPCODER, DENSE)
    return SINGLE_ARMS if n_snapshots == 1 else (*SNAPCODER_ARMS, DENSE, *LLAMASCOPIUM_ARMS)
