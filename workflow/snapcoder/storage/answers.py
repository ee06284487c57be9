"""Answers of a language model, one file per request, named by the request's hash: nothing is asked twice."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snapcoder.storage.atomic import write_text
from snapcoder.storage.hashing import json_sha256


def request_hash(request: Mapping[str, Any]) -> str:
    """Return the hash of all that an answer depends on: model, messages and parameters."""
    return json_sha256(dict(request))


def cached_answer(folder: Path, request: Mapping[str, Any]) -> Any | None:
    """Return the kept answer to a request, or None; a file that does not hold this request counts as none."""
    path = folder / f"{request_hash(request)}.json"
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return kept["answer"] if isinstance(kept, dict) and kept.get("request") == dict(request) else None


def keep_answer(folder: Path, request: Mapping[str, Any], answer: Any) -> None:
    """Keep an answer atomically, beside the request that it answers."""
    text = json.dumps({"answer": answer, "request": dict(request)}, sort_keys=True, indent=1, ensure_ascii=False)
    write_text(folder / f"{request_hash(request)}.json", text + "\n")


def is_answer(path: Path) -> bool:
    """Return whether a file is an answer under the name of its own request: what an audit asks."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return path.stem == request_hash(kept["request"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return False
