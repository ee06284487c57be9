"""Walk the chain of records of a study and name every file that is altered, missing or stale."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snapcoder.provenance.embedded import embedded_provenance
from snapcoder.provenance.fingerprint import step_fingerprint
from snapcoder.provenance.record import record_paths, relative
from snapcoder.storage.answers import is_answer
from snapcoder.storage.hashing import file_sha256, json_sha256

ALTERED, MISSING, STALE, UNRECORDED = "altered", "missing", "stale", "unrecorded"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what kind, with which file, and why."""

    kind: str
    path: str
    why: str


@dataclass(frozen=True)
class Audit:
    """The outcome: how many records and files were checked, and everything found."""

    n_records: int
    n_files: int
    n_bytes: int
    findings: tuple[Finding, ...]


def audit_study(root: Path, *, planned_settings: Callable[[Mapping[str, Any], str], str | None] | None = None) -> Audit:
    """Re-hash every recorded file of the study in `root` and follow every input to its producer.

    `planned_settings(core, record path)` returns the settings JSON that the configuration would give the job today,
    or None when it plans no such job; without it settings are not compared.
    """
    findings: list[Finding] = []
    records: dict[str, dict[str, Any]] = {}
    for path in record_paths(root):
        place = relative(path, root)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            records[place] = {"core": record["core"], "id": record["id"], "files": record["files"]}
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
            findings.append(Finding(ALTERED, place, "is not a readable record"))
    hashes: dict[str, str] = {}
    outside: dict[str, str] = {}
    n_bytes = 0
    for place, record in records.items():
        if json_sha256(record["core"]) != record["id"]:
            findings.append(Finding(ALTERED, place, "the record was edited: its id is not the hash of its content"))
        for file in record["files"]:
            path = root / file["path"]
            if not path.is_file():
                findings.append(Finding(MISSING, file["path"], f"was written by {record['core']['step']} and is gone"))
                continue
            hashes[file["path"]] = file_sha256(path)
            n_bytes += path.stat().st_size
            findings += _file_findings(path, file, record, hashes[file["path"]])
    for place, record in records.items():
        findings += _chain_findings(root, record, records, outside)
        findings += _stale_findings(place, record, planned_settings)
    findings += _unrecorded(root, records)
    unique = tuple(dict.fromkeys(findings))
    return Audit(len(records), len(hashes), n_bytes, unique)


def _file_findings(path: Path, file: Mapping[str, Any], record: Mapping[str, Any], sha256: str) -> Iterator[Finding]:
    if sha256 != file["sha256"]:
        yield Finding(ALTERED, file["path"], f"differs from what {record['core']['step']} wrote")
        return
    core = embedded_provenance(path)
    if core is not None and json_sha256(core) != json_sha256(record["core"]):
        yield Finding(ALTERED, file["path"], "carries another provenance than its record")


def _chain_findings(
    root: Path, record: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]], outside: dict[str, str]
) -> Iterator[Finding]:
    producers = {file["path"]: other for other in records.values() for file in other["files"]}
    step, first = record["core"]["step"], next((file["path"] for file in record["files"]), "")
    for given in record["core"]["inputs"]:
        producer = producers.get(given["path"])
        if producer is not None:
            written = next(file["sha256"] for file in producer["files"] if file["path"] == given["path"])
            if written != given["sha256"] or producer["id"] != given["record"]:
                yield Finding(STALE, first, f"{step} read another version of {given['path']} than there is now")
        elif given["record"] is not None:
            yield Finding(MISSING, given["path"], f"was read by {step}; its record is gone")
        else:
            yield from _outside_findings(root, given, first, step, outside)


def _outside_findings(
    root: Path, given: Mapping[str, Any], first: str, step: str, hashes: dict[str, str]
) -> Iterator[Finding]:
    # Such paths are relative to the folder that Snakemake ran in, which holds results/<study>.
    places = (Path(given["path"]), root.absolute().parent.parent / given["path"], root / given["path"])
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        yield Finding(MISSING, given["path"], f"was read by {step} from outside the study and is gone")
        return
    key = given["path"]
    if key not in hashes:
        hashes[key] = file_sha256(path)
    if hashes[key] != given["sha256"]:
        yield Finding(STALE, first, f"{step} read another version of {given['path']} than there is now")


def _stale_findings(
    place: str, record: Mapping[str, Any], planned: Callable[[Mapping[str, Any], str], str | None] | None
) -> Iterator[Finding]:
    core = record["core"]
    first = next((file["path"] for file in record["files"]), place)
    try:
        present = step_fingerprint(core["step"])
    except ValueError:
        yield Finding(STALE, first, f"step {core['step']} no longer exists")
        return
    if present != core["code"]:
        yield Finding(STALE, first, f"the code of step {core['step']} has changed since ({core['code']} → {present})")
    if planned is None:
        return
    settings = planned(core, place)
    if settings is not None and json.loads(settings) != core["settings"]:
        changed = _changed_keys(core["settings"], json.loads(settings))
        yield Finding(STALE, first, f"the settings of step {core['step']} have changed since: {', '.join(changed)}")


def _changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    changed = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            changed += _changed_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            changed.append(f"{prefix}{key}")
    return changed


def _unrecorded(root: Path, records: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    known = {file["path"] for record in records.values() for file in record["files"]}
    beside = ("provenance", "logs", "benchmarks", "report")  # report's shards are listed in its manifest, checked below
    for path in sorted(root.rglob("*")):
        place = relative(path, root)
        top = place.split("/", 1)[0]
        hidden = any(part.startswith(".") for part in Path(place).parts)
        if path.is_file() and not hidden and top not in beside and place not in known:
            if Path(place).parent.as_posix() == "explanations/cache" and is_answer(path):
                continue  # named by the hash of what it answers
            yield Finding(UNRECORDED, place, "no record says where it comes from")
    for manifest in sorted((root / "report").glob("block*/manifest.json")):
        yield from _manifest_findings(root, manifest)


def _manifest_findings(root: Path, manifest: Path) -> Iterator[Finding]:
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (json.JSONDecodeError, KeyError):
        yield Finding(ALTERED, relative(manifest, root), "is not a readable manifest")
        return
    for name, sha256 in files.items():
        path = manifest.parent / name
        if not path.is_file():
            yield Finding(MISSING, relative(path, root), "is listed in the report's manifest and is gone")
        elif file_sha256(path) != sha256:
            yield Finding(ALTERED, relative(path, root), "differs from what the report step wrote")
