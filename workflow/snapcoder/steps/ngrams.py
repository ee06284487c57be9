"""Step `ngrams`: count and smooth the n-grams of the training text, and score them on held-out text."""

import numpy as np

from snapcoder.job import Job
from snapcoder.ngram_fitting import fit_smoothings, ngram_entropies
from snapcoder.storage.ngrams import write_ngrams
from snapcoder.storage.tables import write_table
from snapcoder.storage.tokens import HELDOUT, TRAIN, read_tokens
from snapcoder.study.corpus import NgramSettings
from snapcoder.tables.corpus import NGRAM_ENTROPY


def ngrams(job: Job) -> None:
    """Write corpus/ngrams.h5 and the table ngram_entropy."""
    settings = job.section("ngrams", NgramSettings)
    table = read_tokens(job.path("tokens"))
    train, heldout = table.sequences(TRAIN), table.sequences(HELDOUT)
    model, mixed, padded = fit_smoothings(
        table.tokens[train], table.doc[train], vocab_size=table.vocab_size, fit_share=settings.fit_share
    )
    entropies = ngram_entropies(
        model,
        table.tokens[heldout],
        table.doc[heldout],
        others={"jelinek_mercer": mixed, "add_k": padded},
        draws=settings.bootstrap,
        generator=np.random.default_rng(0),
    )
    write_ngrams(job.output("model"), model, job.core)
    write_table(job.output("table"), entropies, NGRAM_ENTROPY, job.core)
