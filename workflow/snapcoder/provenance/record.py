"""Records: which step made a file, from which bytes, with which settings, code and software.

A record has two halves. The *core* is deterministic and is embedded in every file that can carry it, so that the
same inputs give the same bytes. The sidecar record, a declared output of every rule, adds the hashes of the files and
the facts of the run (time, host, arguments), which would make the files themselves differ.
"""

import functools
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snapcoder.storage.hashing import file_sha256, json_sha256

SCHEMA = 1
_SOFTWARE = (
    "snapcoder", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "pandas", "pyarrow", "h5py",
    "matplotlib", "seaborn", "snakemake",
)  # fmt: skip


class ProvenanceError(ValueError):
    """A file that is not the one that its record describes."""


@dataclass(frozen=True)
class Origin:
    """Where a file comes from, as its producer's record says: the record's id and the file's sha256."""

    record: str
    sha256: str
    step: str


def study_root(record: str | Path) -> Path:
    """Return the study's folder for a record path `<root>/provenance/<name>.json`."""
    parts = Path(record).parts
    if "provenance" not in parts:
        raise ValueError(f"{record}: a record lies below a folder called provenance")
    return Path(*parts[: len(parts) - 1 - parts[::-1].index("provenance")])


def relative(path: str | Path, root: Path) -> str:
    """Return a path as records write it: relative to the study's folder when it lies inside, else as given."""
    try:
        return Path(path).absolute().relative_to(root.absolute()).as_posix()
    except ValueError:
        return Path(path).as_posix()


def record_paths(root: Path) -> list[Path]:
    """Return the paths of a study's records; hidden files are those that a job is writing just now."""
    return sorted(path for path in (root / "provenance").rglob("*.json") if not path.name.startswith("."))


def read_records(root: Path) -> dict[str, dict[str, Any]]:
    """Return every record of a study by its path; a file that is not a record raises `ProvenanceError`."""
    records = {}
    for path in record_paths(root):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record["core"], record["files"], record["id"]
        except FileNotFoundError:
            continue  # Snakemake removed it a moment ago, because its job is about to run again
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ProvenanceError(f"{path}: not a readable record; delete what it belongs to and rerun") from error
        records[relative(path, root)] = record
    return records


def origins(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Origin]:
    """Return for every recorded file where it comes from."""
    return {
        file["path"]: Origin(record["id"], file["sha256"], record["core"]["step"])
        for record in records.values()
        for file in record["files"]
    }


def software() -> dict[str, str]:
    """Return the versions of everything whose change could change a number."""
    versions = {"python": platform.python_version()}
    for name in _SOFTWARE:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def build_core(
    step: str, *, settings: Mapping[str, Any], code: str, inputs: Mapping[str, Iterable[Path]], root: Path
) -> dict[str, Any]:
    """Hash all inputs, hold them against their producers' records, and return the deterministic half of the record.

    Raises `ProvenanceError` when an input is not the file that its producer wrote.
    """
    known = origins(read_records(root))
    described = []
    for name, paths in inputs.items():
        for path in paths:
            place, sha256 = relative(path, root), file_sha256(path)
            origin = known.get(place)
            if origin and origin.sha256 != sha256:
                raise ProvenanceError(
                    f"{path}: was changed after step {origin.step} wrote it (hash differs from its record); delete it and rerun"
                )
            described.append(
                {"name": name, "path": place, "sha256": sha256, "record": origin.record if origin else None}
            )
    return {
        "schema": SCHEMA,
        "step": step,
        "settings": dict(settings),
        "code": code,
        "inputs": described,
        "software": software(),
    }


def build_record(
    core: Mapping[str, Any], *, outputs: Iterable[Path], root: Path, argv: list[str], started: float, threads: int
) -> dict[str, Any]:
    """Return the full record of a finished job: core, id, output hashes, and the facts of this run."""
    files = [
        {"path": relative(path, root), "sha256": file_sha256(path), "bytes": path.stat().st_size} for path in outputs
    ]
    return {
        "core": dict(core),
        "id": json_sha256(core),
        "files": files,
        "run": {
            "argv": argv,
            "host": platform.node(),
            "platform": platform.platform(),
            "python": sys.executable,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "seconds": round(time.time() - started, 3),
            "threads": threads,
            "device": _device(),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "git": git_state(),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
        },
    }


def _device() -> str:
    torch = sys.modules.get("torch")  # only a step that used torch can have used a GPU
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu"


@functools.cache
def git_state() -> dict[str, Any] | None:
    """Return commit and whether tracked files differ from it, or None outside a git checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if commit.returncode or status.returncode:
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
