"""Step `examples`: the rows that make each feature fire most, with their context and their history."""

from scipy.sparse import csc_array

from snapcoder.features.examples import feature_examples
from snapcoder.features.token_text import token_strings
from snapcoder.job import Job
from snapcoder.storage.codes import Codes, read_codes
from snapcoder.storage.dictionaries import read_dictionary, read_extension
from snapcoder.storage.tables import write_table
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.analysis import FeatureSettings
from snapcoder.tables.features import FEATURE_EXAMPLES


def examples(job: Job) -> None:
    """Write tables/block{layer}/feature_examples.parquet."""
    settings = job.section("features", FeatureSettings)
    codes = read_codes(job.path("codes"))
    tokens = read_tokens(job.path("tokens"))
    table = feature_examples(
        codes.by_feature(),
        codes.rows,
        tokens,
        read_dictionary(job.path("dictionary")),
        token_strings(job.path("tokenizer"), vocab_size=tokens.vocab_size),
        added=_added(job, codes),
        layer=job.value("layer"),
        top=settings.top,
        quantiles=settings.quantiles,
        context=settings.context,
    )
    write_table(job.output("table"), table, FEATURE_EXAMPLES, job.core)


def _added(job: Job, codes: Codes) -> list[tuple[int, csc_array]]:
    added = []
    for extension, path in zip(job.paths("extensions"), job.paths("extension_codes"), strict=True):
        own = read_codes(path)
        if own.rows.sha256 != codes.rows.sha256:
            raise ValueError(f"{path}: holds other rows than {job.path('codes')}; delete it and rerun")
        added.append((read_extension(extension).step, own.by_feature()))
    return added
