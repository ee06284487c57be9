"""A warm process that small jobs are forked from, so that they do not pay for importing torch each.

Importing torch and transformers takes about 4 s of a core; a study has dozens of small jobs. The warm process imports
third-party libraries only, never a module of this package, so a forked job always runs the code that is on disk.
Jobs with more than one thread, and other systems than Linux, start cold. The warm process ends when the run that
started it ends, however it ends; a job ends when the process that Snakemake started for it ends.
"""

import array
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VARIABLE = "SNAPCODER_WARM"
_LIBRARIES = (
    "numpy", "scipy.sparse", "scipy.stats", "pandas", "pyarrow.parquet", "h5py", "safetensors.numpy", "safetensors.torch",
    "tokenizers", "torch", "transformers.models.auto.modeling_auto", "transformers.models.gpt_neox.modeling_gpt_neox",
)  # fmt: skip


@contextlib.contextmanager
def warm_server(*, enabled: bool) -> Iterator[dict[str, str]]:
    """Keep a warm process running; yield the environment that lets jobs find it."""
    if not enabled or not sys.platform.startswith("linux"):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="snapcoder-") as folder:
        address = str(Path(folder) / "warm")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        # The server's standard input is a pipe from us: it reads end-of-file when we are gone, even if we were killed.
        server = subprocess.Popen(
            [sys.executable, "-m", "snapcoder.warm", address], stdin=subprocess.PIPE, env=environment
        )
        try:
            yield {VARIABLE: address}
        finally:
            server.kill()  # no job is left; it may still be importing, so do not wait for it to notice
            server.wait()
            assert server.stdin is not None
            server.stdin.close()


def run_warm(arguments: list[str]) -> int | None:
    """Run `python -m snapcoder <arguments>` in a fork of the warm process; None when there is none to be had."""
    address = os.environ.get(VARIABLE)
    if not address or _threads(arguments) != 1:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address)
    except OSError:
        return None  # not up yet, or gone: start cold
    request = json.dumps({"arguments": arguments, "cwd": str(Path.cwd()), "environment": dict(os.environ)}).encode()
    descriptors = array.array("i", [sys.stdout.fileno(), sys.stderr.fileno()])
    with connection:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
        connection.sendmsg([len(request).to_bytes(8, "little")], rights)
        connection.sendall(request)
        answer = connection.recv(1)
    return answer[0] if answer else 1


def _threads(arguments: list[str]) -> int:
    return int(arguments[arguments.index("--threads") + 1]) if "--threads" in arguments[:-1] else 0


def _serve(address: str) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    for library in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # handlers report by themselves; nobody waits for them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches Snakemake, which ends its jobs
    while True:
        ready, _, _ = select.select([listener.fileno(), sys.stdin.fileno()], [], [])
        if sys.stdin.fileno() in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _handle(connection)
            os._exit(0)
        connection.close()


def _handle(connection: socket.socket) -> None:
    """Fork the job, kill it when its client is gone, and send its exit status."""
    header, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(8))
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data)
    size, request = int.from_bytes(header, "little"), b""
    while len(request) < size:
        request += connection.recv(size - len(request))
    job = os.fork()
    if job == 0:
        _become(json.loads(request), descriptors[0], descriptors[1])
    for descriptor in descriptors:
        os.close(descriptor)
    ended = os.pidfd_open(job)
    ready, _, _ = select.select([connection.fileno(), ended], [], [])
    if ended not in ready:
        os.kill(job, signal.SIGKILL)
    _, status = os.waitpid(job, 0)
    with contextlib.suppress(OSError):
        connection.send(bytes([os.waitstatus_to_exitcode(status) & 0xFF]))


def _become(request: dict[str, Any], stdout: int, stderr: int) -> None:
    status = 1
    try:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.chdir(str(request["cwd"]))
        os.environ.clear()
        os.environ.update(request["environment"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from snapcoder.runner import run_step  # only now, so that it is the code that is on disk

        arguments = request["arguments"]
        status = run_step(arguments[0], arguments[1:])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1])
