"""What `make` runs: Snakemake on one machine, ready to continue after a kill, with warm start-up of small jobs.

Equal to `snakemake --cores all --rerun-incomplete`, plus: a lock that dies with its process (a killed run needs no
`--unlock`), a warm process that small jobs are forked from, and a last line that says where the report is.
"""

import argparse
import fcntl
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from snapcoder.lifeline import VARIABLE, die_with_parent
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
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment, VARIABLE: str(os.getpid())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,
        )
        status = _follow(process)
    report = root / "report" / "index.html"
    if status == 0 and report.is_file() and "--dry-run" not in options.more and "-n" not in options.more:
        sys.stdout.write(f"\nThe report is at {report} (open it in a browser). {time.time() - started:.0f} s.\n")
    return status


def _follow(process: "subprocess.Popen[str]") -> int:
    """Show Snakemake's output with one line per finished job, and return its exit status."""
    assert process.stdout is not None
    rule = ""
    try:
        for line in process.stdout:
            finished = re.match(r"Finished jobid: \d+ \(Rule: (\w+)\)", line)
            done = re.match(r"(\d+ of \d+) steps \((\d+%)\) done", line)
            if finished:
                rule = finished.group(1)
            elif done:
                sys.stdout.write(f"[{done.group(1)}, {done.group(2)}] {rule}\n")
            elif line.startswith("Command 'set"):
                sys.stdout.write(f"{line[:160].rstrip()} ... (whole command: see the Snakemake log)\n")
            elif line.strip() and not _NOISE.match(line):
                sys.stdout.write(line)
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("stopping: waiting for the running jobs to end\n")
    return process.wait()


_NOISE = re.compile(
    r"Select jobs|Execute \d+ jobs|\[\w{3} \w{3} |Config file .* is extended by|Complete log|Elapsed time|\s*$"
)


def _fail(message: str) -> int:
    sys.stderr.write(f"snapcoder: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
