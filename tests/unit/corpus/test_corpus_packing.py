import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.corpus.packing import is_held_out, order_documents, pack
from snapcoder.corpus.sources import Document
from snapcoder.corpus.tokenizer import load_tokenizer, train_tokenizer
from snapcoder.storage.tokens import HELDOUT, TRAIN

END = "<|endoftext|>"
DOCUMENTS = [
    Document(f"d{n}", "test", f"The king of house {n} saw his city and left it. " * (n % 5 + 2)) for n in range(60)
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer((document.text for document in DOCUMENTS), vocab_size=280, end_of_text=END)


def test_the_order_does_not_depend_on_how_documents_came():
    assert order_documents(DOCUMENTS) == order_documents(reversed(DOCUMENTS))
    assert order_documents(DOCUMENTS, limit=5) == order_documents(DOCUMENTS)[:5]


def test_documents_with_the_same_id_are_refused():
    with pytest.raises(ValueError, match="d3: two documents have this id"):
        order_documents([*DOCUMENTS, DOCUMENTS[3]])


def test_adding_documents_moves_none_to_the_other_side():
    before = {document.id: is_held_out(document, 0.2) for document in DOCUMENTS}
    assert 0 < sum(before.values()) < 30
    assert {document.id: is_held_out(document, 0.2) for document in reversed(DOCUMENTS)} == before


def test_windows_hold_the_documents_in_order_and_know_their_owner(tokenizer):
    documents = order_documents(DOCUMENTS)
    table, frame = pack(documents, tokenizer, context_length=16, held_out=0.2, end_of_text=END)
    for split in (TRAIN, HELDOUT):
        stream = table.tokens[table.split == split].ravel()
        owner = table.doc[table.split == split].ravel()
        for number, document in enumerate(documents):
            ids = stream[owner == number]
            if is_held_out(document, 0.2) != (split == HELDOUT):
                assert len(ids) == 0
            elif len(ids) and owner[-1] != number:  # the last document of a split may be cut off
                assert ids[-1] == table.end_of_text
                assert tokenizer.decode(ids[:-1].tolist()) == document.text
    assert set(frame.loc[frame["split"] == "heldout", "doc"]) >= set(table.doc[table.split == HELDOUT].ravel())
    assert table.tokens.dtype == np.uint16


def test_the_table_is_the_same_twice(tokenizer):
    tables = [pack(DOCUMENTS, tokenizer, context_length=16, held_out=0.2, end_of_text=END)[0] for _ in range(2)]
    assert tables[0].sha256 == tables[1].sha256


def test_a_split_without_a_window_is_refused(tokenizer):
    with pytest.raises(ValueError, match="fewer than one sequence of 5000"):
        pack(DOCUMENTS, tokenizer, context_length=5000, held_out=0.2, end_of_text=END)


@settings(max_examples=50, deadline=None)
@given(text=st.text(min_size=1, max_size=60))
def test_any_text_survives_the_tokenizer(tokenizer, text):
    text = text.encode("utf-8", "ignore").decode()
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.token_to_id(END) == 0


def test_a_given_tokenizer_is_checked(tmp_path, tokenizer):
    (tmp_path / "t.json").write_text(tokenizer.to_str())
    assert load_tokenizer(tmp_path / "t.json", end_of_text=END).get_vocab_size() == tokenizer.get_vocab_size()
    with pytest.raises(ValueError, match="has no token '</s>'"):
        load_tokenizer(tmp_path / "t.json", end_of_text="</s>")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bad\.json: not a tokenizer"):
        load_tokenizer(tmp_path / "bad.json", end_of_text=END)
