"""A request to stop (SIGTERM, which clusters send before they kill) that training obeys after the step it is in."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(SystemExit):
    """Training stopped on request and its state is saved; the process ends with the code of a SIGTERM, 143."""

    def __init__(self, step: int) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.step = step


class StopRequest:
    """Whether a stop was asked for."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Ask for a stop; also serves as signal handler."""
        self.asked = True


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Turn SIGTERM into a request while the block runs; outside the main thread signals stay as they are."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = signal.signal(signal.SIGTERM, request.ask)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
