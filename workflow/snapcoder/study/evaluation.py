"""Settings of what the dictionary costs the model, and of an external harness."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class HarnessSettings:
    """Scoring snapshots with lm-evaluation-harness; nothing runs as long as no task is named."""

    tasks: tuple[str, ...] = setting(
        (),
        "Tasks of lm-evaluation-harness that every snapshot is scored on (pip install '.[lm-eval]'); empty: none.",
        unique=True,
    )
    include_path: str | None = setting(None, "A folder with task files (YAML) of your own for the harness.")
    num_fewshot: int | None = setting(
        None, "Examples shown before each question; empty: as each task says.", unit="examples", minimum=0
    )
    limit: int | None = setting(None, "Questions asked per task; empty: all.", unit="questions", minimum=1)
    batch_size: int = setting(16, "Requests per forward pass.", unit="requests", minimum=1)
    seed: int = setting(0, "Seed of few-shot examples and of the harness's bootstraps.", minimum=0)


@dataclass(frozen=True)
class EvaluationSettings:
    """What the dictionary keeps of what the model uses, and scores by an external harness."""

    sequences: int = setting(
        96,
        "Cached held-out sequences that are read through the reconstruction in place of the activations.",
        unit="sequences",
        minimum=2,
    )
    bootstrap: int = setting(200, "Bootstrap draws over documents.", unit="draws", minimum=20)
    seed: int = setting(0, "Seed of bootstraps and of the choice of sequences.", minimum=0)
    harness: HarnessSettings = setting(HarnessSettings, "lm-evaluation-harness.")
