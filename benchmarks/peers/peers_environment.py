"""The environment that the peers live in: made once, remade when the pinned versions change."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def peers_python(folder: Path) -> Path:
    """Return the interpreter of the peers' environment, after making the environment if it is not there."""
    python, mark = folder / "bin" / "python", folder / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text(encoding="ascii") == wanted and python.exists():
        return python
    print(f"installing the peers into {folder} (minutes, about 2 GB)", file=sys.stderr, flush=True)
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--prefer-binary", "-r", REQUIREMENTS],
        check=True,
        stdout=sys.stderr,
    )
    mark.write_text(wanted, encoding="ascii")
    return python
