"""Ask an OpenAI-compatible chat service, with retries. The only module that talks to one."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Messages = Sequence[Mapping[str, str]]

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the next try: doubled each time, or what the service asks for
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class ChatError(Exception):
    """No usable answer; the message says why in one line, without the key."""


class _TryAgainError(Exception):
    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class ChatService:
    """An address ending in /v1, and how patiently it is asked. The key is left out of the printed form."""

    endpoint: str
    key: str = field(default="", repr=False)
    timeout: float = 60.0
    retries: int = 4

    def ask(self, request: Mapping[str, Any], read: Callable[[str], Answer]) -> Answer:
        """Return what `read` makes of the answer to `request` (model, messages, parameters).

        A failure of the network, a status that may pass, and an answer that `read` refuses with ValueError are tried
        again up to `retries` times. Raises `ChatError`.
        """
        wait = FIRST_WAIT
        for tries_left in range(self.retries, -1, -1):
            try:
                return read(self._once(request))
            except (_TryAgainError, ValueError) as error:
                reason = self._without_key(str(error))
                asked = getattr(error, "wait", None)
            if tries_left:
                pause = min(LONGEST_WAIT, wait if asked is None else asked)
                logger.info("explanations: %s; next try in %.1f s", reason, pause)
                time.sleep(pause)
                wait *= 2
        raise ChatError(f"{reason} (after {self.retries + 1} tries)")

    def _once(self, request: Mapping[str, Any]) -> str:
        try:
            response = requests.post(
                f"{self.endpoint.rstrip('/')}/chat/completions",
                json=dict(request),
                auth=self._sign,  # given, so that no other key is looked up in ~/.netrc
                timeout=self.timeout,
                allow_redirects=False,  # the key goes nowhere else
            )
        except requests.Timeout as error:
            raise _TryAgainError(f"no answer within {self.timeout:g} s") from error
        except requests.ConnectionError as error:
            raise _TryAgainError(f"{self.endpoint} cannot be reached") from error
        except requests.RequestException as error:
            raise ChatError(self._without_key(f"request failed: {type(error).__name__}")) from error
        if response.status_code in AGAIN:
            raise _TryAgainError(f"status {response.status_code}", _seconds(response.headers.get("Retry-After")))
        if response.status_code != 200:
            said = " ".join(response.text.split())[:200]
            raise ChatError(self._without_key(f"status {response.status_code}: {said}"))
        try:
            content = response.json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise _TryAgainError("the service's reply is not a chat completion") from error
        if not isinstance(content, str):
            raise _TryAgainError("the service's reply holds no text")
        return content

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


def _seconds(header: str | None) -> float | None:
    """Return a Retry-After header in seconds; dates, which services for machines do not send, count as not given."""
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None
