"""Step `context_length`: how many tokens of context each feature needs, by running the snapshots on cut contexts."""

import logging
from pathlib import Path

import numpy as np
import torch

from snapcoder.capture.last_token import last_activations, positions_matter
from snapcoder.capture.truncated import TruncatedSnapshots
from snapcoder.features.context_length import (
    activity_floor,
    choose_ends,
    context_length_table,
    context_windows,
    measured_features,
    rerun_error,
)
from snapcoder.features.examples import BYTES_PER_ENTRY
from snapcoder.job import Job
from snapcoder.storage.code_columns import iterate_columns
from snapcoder.storage.codes import read_code_rows, read_codes_header
from snapcoder.storage.dictionaries import DictionaryParts, open_dictionary, read_gates
from snapcoder.storage.json_file import read_json
from snapcoder.storage.tables import write_table
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.context import ContextSettings
from snapcoder.tables.features import CONTEXT_LENGTH

logger = logging.getLogger(__name__)

CHECKED = 32  # whole contexts that are run again, to see that they give the stored code
TOLERANCE = 0.05  # median relative difference; storing activations as float16 or int8 explains that much


def context_length(job: Job) -> None:
    """Write tables/block{layer}/context_length.parquet."""
    settings, layer = job.section("context", ContextSettings), int(job.value("layer"))
    codes, tokens, dictionary = (
        job.path("codes"),
        read_tokens(job.path("tokens")),
        open_dictionary(job.path("dictionary")),
    )
    rng = np.random.default_rng(settings.seed)
    ends = choose_ends(
        iterate_columns(codes, memory_gb=settings.memory_gb, bytes_per_entry=BYTES_PER_ENTRY),
        read_code_rows(codes),
        features=measured_features(read_codes_header(codes).feature_entries, most=settings.max_features, rng=rng),
        examples=settings.examples,
        longest=max(settings.suffixes),
    )
    code = SharedCode(job.paths("facts"), dictionary, memory_gb=settings.memory_gb)
    error = rerun_error(ends.of(np.sort(rng.permutation(len(ends))[:CHECKED])), tokens, code)
    if error > TOLERANCE:
        raise ValueError(
            f"{codes}: the snapshots give other codes on the same tokens (median difference {error:.0%}); "
            "delete the caches and codes of this layer and rerun"
        )
    found = context_windows(
        ends,
        tokens,
        code,
        activity_floor(read_gates(job.path("dictionary"))),
        suffixes=settings.suffixes,
        share=settings.share,
        front=settings.front,
        positions_matter=code.positions_matter,
    )
    logger.info("context_length: %d contexts, %.1f M tokens run", len(ends), code.n_tokens / 1e6)
    write_table(job.output("table"), context_length_table(ends, found, layer=layer), CONTEXT_LENGTH, job.core)


class SharedCode:
    """The shared code at the last token of contexts, from all base snapshots, one model after another."""

    def __init__(self, facts: tuple[Path, ...], dictionary: DictionaryParts, *, memory_gb: float) -> None:
        known = {
            int(content["step"]): path.parent / content["folder"] for path in facts for content in [read_json(path)]
        }
        missing = sorted(set(dictionary.steps) - set(known))
        if missing:
            raise ValueError(f"{dictionary.path}: snapshots {missing} have no snapshot.json among the inputs")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dictionary, self.bias, self.n_tokens = dictionary, dictionary.encoder_bias(), 0
        folders = [known[step] for step in dictionary.steps]
        memory = int(memory_gb * 2**30)
        self.snapshots = TruncatedSnapshots.open(
            folders, layer=dictionary.layer, device=self.device, memory_bytes=memory
        )
        self.positions_matter = positions_matter(next(iter(self.snapshots)), layer=dictionary.layer, device=self.device)

    def __call__(
        self, tokens: np.ndarray, positions: np.ndarray, context: np.ndarray, feature: np.ndarray
    ) -> np.ndarray:
        """Return z [pair]; tokens, positions [context, place]; context, feature [pair]. See `features.context_length.Encode`."""
        places = positions if self.positions_matter else None
        pair, z = torch.from_numpy(context).to(self.device), torch.from_numpy(self.bias[feature]).to(self.device)
        for index, model in enumerate(self.snapshots):
            activation = last_activations(model, tokens, places, layer=self.dictionary.layer, device=self.device)
            part = self.dictionary.encoder(index)
            x = (activation - torch.from_numpy(part.center).to(self.device)) * part.scale
            weights = torch.from_numpy(np.ascontiguousarray(part.encoder[:, feature].T)).to(
                self.device
            )  # [pair, model]
            z = z + (x[pair] * weights).sum(dim=1)
            self.n_tokens += tokens.size
        return z.cpu().numpy()
