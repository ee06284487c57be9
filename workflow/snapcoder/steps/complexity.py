"""Step `complexity`: what kind of detector each feature is, and how much context it needs."""

from snapcoder.features.complexity import complexity_table
from snapcoder.features.token_text import token_strings
from snapcoder.job import Job
from snapcoder.storage.codes import read_codes
from snapcoder.storage.tables import write_table
from snapcoder.storage.tokens import read_tokens
from snapcoder.tables.features import COMPLEXITY


def complexity(job: Job) -> None:
    """Write tables/block{layer}/complexity.parquet."""
    codes = read_codes(job.path("codes"))
    tokens = read_tokens(job.path("tokens"))
    texts = token_strings(job.path("tokenizer"), vocab_size=tokens.vocab_size)
    table = complexity_table(codes.z, codes.rows, tokens, texts, layer=job.value("layer"))
    write_table(job.output("table"), table, COMPLEXITY, job.core)
