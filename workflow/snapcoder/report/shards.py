"""Data as scripts: a page opened from disk may load scripts, but not files."""

from typing import Any

from snapcoder.storage.hashing import canonical_json

PER_SHARD = 100  # cards in one file
_NEUTRAL = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def script_json(value: Any) -> str:
    """Return JSON that is also JavaScript and can close no tag, wherever it ends up."""
    text = canonical_json(value)
    for character, escaped in _NEUTRAL.items():
        text = text.replace(character, escaped)
    return text


def shard_numbers(features: list[int]) -> dict[int, int]:
    """Return for each feature, in order, the number of the file that holds its card."""
    return {feature: place // PER_SHARD for place, feature in enumerate(features)}


def summary_script(summary: dict[str, Any]) -> str:
    """Return the script that hands the page what it needs at once."""
    return f"window.snapcoder = {script_json(summary)};\n"


def card_scripts(cards: dict[int, dict[str, Any]], shard_of: dict[int, int]) -> dict[str, str]:
    """Return file name → script, for every shard of cards; the page loads them when a card is opened."""
    shards: dict[int, dict[str, Any]] = {}
    for feature, card in cards.items():
        shards.setdefault(shard_of[feature], {})[str(feature)] = card
    return {
        f"cards-{number:02d}.js": f"window.snapcoder.receive({number}, {script_json(shard)});\n"
        for number, shard in sorted(shards.items())
    }
