"""Where a study's time and memory went, from its own provenance records.

    python benchmarks/where_time_goes.py results/default > benchmarks/default_study.md

Seconds are each job's own (start-up of a warm-forked job included from the fork on, not Snakemake's scheduling).
"""

import json
import platform
import sys
from collections import defaultdict
from pathlib import Path

import psutil


def main(study: Path) -> None:
    """Print a markdown table: one row per step, largest total first."""
    jobs: dict[str, list[dict]] = defaultdict(list)
    for path in sorted((study / "provenance").rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        jobs[record["core"]["step"]].append(record)
    total = sum(record["run"]["seconds"] for group in jobs.values() for record in group)
    print(f"# Where the time of {study} went\n")
    print(
        f"{platform.machine()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, ", end=""
    )
    print(
        f"Python {platform.python_version()}. Command: `make`, then `python benchmarks/where_time_goes.py {study}`.\n"
    )
    print("| step | jobs | threads | seconds, all jobs | seconds, median job | peak memory, MiB | output, MB |")
    print("|---|---|---|---|---|---|---|")
    for step, group in sorted(jobs.items(), key=lambda item: -sum(r["run"]["seconds"] for r in item[1])):
        seconds = sorted(record["run"]["seconds"] for record in group)
        memory = max(record["run"]["peak_memory_bytes"] for record in group) / 2**20
        size = sum(file["bytes"] for record in group for file in record["files"]) / 1e6
        threads = max(record["run"]["threads"] for record in group)
        print(
            f"| {step} | {len(group)} | {threads} | {sum(seconds):.1f} | {seconds[len(seconds) // 2]:.2f} | {memory:.0f} | {size:.1f} |"
        )
    print(f"\nAll jobs together: {total:.0f} s of job time.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/default"))
