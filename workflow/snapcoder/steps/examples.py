"""Step `examples`: the rows that make each feature fire most, with their context and their history."""

from functools import partial

from snapcoder.features.examples import BYTES_PER_ENTRY, Source, bytes_per_feature, feature_examples
from snapcoder.features.token_text import token_strings
from snapcoder.job import Job
from snapcoder.storage.code_columns import iterate_columns, read_columns
from snapcoder.storage.codes import read_code_rows, read_codes_header
from snapcoder.storage.dictionaries import read_extension, read_gates
from snapcoder.storage.tables import write_table_parts
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.analysis import FeatureSettings
from snapcoder.tables.features import FEATURE_EXAMPLES


def examples(job: Job) -> None:
    """Write tables/block{layer}/feature_examples.parquet, a chunk of features at a time."""
    settings = job.section("features", FeatureSettings)
    codes, tokens = job.path("codes"), read_tokens(job.path("tokens"))
    coded = read_codes_header(codes)
    added = []
    for extension, own in zip(job.paths("extensions"), job.paths("extension_codes"), strict=True):
        if read_codes_header(own).rows_sha256 != coded.rows_sha256:
            raise ValueError(f"{own}: holds other rows than {codes}; delete it and rerun")
        added.append((read_extension(extension).step, partial(read_columns, own)))
    source = Source(
        rows=read_code_rows(codes),
        tokens=tokens,
        texts=token_strings(job.path("tokenizer"), vocab_size=tokens.vocab_size),
        gates=read_gates(job.path("dictionary")),
        added=added,
        layer=job.value("layer"),
    )
    shown = {"top": settings.top, "quantiles": settings.quantiles, "context": settings.context}
    chunks = iterate_columns(
        codes,
        memory_gb=settings.memory_gb,
        bytes_per_entry=BYTES_PER_ENTRY,
        bytes_per_feature=bytes_per_feature(**shown),
    )
    write_table_parts(job.output("table"), feature_examples(chunks, source, **shown), FEATURE_EXAMPLES, job.core)
