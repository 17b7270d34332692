"""The input's check beside the call it is for: ``input: {check: parallel}`` in process.

Nothing of the answer is handed out before the verdict. An async call is cancelled as soon as the
input is blocked; a sync one cannot be, so it runs to its end and its result is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from guardrail.types import Verdict

__all__ = ["abeside", "beside"]

T = TypeVar("T")


class _Cut:
    """Cancels the current task when the check beside it blocks or fails.

    The call itself stays in its caller's task, as under `asyncio.timeout`: it keeps the context
    variables, task groups and cancel scopes that it would have without a guard.
    """

    def __init__(self, check: asyncio.Task[Verdict]) -> None:
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        self._caller = task
        self._cancels_before = task.cancelling()
        self._over = False
        self.made = False
        check.add_done_callback(self._checked)

    def _checked(self, check: asyncio.Task[Verdict]) -> None:
        if self._over or check.cancelled():
            return
        if check.exception() is not None or check.result().blocked:
            self.made = True
            self._caller.cancel()

    def end(self) -> None:
        """Stop: the call is over.

        Raises:
            CancelledError: The caller was cancelled from outside as well.
        """
        self._over = True
        if self.made and self._caller.uncancel() > self._cancels_before:
            raise asyncio.CancelledError


async def abeside(
    check: Coroutine[Any, Any, Verdict],
    call: Awaitable[T],
    drop: Callable[[T], Awaitable[object]],
) -> tuple[Verdict, T | None]:
    """Await a call while its input is checked.

    Args:
        check: The check of the input.
        call: The call; if the check blocks, it is cancelled and awaited until it has ended.
        drop: Closes a result that is not handed out.

    Returns:
        The verdict, and the result of the call; None where the verdict blocks.

    Raises:
        BaseException: What the call raised, or the check; the other one has ended by then.
    """
    task = asyncio.ensure_future(check)
    cut = _Cut(task)
    result: T | None = None
    try:
        result = await call
    except BaseException:
        if not cut.made:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
    finally:
        cut.end()
    passed = False
    try:
        verdict = await task
        passed = not verdict.blocked
    finally:
        if not passed and result is not None:
            await drop(result)
    return verdict, result if passed else None


def beside(
    check: Future[Verdict], call: Callable[[], T], drop: Callable[[T], object]
) -> tuple[Verdict, T | None]:
    """Make a call in this thread while its input is checked elsewhere.

    Args:
        check: The check of the input, under way.
        call: The call; it runs to its end whatever the check says.
        drop: Closes a result that is not handed out.

    Returns:
        The verdict, and the result of the call; None where the verdict blocks.

    Raises:
        BaseException: What the call raised, or the check.
    """
    try:
        result = call()
    except BaseException:
        check.cancel()
        raise
    passed = False
    try:
        verdict = check.result()
        passed = not verdict.blocked
    finally:
        if not passed:
            check.cancel()
            drop(result)
    return verdict, result if passed else None
