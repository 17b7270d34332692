"""What keeps a slow or broken guard from taking the rest down: breaker, retry budget, cache.

Pure: time comes in as a clock. Safe to use from any thread.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from guardrail.classifier.base import Sample

__all__ = ["AnswerCache", "Breaker", "RetryBudget"]

Clock = Callable[[], float]


class Breaker:
    """Stops asking a guard that keeps failing, and tries it again after a while.

    Args:
        failures: Failures in a row that open it.
        pause_s: How long it stays open before one trial is let through.
        clock: Monotonic seconds.
    """

    LONGEST_S: Final = 60.0
    """Most that a guard may ask us to wait (``Retry-After``)."""

    def __init__(
        self, failures: int = 5, pause_s: float = 5.0, clock: Clock = time.monotonic
    ) -> None:
        self._most = failures
        self._pause_s = pause_s
        self._clock = clock
        self._failed = 0
        self._open_until = 0.0
        self._lock = threading.Lock()

    def allow(self) -> bool:
        """Whether a request may go out now; an open breaker lets one trial through a pause."""
        with self._lock:
            now = self._clock()
            if now < self._open_until:
                return False
            if self._failed >= self._most:
                self._open_until = now + self._pause_s  # until the trial says more
            return True

    def succeeded(self) -> None:
        """Close it."""
        with self._lock:
            self._failed, self._open_until = 0, 0.0

    def failed(self, wait_s: float = 0.0) -> None:
        """Count a failure.

        Args:
            wait_s: How long the guard asks to be left alone; it opens for that long at once.
        """
        with self._lock:
            self._failed += 1
            pause = self._pause_s if self._failed >= self._most else 0.0
            pause = max(pause, min(wait_s, self.LONGEST_S))
            if pause:
                self._open_until = max(self._open_until, self._clock() + pause)


class RetryBudget:
    """Bounds retries to a share of the requests, so that they cannot multiply an overload.

    Args:
        share: Retries that one request earns.
        reserve: Most retries that can be saved up; it starts full.
    """

    def __init__(self, share: float = 0.1, reserve: float = 10.0) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Count a request."""
        with self._lock:
            self._left = min(self._reserve, self._left + self._share)

    def take(self) -> bool:
        """Take one retry; whether there was one."""
        with self._lock:
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True


class AnswerCache:
    """Remembers answers by content hash; it holds no text. The least recently used goes first.

    Args:
        most: Most answers; 0 remembers nothing.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[bytes, Mapping[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    @staticmethod
    def key(sample: Sample, categories: tuple[str, ...]) -> bytes:
        """Return the SHA-256 of all that an answer depends on, each part set off by its size."""
        digest = hashlib.sha256()
        prompt = sample.prompt
        parts = (*categories, sample.role.value, sample.context, sample.text)
        for part in (*parts, "" if prompt is None else f"+{prompt}"):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.digest()

    def get(self, key: bytes) -> Mapping[str, float] | None:
        """Return an answer, or None."""
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
            return found

    def put(self, key: bytes, answer: Mapping[str, float]) -> None:
        """Remember an answer."""
        with self._lock:
            self._known[key] = answer
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
