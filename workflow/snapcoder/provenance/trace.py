"""Tell how a file came to be, as a tree that ends at the roots: packages, files given by the user, seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snapcoder.provenance.record import origins, read_records, relative
from snapcoder.storage.hashing import json_sha256


def trace_file(path: Path, root: Path) -> list[str]:
    """Return the lines of the tree of `path`; raises ValueError when no record of the study knows the file."""
    records = read_records(root)
    by_id = {record["id"]: record for record in records.values()}
    known = origins(records)
    place = relative(path, root)
    if place not in known:
        raise ValueError(f"{path}: no record in {root / 'provenance'} knows this file; run `snapcoder audit {root}`")
    lines = [f"{place}  sha256 {known[place].sha256[:12]}"]
    _describe(by_id[known[place].record], by_id, lines, indent="", seen=set())
    return lines


def _describe(
    record: Mapping[str, Any], by_id: Mapping[str, Any], lines: list[str], *, indent: str, seen: set[str]
) -> None:
    core, run = record["core"], record.get("run", {})
    git = run.get("git") or {}
    commit = f"{git['commit'][:10]}{'+changes' if git.get('dirty') else ''}" if git else "no git"
    lines.append(
        f"{indent}└─ {core['step']}  record {record['id'][:12]}  code {core['code']} ({commit})  "
        f"settings {json_sha256(core['settings'])[:8]}  {run.get('started', '')} on {run.get('host', '?')}, {run.get('seconds', 0):.1f} s"
    )
    if record["id"] in seen:
        if core["inputs"]:
            lines.append(f"{indent}     … as above")
        return
    seen.add(record["id"])
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for given in core["inputs"]:
        groups.setdefault(given["record"] or given["path"], []).append(given)
    for key, group in groups.items():
        names = ", ".join(item["path"] for item in group[:3]) + (f" … ({len(group)} files)" if len(group) > 3 else "")
        lines.append(f"{indent}   ├ {group[0]['name']}: {names}  sha256 {group[0]['sha256'][:12]}")
        if key in by_id:
            _describe(by_id[key], by_id, lines, indent=f"{indent}   │  ", seen=seen)
        else:
            lines.append(f"{indent}   │  └─ given from outside the study")
    if not core["inputs"]:
        facts = ", ".join(f"{key}={value}" for key, value in core["settings"].items() if isinstance(value, str | int))
        lines.append(f"{indent}   ├ root: {facts or 'settings only'}")
