"""JSON over HTTP to the endpoint of a guard: time-outs, retries, size limits, named failures.

The only importer of urllib3. Synchronous, as every classifier is; `guardrail.escalate` runs it
off the event loop. Keys go into headers and nowhere else: no message or log line has them.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final, Self

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    HTTPError,
    InvalidHeader,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ResponseError,
)
from urllib3.exceptions import TimeoutError as HTTPTimeout

from guardrail.classifier.resilience import RetryBudget
from guardrail.errors import CheckError, SettingsError

__all__ = ["Endpoint", "EndpointError"]

MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
"""Longest answer that is read: twenty log-probabilities take a few kilobytes."""
AGAIN: Final = (429, 502, 503, 504)
"""Statuses that another attempt may cure."""
_OF_TEXTS: Final = {400: "rejected", 413: "too_large", 422: "rejected"}
"""Statuses that tell of what was sent, such as a text beyond the model's context."""
BACKOFF_S: Final = 0.1


class EndpointError(CheckError):
    """A guard's endpoint gave no usable answer.

    Args:
        message: What happened, without keys and without text.
        reason: ``timeout``, ``unavailable``, ``rate_limited``, ``garbage``, ``rejected``,
            ``too_large`` or ``failure``.
        wait_s: How long the endpoint asks to be left alone.
        said: The endpoint's own words. They may quote what it was sent, so that a log of traffic
            takes `plain`, the message without them.
    """

    def __init__(self, message: str, *, reason: str, wait_s: float = 0.0, said: str = "") -> None:
        self.wait_s = wait_s
        self.plain = message
        super().__init__(message + said, reason=reason)


class _Patience(urllib3.Retry):
    """Retries that end with a deadline and draw on a budget."""

    def __init__(
        self, *args: Any, deadline: float = 0.0, budget: RetryBudget | None = None, **kw: Any
    ) -> None:
        super().__init__(*args, **kw)
        self.deadline = deadline
        self.budget = budget

    def new(self, **kw: Any) -> Self:
        """Return a copy for the next attempt."""
        return super().new(**{"deadline": self.deadline, "budget": self.budget, **kw})

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        """Allow one more attempt, or raise where time or budget do not."""
        after = super().increment(method, url, response, error, _pool, _stacktrace)
        wait = (self.get_retry_after(response) if response is not None else None) or BACKOFF_S
        late = time.monotonic() + wait >= self.deadline
        if late or self.budget is None or not self.budget.take():
            raise MaxRetryError(_pool, url or "", error or ResponseError("no more attempts"))
        return after

    def get_retry_after(self, response: Any) -> float | None:
        """Return ``Retry-After`` in seconds; None for one that cannot be read."""
        try:
            return super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):
            return None

    def get_backoff_time(self) -> float:
        """Return the pause before an attempt, doubled each time."""
        return float(BACKOFF_S * 2 ** max(0, len(self.history) - 1))


class _Alarm:
    """Cuts a connection off once the time for an answer is over.

    A socket's own time-out begins anew with every byte, so that a peer that drips its headers or
    its body would hold a thread for as long as it likes.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def set(self, peer: socket.socket, seconds: float) -> None:
        """Begin to wait; what was waited for before is over."""
        self.off()
        self._timer = threading.Timer(seconds, _cut, [peer])
        self._timer.daemon = True
        self._timer.start()

    def off(self) -> None:
        """Leave the connection alone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _cut(peer: socket.socket) -> None:
    with suppress(OSError):  # closed meanwhile
        socket.socket.shutdown(peer, socket.SHUT_RDWR)  # that of TLS would drop its state first


def _timed(connection: type[HTTPConnection]) -> type[HTTPConnection]:
    class Timed(connection):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kw: Any) -> None:
            super().__init__(*args, **kw)
            self.alarm = _Alarm()

        def request(self, *args: Any, **kw: Any) -> None:
            self.alarm.off()  # of an answer before, which nobody read to its end
            super().request(*args, **kw)

        def getresponse(self) -> Any:
            self.alarm.set(self.sock, self.timeout)
            return super().getresponse()

    return Timed


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _timed(HTTPConnection)


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _timed(HTTPSConnection)  # type: ignore[assignment]


class Endpoint:
    """One base URL and its pool of connections.

    Args:
        url: Base URL, such as ``http://127.0.0.1:8080/v1``.
        key: API key, sent as ``Authorization: Bearer …``, or None.
        timeout_s: Longest time for one answer, retries included.
        retries: Most further attempts.
        connections: Most connections at once.

    Raises:
        SettingsError: The key cannot be sent.
    """

    def __init__(
        self, url: str, key: str | None, *, timeout_s: float, retries: int, connections: int
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._retries = retries
        self._budget = RetryBudget()
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            if not (key.isascii() and key.isprintable()):
                raise SettingsError(f"the key for {url} has characters that no header may have")
            self._headers["Authorization"] = f"Bearer {key}"
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=connections, block=True)
        self._pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.clear()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send one JSON request.

        Args:
            path: Path below the base URL, such as ``/chat/completions``.
            body: What to send.

        Returns:
            The parsed answer of a status 200.

        Raises:
            EndpointError: There is none: see its ``reason``.
        """
        deadline = time.monotonic() + self._timeout_s
        self._budget.earn()
        patience = _Patience(
            total=self._retries,
            status_forcelist=AGAIN,
            allowed_methods=None,
            raise_on_status=False,
            deadline=deadline,
            budget=self._budget,
        )
        try:
            response = self._pool.request(
                "POST",
                self.url + path,
                body=json.dumps(body).encode("utf-8", "replace"),
                headers=self._headers,
                retries=patience,
                redirect=False,  # the key is for this address alone
                timeout=urllib3.Timeout(total=self._timeout_s),
                preload_content=False,
            )
            timed = getattr(response, "connection", None)  # reading it to the end lets go of it
            try:
                data = _read(response, deadline)
            finally:
                if timed is not None:
                    timed.alarm.off()
        except (HTTPError, OSError) as error:
            late = time.monotonic() >= deadline
            raise self._failed(error, late=late) from error
        if response.status != 200:
            raise self._refused(response, data)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._garbage("the answer is not JSON") from error

    def _failed(self, error: Exception, *, late: bool) -> EndpointError:
        cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        cut = late and isinstance(cause, ProtocolError)
        if (cut or isinstance(cause, HTTPTimeout)) and not isinstance(cause, NewConnectionError):
            return EndpointError(
                f"{self.url} gave no answer within {self._timeout_s:g} s", reason="timeout"
            )
        # The name of the fault says enough; its text may quote a header.
        return EndpointError(
            f"{self.url} cannot be reached ({type(cause).__name__}); is it running?",
            reason="unavailable",
        )

    def _refused(self, response: urllib3.BaseHTTPResponse, data: bytes) -> EndpointError:
        status = response.status
        if status == 429:
            wait = _Patience().get_retry_after(response) or 0.0
            return EndpointError(
                f"{self.url} limits its rate (429)", reason="rate_limited", wait_s=wait
            )
        if status in (401, 403):
            return EndpointError(
                f"{self.url} refuses the key ({status}); set the variable of 'key_env:'",
                reason="failure",
            )
        if status in AGAIN or status >= 500:
            return EndpointError(f"{self.url} answers {status}", reason="unavailable")
        reason = _OF_TEXTS.get(status, "failure")
        return EndpointError(f"{self.url} answers {status}", reason=reason, said=_said(data))

    def _garbage(self, what: str) -> EndpointError:
        return EndpointError(f"{self.url}: {what}", reason="garbage")


def _said(data: bytes) -> str:
    """Return the endpoint's own words on an error, shortened, if they are in OpenAI's shape."""
    try:
        words = json.loads(data)["error"]["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f": {words[:200]}" if isinstance(words, str) else ""


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """Read a body that may neither grow without end nor drip for ever."""
    parts, size = [], 0
    try:
        for part in response.stream(65_536):
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise EndpointError(
                    f"the answer is longer than {MAX_ANSWER_BYTES:,} bytes", reason="garbage"
                )
            if time.monotonic() > deadline:
                break
        if time.monotonic() > deadline:  # what was cut off may look like the end
            raise EndpointError("the answer came too slowly", reason="timeout")
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return b"".join(parts)
