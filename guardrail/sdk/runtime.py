"""One event loop, one model and one queue of checks for a process.

Sync and async calls alike are judged on one background loop, so that all of them share a
`Checker` and are batched together. After a fork the child finds its own process id without a
runtime and starts afresh: threads do not survive a fork, and a session of ONNX Runtime without
its threads would hang. The parent's runtime is kept in the child untouched for the same reason:
closing it would wait for threads that are not there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from guardrail.check import Checker
from guardrail.classifier import load_classifier

__all__ = ["Runtime", "runtime"]

T = TypeVar("T")


class Runtime:
    """The background loop of this process and the checkers of its shared models."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shared: dict[Path | None, Checker] = {}

    @property
    def lock(self) -> threading.RLock:
        """Guards what is made once."""
        return self._lock

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The background loop, running."""
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    self._loop = self._start()
        return self._loop

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="guardrail-loop", daemon=True)
        self._thread.start()
        return loop

    def loaded(self, bundle: Path | None) -> bool:
        """Whether a model is in memory."""
        return bundle in self._shared

    def shared(self, bundle: Path | None) -> Checker:
        """Return the checker of a model, which is loaded at the first call.

        Args:
            bundle: A model folder, or None for the embedded one.

        Raises:
            BundleError: The model cannot be loaded.
        """
        checker = self._shared.get(bundle)
        if checker is None:
            with self._lock:
                checker = self._shared.get(bundle)
                if checker is None:
                    checker = self._shared[bundle] = Checker(load_classifier(bundle))
        return checker

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the background loop.

        Args:
            work: The coroutine; cancelling the future cancels it.

        Raises:
            RuntimeError: This is the background loop's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a sync check cannot be made on the guardrail's own event loop")
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the background loop and wait for it in this thread; see `submit`."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupt must not leave the check in the queue
            raise

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the background loop and await it on the caller's loop."""
        if threading.current_thread() is self._thread:
            return await work
        return await asyncio.wrap_future(self.submit(work))


_RUNTIMES: dict[int, Runtime] = {}


def runtime() -> Runtime:
    """Return the runtime of this process; a forked child gets its own."""
    pid = os.getpid()
    found = _RUNTIMES.get(pid)
    return found if found is not None else _RUNTIMES.setdefault(pid, Runtime())
