"""`AuditLog`: takes decisions from the request path and writes them behind its back.

Decisions wait in a bounded queue. One thread writes them in batches, a flush interval apart, and
removes old ones. A database that is locked, full or gone holds up nobody: what cannot be written
waits, what does not fit is dropped, and both are counted and told once.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from guardrail.audit.backend import backend_for
from guardrail.audit.record import Decision, Origin, row_of
from guardrail.audit.seal import Sealer
from guardrail.audit.settings import AuditSettings
from guardrail.audit.store import Store
from guardrail.audit.trail import Trail
from guardrail.errors import SettingsError
from guardrail.policy import Policy

__all__ = ["AuditLog", "Health"]

log = logging.getLogger("guardrail.audit")

BATCH: Final = 500
LONGEST_WAIT_S: Final = 10.0
"""Between two attempts to reach a database that is gone."""
PRUNE_S: Final = 600.0
PRUNED_MOST: Final = 50_000
"""Rows removed before newly made decisions get their turn again."""
SECONDS_PER_DAY: Final = 86_400.0

Observer = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Health:
    """How the audit does.

    Args:
        degraded: Word for the fault that keeps decisions from being written, or None.
        queued: Decisions that wait.
        written: Decisions that were written.
        dropped: Decisions that were lost: no room, or refused by the database.
    """

    degraded: str | None
    queued: int
    written: int
    dropped: int


class AuditLog:
    """Records decisions. Safe to use from any thread.

    Args:
        settings: Where, for how long, with which key.
        observer: Told from the writing thread, with a count: ``written``, ``dropped``,
            ``pruned``, or ``error:`` and the kind of a fault.
        clock: Seconds since 1970.

    Raises:
        SettingsError: A key that is none, or a driver that is not installed.
    """

    def __init__(
        self,
        settings: AuditSettings,
        observer: Observer | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.sealer = Sealer(settings.key)
        self._backend = backend_for(settings)
        self._faults: tuple[type[Exception], ...] = (*self._backend.faults, SettingsError)
        self._observer = observer
        self._clock = clock
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._queue: deque[Decision] = deque()
        self._queued_chars = 0
        self._written = self._dropped = 0
        self._fault: str | None = None
        self._full = False
        self._wake = threading.Event()
        self._closing = self._closed = False
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self._next_prune = 0.0
        self._pid = os.getpid()

    def require(self, policy: Policy) -> None:
        """Make sure that texts can be kept as a policy, and those it chooses from, say.

        Raises:
            SettingsError: A key or a package is missing.
        """
        for one in (policy, *(selection.policy for selection in policy.selections)):
            try:
                self.sealer.require(one.audit.text)
            except SettingsError as error:
                place = one.file or f"policy {one.name}"
                raise SettingsError(f"{place}: 'audit.text': {error}") from error

    # --- from the request path -----------------------------------------------------------

    def trail(self, origin: Origin, policy: Policy) -> Trail:
        """Return what gathers the decisions of one request.

        Args:
            origin: Where it came in.
            policy: The policy in force.
        """
        return Trail(self, origin, policy, self._clock)

    def add(self, decision: Decision) -> bool:
        """Take a decision; this never waits.

        Args:
            decision: The decision.

        Returns:
            False where there was no room and it was dropped.
        """
        if self._pid != os.getpid():  # threads do not survive a fork
            self._lock = threading.Lock()
            self._reset()
            self._begin()
        if self._closed:
            self._drop(1, "the audit is closed")
            return False
        with self._lock:
            room = len(self._queue) < self.settings.queue
            if room and self._queued_chars + decision.size <= self.settings.queue_bytes:
                self._queue.append(decision)
                self._queued_chars += decision.size
                return True
        self._drop(1, "no room is left in the queue")
        return False

    @property
    def accepts(self) -> bool:
        """Whether the next decision has room; asked before a request that must be recorded."""
        room = self._queued_chars < self.settings.queue_bytes
        return room and len(self._queue) < self.settings.queue and not self._closed

    @property
    def health(self) -> Health:
        """How it does now."""
        return Health(self._fault, len(self._queue), self._written, self._dropped)

    # --- life ----------------------------------------------------------------------------

    def start(self) -> None:
        """Open the database and begin to write.

        Raises:
            SettingsError: It cannot be opened; the message names it and the fix.
        """
        try:
            self._store = Store(self._backend)
        except self._backend.faults as error:
            raise SettingsError(
                f"--audit: {self.settings.place} cannot be opened ({_first_line(error)}); name "
                "another database, or --audit none for no audit"
            ) from error
        self._begin()

    def _begin(self) -> None:
        """Begin to write; a database that is not open is opened then, or tried again."""
        self._thread = threading.Thread(target=self._run, name="guardrail-audit", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self, timeout_s: float = 5.0) -> int:
        """Write what waits and stop.

        Args:
            timeout_s: Longest time for that.

        Returns:
            How many decisions could not be written.
        """
        atexit.unregister(self.close)
        thread, self._thread = self._thread, None
        if thread is None or self._pid != os.getpid():
            return 0
        self._closing = True
        self._wake.set()
        thread.join(timeout_s)
        self._closed = True
        left = len(self._queue)
        if left:
            log.error("audit: %d decisions are lost: %s", left, self._fault or "no time was left")
        return left

    # --- the writing thread --------------------------------------------------------------

    def _run(self) -> None:
        wait = self.settings.flush_s
        while True:
            self._wake.wait(wait)
            closing = self._closing
            if closing:
                self._wake.clear()
            done = self._flush()
            wait = self.settings.flush_s if done else min(wait * 2, LONGEST_WAIT_S)
            if closing:
                if done or self._fault not in (None, "locked"):
                    break
                wait = self.settings.flush_s
            elif done:
                self._prune()
        if self._store is not None:
            self._store.close()

    def _flush(self) -> bool:
        """Write until nothing waits; return whether that was possible."""
        while self._queue:
            batch = list(islice(self._queue, BATCH))
            try:
                self._record(batch)
            except self._faults as error:
                self._fail(error)
                return False
            with self._lock:
                for decision in batch:
                    self._queue.popleft()
                    self._queued_chars -= decision.size
        if self._fault is not None:
            log.warning("audit: decisions are written again to %s", self.settings.place)
        self._fault, self._full = None, False
        return True

    def _record(self, batch: Sequence[Decision]) -> None:
        """Write some decisions; a fault of our own in one must not cost the others."""
        try:
            self._write([row_of(decision, self.sealer) for decision in batch])
        except self._faults:
            raise
        except Exception:
            if len(batch) > 1:
                for decision in batch:
                    self._record([decision])
                return
            log.exception("audit: a decision cannot be recorded")
            self._drop(1, "see the exception")

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        if self._store is None or self._backend.moved():
            self._disconnect()
            self._store = Store(self._backend)
        refused = 0
        try:
            self._store.write(rows)
        except self._backend.refusals:  # a poisoned row must not keep the others back
            refused = sum(not self._write_one(row) for row in rows)
        written = len(rows) - refused
        self._written += written
        self._tell("written", written)
        if refused:
            self._drop(refused, "the database refuses it")

    def _write_one(self, row: tuple[Any, ...]) -> bool:
        assert self._store is not None
        try:
            self._store.write([row])
        except self._backend.refusals:
            return False
        return True

    def _prune(self) -> None:
        now = self._clock()
        if now < self._next_prune or self._store is None:
            return
        days, rows = self.settings.days, self.settings.rows
        before = now - days * SECONDS_PER_DAY if days else float("-inf")
        try:
            removed = self._store.prune(before, rows, most=PRUNED_MOST)
        except self._backend.faults as error:
            self._fail(error)
            removed = 0
        self._next_prune = now + (0.0 if removed >= PRUNED_MOST else PRUNE_S)
        if removed:
            self._tell("pruned", removed)

    def _fail(self, error: Exception) -> None:
        """Count a fault, tell of it when it begins, and begin anew with the next attempt."""
        kind = self._backend.kind(error)
        self._tell(f"error:{kind}", 1)
        if self._fault != kind:
            log.error(
                "audit: %s cannot be written (%s: %s); serving goes on, decisions wait",
                self.settings.place, kind, _first_line(error),
            )  # fmt: skip
        self._fault = kind
        if kind != "locked":
            self._disconnect()

    def _disconnect(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except self._backend.faults as error:
                log.debug("audit: closing failed: %s", _first_line(error))

    def _drop(self, count: int, why: str) -> None:
        self._dropped += count
        self._tell("dropped", count)
        if not self._full:
            self._full = True
            log.error("audit: decisions are dropped: %s", why)

    def _tell(self, event: str, count: int) -> None:
        if self._observer is not None and count:
            self._observer(event, count)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
