"""Step `ngram_text`: sample text from the n-gram models, once for all snapshots."""

from snapcoder.job import Job
from snapcoder.phases.ngram_text import sample_ngram_text
from snapcoder.storage.ngram_text import write_ngram_text
from snapcoder.storage.ngrams import read_ngrams
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.analysis import BehaviourSettings


def ngram_text(job: Job) -> None:
    """Write corpus/ngram_text.h5: sequences of the unigram, the bigram and the trigram model."""
    settings = job.section("behaviour", BehaviourSettings)
    table = read_tokens(job.path("tokens"))
    text = sample_ngram_text(
        read_ngrams(job.path("ngrams")),
        sequences=settings.text_sequences,
        length=table.context_length,
        end_of_text=table.end_of_text,
        seed=settings.seed,
    )
    write_ngram_text(job.output("text"), text, job.core)
