"""How far training is: one log line every few seconds, with the time that is left."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("snapcoder.crosscoder.training")
_SECONDS = 5.0


class Progress:
    """Reports the steps from `first` to `steps`."""

    def __init__(self, steps: int, first: int) -> None:
        self.steps, self.first = steps, first
        self.started = self.reported = time.monotonic()

    def report(self, step: int, loss: Callable[[], float]) -> None:
        """Say where training is, unless it was said a moment ago; the loss is asked for only then."""
        now = time.monotonic()
        if now - self.reported < _SECONDS and step < self.steps:
            return
        self.reported = now
        rest = (now - self.started) / max(step - self.first, 1) * (self.steps - step)
        logger.info("crosscoder: step %d of %d, loss %.3f, %.0f s left", step, self.steps, loss(), rest)
