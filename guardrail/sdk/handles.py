"""Handles on guarded streams: iterators that keep what is known about the stream behind them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Final, TypeVar

from guardrail.sdk.streams import aclose, close

__all__ = [
    "AsyncBegun",
    "AsyncGuardedStream",
    "Begun",
    "GuardedStream",
    "is_async_stream",
    "is_stream",
]

T = TypeVar("T")


def is_stream(result: object) -> bool:
    """Return whether a result is an iterator, or a client's stream."""
    return isinstance(result, Iterator) or (
        hasattr(result, "__iter__") and hasattr(result, "close") and hasattr(result, "response")
    )


def is_async_stream(result: object) -> bool:
    """Return whether a result is iterated with ``async for``."""
    return hasattr(result, "__aiter__")


_ABOUT: Final = frozenset(
    ("response", "request_id", "_request_id", "headers", "status_code", "usage", "_hidden_params")
)
"""What is said of a stream and holds none of its text; ``_hidden_params`` is LiteLLM's."""


def _attribute(inner: object, name: str) -> Any:
    """Return an attribute of a stream behind a guard that gives nothing of its text past it."""
    if name not in _ABOUT:
        raise AttributeError(f"'{name}' is not judged; iterate the stream itself, which is")
    return getattr(inner, name)


class Begun(Iterator[T]):
    """A stream whose first item has been fetched, so that its call is under way.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: Iterator[T]) -> None:
        self._stream = stream
        self._first = list(itertools.islice(stream, 1))

    def __next__(self) -> T:
        return self._first.pop() if self._first else next(self._stream)

    def close(self) -> None:
        """End the stream."""
        close(self._stream)


class AsyncBegun(AsyncIterator[T]):
    """The same for an async stream.

    Args:
        stream: The stream.
        first: Its first item, if it has one.
    """

    def __init__(self, stream: AsyncIterator[T], first: list[T]) -> None:
        self._stream = stream
        self._first = first

    @classmethod
    async def of(cls, stream: AsyncIterator[T]) -> AsyncBegun[T]:
        """Fetch the first item of a stream."""
        async for item in stream:
            return cls(stream, [item])
        return cls(stream, [])

    async def __anext__(self) -> T:
        return self._first.pop() if self._first else await anext(self._stream)

    async def aclose(self) -> None:
        """End the stream."""
        await aclose(self._stream)


class GuardedStream(Iterator[T]):
    """A guarded stream that keeps what is known about the one behind it, but for its text.

    Args:
        inner: The stream as the function returned it.
        guarded: Its cleared items.
    """

    def __init__(self, inner: Any, guarded: Iterator[T]) -> None:
        self._inner = inner
        self._guarded = guarded

    def __next__(self) -> T:
        return next(self._guarded)

    def __getattr__(self, name: str) -> Any:
        return _attribute(self._inner, name)

    def __enter__(self) -> GuardedStream[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream and close the one behind it."""
        for part in (self._guarded, self._inner):
            close(part)


class AsyncGuardedStream(AsyncIterator[T]):
    """The same for an async stream.

    Args:
        inner: The stream as the function returned it.
        guarded: Its cleared items.
    """

    def __init__(self, inner: Any, guarded: AsyncIterator[T]) -> None:
        self._inner = inner
        self._guarded = guarded

    async def __anext__(self) -> T:
        return await anext(self._guarded)

    def __getattr__(self, name: str) -> Any:
        return _attribute(self._inner, name)

    async def __aenter__(self) -> AsyncGuardedStream[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream and close the one behind it."""
        for part in (self._guarded, self._inner):
            await aclose(part)

    close = aclose
