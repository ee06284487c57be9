"""Step `complexity`: what kind of detector each feature is, and how much context it needs."""

from snapcoder.features.complexity import BYTES_PER_ENTRY, complexity_table
from snapcoder.features.token_text import token_strings
from snapcoder.job import Job
from snapcoder.storage.code_columns import iterate_columns
from snapcoder.storage.codes import read_code_rows
from snapcoder.storage.tables import read_table, write_table
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.analysis import FeatureSettings
from snapcoder.tables.features import COMPLEXITY


def complexity(job: Job) -> None:
    """Write tables/block{layer}/complexity.parquet, a chunk of features at a time."""
    settings = job.section("features", FeatureSettings)
    tokens = read_tokens(job.path("tokens"))
    texts = token_strings(job.path("tokenizer"), vocab_size=tokens.vocab_size)
    codes = job.path("codes")
    chunks = iterate_columns(codes, memory_gb=settings.memory_gb, bytes_per_entry=BYTES_PER_ENTRY)
    table = complexity_table(chunks, read_code_rows(codes), tokens, texts, layer=job.value("layer"))
    windows = read_table(job.path("windows"), columns=["feature", "window"]).set_index("feature")["window"]
    table["context_window"] = table["feature"].map(windows)
    write_table(job.output("table"), table, COMPLEXITY, job.core)
