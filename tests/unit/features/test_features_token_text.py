"""Token texts: spaces visible, broken characters spelled out."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from snapcoder.features.token_text import byte_level_alphabet, token_strings


@pytest.fixture
def byte_level(tmp_path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat and the dog — “the end”\n"] * 20, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_the_alphabet_is_that_of_the_tokenizers_library():
    table = byte_level_alphabet()
    assert set(table) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(table.values()) == list(range(256))
    assert table["Ġ"] == ord(" ")
    assert table["Ċ"] == ord("\n")


def test_whole_tokens_read_as_the_library_decodes_them_and_keep_their_space(byte_level):
    texts, tokenizer = token_strings(byte_level), Tokenizer.from_file(str(byte_level))
    assert " the" in texts
    assert "\n" in texts
    assert texts[0] == "<|endoftext|>"
    for index, text in enumerate(texts):
        decoded = tokenizer.decode([index], skip_special_tokens=False)
        assert text == decoded or "\ufffd" in decoded or not decoded.isprintable()


def test_a_part_of_a_character_is_spelled_out_in_bytes(byte_level):
    texts = token_strings(byte_level)
    assert "<0xE2>" in texts
    assert not any("\ufffd" in text for text in texts)
    assert all(text.encode("utf-8").decode("utf-8") == text for text in texts)


def test_control_characters_are_spelled_out_and_line_ends_are_not(byte_level):
    texts = token_strings(byte_level)
    assert {"<0x00>", "<0x0D>", "<0x7F>", "\n", "\t"} <= set(texts)
    assert not any(mark in text for text in texts for mark in ("\x00", "\x1b", "\r", "\x7f"))


def test_ids_without_a_token_are_named_by_number(byte_level):
    texts = token_strings(byte_level, vocab_size=400)
    assert len(texts) == 400
    assert texts[399] == "<id 399>"


def test_a_sentencepiece_vocabulary_shows_its_spaces(tmp_path):
    tokenizer = Tokenizer(models.BPE(vocab={"▁the": 0, "re": 1}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["decoder"]["type"] == "Metaspace"
    assert token_strings(tmp_path / "tokenizer.json") == [" the", "re"]
