"""What a run will do and cost, before it starts; and what the configuration plans today, for the audit."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from snapcoder.crosscoder.pools import STREAM_POOL_TOKENS
from snapcoder.study.controls import control_config, controls_of
from snapcoder.study.load import StudyError, load_study, read_config, read_study
from snapcoder.study.settings import step_settings
from snapcoder.study.study import Study
from snapcoder.study.sweep import SweepPoint, settings_at, sweep_points

DEFAULT_CONFIG = Path("config/config.yaml")
_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "int8": 1}


def planned_settings(
    root: Path, configfile: Path | None
) -> tuple[Callable[[Mapping[str, Any], str], str | None] | None, str]:
    """Return what the configuration would pass to a recorded job today, and a line that says where this was read.

    Without `configfile`, the file in config/ whose study has the name of the folder is taken; when there is none,
    the first value is None.
    """
    try:
        file = configfile or _config_of(root.resolve().name)
    except StudyError as error:
        return None, f"settings not compared: {error}"
    if file is None:
        return (
            None,
            f"settings not compared: no file in config/ describes study {root.resolve().name!r}; give --configfile",
        )
    whole = _read(file)
    config = read_config(*_files(file))
    derived = {
        control.name: load_study(control_config(config, control))
        for control in controls_of(whole.controls, layers=whole.activations.layers)
    }

    def planned(core: Mapping[str, Any], place: str) -> str | None:
        control = re.match(r"provenance/controls/([^/]+)/", place)
        if control and control.group(1) not in derived:
            return None
        study = derived[control.group(1)] if control else whole
        layer, snapshot = (_wildcard(name, place) for name in ("block", "step"))
        if layer is not None and layer not in study.activations.layers:
            return None
        if snapshot is not None and snapshot not in (*study.snapshots.steps, *study.snapshots.added):
            return None
        more: dict[str, Any] = {}
        if core["step"] == "fetch_text":
            more["package"] = core["settings"].get("package")
            if more["package"] not in study.corpus.packages:
                return None
        if core["step"] in ("sweep_point", "sweep_sae"):
            more["point"] = SweepPoint.of(core["settings"]["crosscoder"])
            if more["point"] not in set(sweep_points(study.sweep)):
                return None
        if core["step"] == "landing":
            more["layers"] = list(study.activations.layers)
        return step_settings(study, core["step"], layer=layer, snapshot=snapshot, **more)

    return planned, f"settings compared with {file}"


def _wildcard(name: str, place: str) -> int | None:
    found = re.search(rf"\.{name}(\d+)(?=\.)", place)
    return int(found.group(1)) if found else None


def _files(file: Path) -> list[Path]:
    files = [file] if file.resolve() == DEFAULT_CONFIG.resolve() else [DEFAULT_CONFIG, file]
    return [path for path in files if path.is_file() or path == file]


def _read(file: Path) -> Study:
    return read_study(*_files(file))


def _config_of(name: str) -> Path | None:
    for file in sorted(Path("config").glob("*.yaml"), key=lambda path: (path != DEFAULT_CONFIG, path)):
        if _read(file).study == name:
            return file
    return None


def plan_report(configfile: Path | None) -> list[str]:
    """Return the lines of the plan: jobs, disk, memory and a rough time, for the study in `configfile`."""
    study = _read(configfile or DEFAULT_CONFIG)
    jobs = _jobs(configfile)
    disk, memory = disk_bytes(study), memory_bytes(study)
    free = shutil.disk_usage(".").free
    lines = [f"study {study.study}: {len(study.snapshots.steps)} base and {len(study.snapshots.added)} added snapshots, "
             f"layers {', '.join(map(str, study.activations.layers))}"]  # fmt: skip
    lines += ["", "jobs to run now"]
    lines += [f"  {name:20} {count:5}" for name, count in jobs.items()] or [
        "  none: everything is there and up to date"
    ]
    lines += ["", "disk when complete"] + [f"  {name:20} {_size(value):>10}" for name, value in disk.items()]
    lines.append(f"  {'free here':20} {_size(free):>10}" + ("   NOT ENOUGH" if sum(disk.values()) > free else ""))
    lines += ["", "memory at the peak"] + [f"  {name:20} {_size(value):>10}" for name, value in memory.items()]
    have = psutil.virtual_memory().total
    lines.append(f"  {'this machine':20} {_size(have):>10}" + ("   NOT ENOUGH" if max(memory.values()) > have else ""))
    if jobs:
        lines += ["", *_time_lines(study, jobs)]
    return lines


def _jobs(configfile: Path | None) -> dict[str, int]:
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "1", "--nolock"]
    if configfile:
        command += ["--configfile", str(configfile)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError((done.stdout + done.stderr).strip().splitlines()[-1])
    counts = re.findall(r"^([a-z_0-9]+)\s+(\d+)\s*$", done.stdout + done.stderr, flags=re.MULTILINE)
    return {name: int(count) for name, count in counts if name not in ("total", "all")}


def _d_model(study: Study) -> int:
    if study.snapshots.source == "pretrain":
        return study.pretrain.d_model
    file = Path(study.snapshots.local.pattern.replace("{step}", str(study.snapshots.steps[0]))) / "config.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    return int(facts.get("hidden_size", facts.get("n_embd", 0)))


def _n_parameters(study: Study) -> int:
    pretrain = study.pretrain
    return 12 * pretrain.n_layers * pretrain.d_model**2 + 2 * study.corpus.tokenizer.vocab_size * pretrain.d_model


def disk_bytes(study: Study) -> dict[str, int]:
    """Return the bytes on disk of a finished study, by part: snapshots made here, caches, dictionaries, codes."""
    width, rows = _d_model(study), study.activations.tokens + study.activations.heldout_tokens
    shown, layers = len(study.snapshots.steps) + len(study.snapshots.added), len(study.activations.layers)
    parameters = 2 * len(study.snapshots.steps) * width * study.crosscoder.n_features
    parts = {
        "activation caches": rows * width * _BYTES[study.activations.dtype] * shown * layers,
        "dictionaries": 4 * parameters * layers,
        "codes": 8 * study.crosscoder.k * rows * layers,
    }
    if study.snapshots.source == "pretrain":
        parts["snapshots"] = 4 * _n_parameters(study) * len(study.pretrain.save_steps)
    return parts


def memory_bytes(study: Study) -> dict[str, int]:
    """Return the bytes of memory at the peak of the two hungriest rules, from the shapes they hold."""
    width, n_snapshots = _d_model(study), len(study.snapshots.steps)
    features, batch = study.crosscoder.n_features, study.crosscoder.batch_size
    parameters = 2 * n_snapshots * width * features
    rows = study.activations.tokens + study.activations.heldout_tokens
    training = 4 * 4 * parameters + 6 * 4 * batch * features + 4 * 4 * batch * n_snapshots * width
    if study.activations.mode == "stream":  # one pool beside the cached sample; a GPU holds two
        pool = min(study.crosscoder.pool_tokens or STREAM_POOL_TOKENS, study.activations.stream_tokens)
        training += pool * n_snapshots * width * (4 if study.activations.dtype == "float32" else 2)
    return {
        "crosscoder training": training + round(rows * n_snapshots * width * _BYTES[study.activations.dtype]),
        "pre-training": 16 * _n_parameters(study) + 40 * study.pretrain.batch_size * study.corpus.context_length
        * study.pretrain.d_model * study.pretrain.n_layers,
    }  # fmt: skip


def _time_lines(study: Study, jobs: Mapping[str, int]) -> list[str]:
    flops = _measured_flops()
    cores = psutil.cpu_count(logical=True) or 1
    tokens = study.pretrain.steps * study.pretrain.batch_size * study.corpus.context_length
    width, n_snapshots = _d_model(study), len(study.snapshots.steps)
    crosscoder = study.crosscoder
    per_input = 10.0 * crosscoder.n_features * crosscoder.steps * crosscoder.batch_size
    points = [settings_at(crosscoder, point, steps=study.sweep.steps) for point in sweep_points(study.sweep)]
    per_point = 10.0 * float(np.mean([p.n_features * p.steps * p.batch_size for p in points])) if points else 0.0
    heavy = {
        "pretrain": 6.0 * _n_parameters(study) * tokens,
        "crosscoder": per_input * n_snapshots * width,
        "sweep_point": per_point * n_snapshots * width,
        "sweep_sae": per_point * width,
    }
    # Small models reach about a tenth of a large matrix product's speed; a job costs about 5 s of start-up and hashing.
    seconds = sum(work / (0.1 * flops) * jobs[name] for name, work in heavy.items() if name in jobs)
    small = sum(count for name, count in jobs.items() if name not in heavy)
    total = seconds + 5.0 * small / cores
    return [
        f"time: very roughly {_duration(total)} on {cores} cores here ({flops / 1e9:.0f} GFLOP/s measured just now in a matrix "
        f"product; {small} small jobs side by side)"
    ]


def _measured_flops() -> float:
    size, best = 1024, 0.0
    matrix = np.ones((size, size), dtype=np.float32)
    for _ in range(3):
        started = time.perf_counter()
        matrix @ matrix
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit in ("B", "kB", "MB") else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
