"""Tokens as text that is safe to show: spaces kept as they are, broken UTF-8 spelled out byte by byte."""

import json
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer


def token_strings(path: str | Path, *, vocab_size: int | None = None) -> list[str]:
    """Return the text of every token of a tokenizer.json, by token id.

    A token of a byte-level vocabulary that is not whole UTF-8 (part of a character), or holds control characters
    other than line ends and tabs, becomes its bytes, as in `<0xE2 0x80>`. Ids without a token become `<id 17>`;
    `vocab_size` extends the list, as for models with padded embeddings.
    """
    tokenizer = Tokenizer.from_file(str(path))
    described = json.loads(tokenizer.to_str())
    byte_level = "ByteLevel" in json.dumps(described.get("decoder")) + json.dumps(described.get("pre_tokenizer"))
    added = {entry["id"] for entry in described.get("added_tokens") or []}
    pieces = {index: piece for piece, index in tokenizer.get_vocab(with_added_tokens=True).items()}
    size = max(max(pieces, default=-1) + 1, vocab_size or 0)
    bytes_of = byte_level_alphabet() if byte_level else {}
    texts = []
    for index in range(size):
        piece = pieces.get(index)
        if piece is None:
            texts.append(f"<id {index}>")
        elif index in added:
            texts.append(piece)
        else:
            texts.append(_byte_level_text(piece, bytes_of) if byte_level else piece.replace("▁", " "))
    return texts


def byte_level_alphabet() -> dict[str, int]:
    """Return the byte behind each character of a byte-level vocabulary (the table of GPT-2).

    Printable Latin-1 characters stand for themselves; the other bytes follow, in order, from U+0100 on.
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in plain}
    shifted = [byte for byte in range(256) if byte not in set(plain)]
    return table | {chr(256 + place): byte for place, byte in enumerate(shifted)}


def _byte_level_text(piece: str, bytes_of: dict[str, int]) -> str:
    if any(character not in bytes_of for character in piece):
        return piece  # not made of the byte alphabet, so it is text already
    raw = bytes(bytes_of[character] for character in piece)
    spelled = "<" + " ".join(f"0x{byte:02X}" for byte in raw) + ">"
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return spelled
    control = any(unicodedata.category(character) == "Cc" and character not in "\n\t" for character in text)
    return spelled if control else text
