"""JSON files that carry their provenance as a top-level key."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snapcoder.storage.atomic import write_text


def write_json(path: str | Path, content: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Write `content` with the key `provenance` added, sorted and indented, so that equal content gives equal bytes."""
    text = json.dumps(
        {**content, "provenance": provenance}, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False
    )
    write_text(path, text + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object; raise ValueError in one line when the file is not one."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error.msg}, line {error.lineno})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return content
