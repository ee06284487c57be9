"""Step `logits`: the tokens that each feature promotes and suppresses, at its onset and at the end."""

from pathlib import Path

from snapcoder.features.logits import Readout, feature_logits, read_moments, read_out
from snapcoder.features.token_text import token_strings
from snapcoder.job import Job
from snapcoder.storage.checkpoint_tensors import open_checkpoint
from snapcoder.storage.dictionaries import read_dictionary
from snapcoder.storage.json_file import read_json
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import FeatureSettings
from snapcoder.tables.features import FEATURE_LOGITS


def logits(job: Job) -> None:
    """Write tables/block{layer}/feature_logits.parquet."""
    settings = job.section("features", FeatureSettings)
    dictionary = read_dictionary(job.path("dictionary"))
    timing = read_table(job.path("timing"), columns=["feature", "onset_hi", "act_max"])
    files = checkpoint_files(job.paths("facts"))

    def readout_at(step: int) -> Readout:
        if step not in files:
            raise ValueError(
                f"snapshot {step} is in {job.path('dictionary')} but has no snapshot.json among the inputs"
            )
        tensors = open_checkpoint(files[step])
        return read_out(tensors.entries, tensors.read, where=str(files[step][0].parent))

    table = feature_logits(
        dictionary,
        read_moments(timing, dictionary.steps),
        readout_at,
        token_strings(job.path("tokenizer")),
        layer=job.value("layer"),
        n_listed=settings.logits,
    )
    write_table(job.output("table"), table, FEATURE_LOGITS, job.core)


def checkpoint_files(facts: tuple[Path, ...]) -> dict[int, list[Path]]:
    """Return the safetensors files of each snapshot, by training step, from the snapshots' facts."""
    files = {}
    for path in facts:
        content = read_json(path)
        folder = path.parent / content["folder"]  # an absolute folder stands for itself
        files[int(content["step"])] = sorted(
            folder / name for name in content["files"] if name.endswith(".safetensors")
        )
        if not files[int(content["step"])]:
            raise ValueError(f"{path}: lists no safetensors file; write the checkpoint with safetensors")
    return files
