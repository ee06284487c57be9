"""What `make` runs: Snakemake on one machine, ready to continue after a kill, with warm start-up of small jobs.

Equal to `snakemake --cores all --rerun-incomplete`, plus: a lock that dies with its process (a killed run needs no
`--unlock`), a warm process that small jobs are forked from, and a last line that says where the report is.
"""

import argparse
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

from snapcoder.planning import DEFAULT_CONFIG
from snapcoder.study.load import StudyError, read_study
from snapcoder.warm import warm_server


def main() -> int:
    """Run the study; return Snakemake's exit status."""
    parser = argparse.ArgumentParser(prog="python -m snapcoder.launch", description=__doc__)
    parser.add_argument("--configfile", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument("--cores", default="all")
    parser.add_argument("--cold", action="store_true", help="start a fresh Python for every job")
    parser.add_argument("more", nargs="*", help="further arguments for snakemake, after --")
    options = parser.parse_args()
    try:
        files = dict.fromkeys([DEFAULT_CONFIG, options.configfile])
        study = read_study(*[file for file in files if file.is_file() or file == options.configfile])
    except StudyError as error:
        return _fail(f"configuration: {error}")
    root = Path("results") / study.study
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _fail(f"{root}: another run is working on this study; wait for it or stop it")
        return _run(options, root)


def _run(options: argparse.Namespace, root: Path) -> int:
    started = time.time()
    command = [sys.executable, "-m", "snakemake", "--cores", options.cores, "--rerun-incomplete", "--nolock"]
    command += ["--configfile", str(options.configfile), "--quiet", "rules", *options.more]
    with warm_server(enabled=not options.cold) as environment:
        status = subprocess.run(command, env={**os.environ, **environment}).returncode
    report = root / "report" / "index.html"
    if status == 0 and report.is_file() and "--dry-run" not in options.more and "-n" not in options.more:
        sys.stdout.write(f"\nThe report is at {report} (open it in a browser). {time.time() - started:.0f} s.\n")
    return status


def _fail(message: str) -> int:
    sys.stderr.write(f"snapcoder: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
