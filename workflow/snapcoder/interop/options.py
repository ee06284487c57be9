"""What a user may say about a dictionary that its file does not."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImportOptions:
    """What the user says because the file does not; None leaves it to the file.

    steps: training step of each snapshot, in the file's order; layer: block; norms: mean activation norm of each
    snapshot, or "raw" for a dictionary that reads unscaled activations; folds: how often its biases were folded;
    threshold: of a batchtopk dictionary that stores none, in the file's own units.
    """

    steps: tuple[int, ...] | None = None
    layer: int | None = None
    norms: tuple[float, ...] | str | None = None
    folds: int | None = None
    threshold: float | None = None
