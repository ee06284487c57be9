"""Read the provenance that our writers embed in the files themselves."""

import html
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def embedded_provenance(path: str | Path) -> Mapping[str, Any] | None:
    """Return the deterministic half of the record that a file carries, or None for formats that cannot carry one.

    Knows HDF5, parquet, safetensors, JSON, PNG, SVG and HTML; for other formats the sidecar record alone speaks.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix)
    text = reader(path) if reader else None
    return json.loads(text) if text else None


def _hdf5(path: Path) -> str | None:
    import h5py  # here: most commands that read provenance never see an HDF5 file

    with h5py.File(path, "r") as file:
        return str(file.attrs["provenance"]) if "provenance" in file.attrs else None


def _parquet(path: Path) -> str | None:
    import pyarrow.parquet as pq

    text = (pq.read_schema(path).metadata or {}).get(b"snapcoder.provenance")
    return text.decode() if text else None


def _safetensors(path: Path) -> str | None:
    with path.open("rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        header = json.loads(handle.read(length))
    facts = json.loads(header.get("__metadata__", {}).get("snapcoder", "{}"))
    return json.dumps(facts["provenance"]) if "provenance" in facts else None


def _json(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return None
    return json.dumps(content["provenance"]) if isinstance(content, dict) and "provenance" in content else None


def _png(path: Path) -> str | None:
    data = path.read_bytes()
    place = 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind == b"tEXt" and body.startswith(b"provenance\0"):
            return body.split(b"\0", 1)[1].decode("latin-1")
        if kind == b"iTXt" and body.startswith(b"provenance\0"):
            return body.split(b"\0", 5)[5].decode("utf-8")
        place += 12 + length
    return None


def _svg(path: Path) -> str | None:
    return _between(path, r"<dc:description>(.*?)</dc:description>")


def _html(path: Path) -> str | None:
    return _between(path, r'<meta name="provenance" content="(.*?)">')


def _between(path: Path, pattern: str) -> str | None:
    found = re.search(pattern, path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return html.unescape(found.group(1)) if found else None


_READERS = {
    ".h5": _hdf5,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
    ".json": _json,
    ".png": _png,
    ".svg": _svg,
    ".html": _html,
}
