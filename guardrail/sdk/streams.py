"""Guarded iteration: a stream goes through the relay, and the consumer gets what is cleared.

    async: source ──> Relay (consumer's loop) ──> queue ──> consumer
    sync:  source <──pull── Relay (background loop) ──> queue ──> consumer's thread

A sync source is read in the consumer's own thread, when the relay asks for the next item: the
code behind it keeps its thread, its locks and its context variables.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from guardrail.policy import Policy
from guardrail.redact import Redactor, StreamRedactor, unredactable
from guardrail.relay import Relay, SourceFault, Unreadable, readable, stream_settings
from guardrail.sdk.codecs import Codec
from guardrail.sdk.runtime import Runtime
from guardrail.stream import Check, StreamGuard
from guardrail.types import Direction, Frame, Verdict

__all__ = ["Ending", "aclose", "close", "guard_async", "guard_sync"]

T = TypeVar("T")
Judge = Callable[[Check], Awaitable[Verdict]]

QUEUED_RELEASES = 16
"""Releases that may wait for a slow consumer; the relay then stops reading its source."""


class Ending(Protocol[T]):
    """What the owner of a stream does about verdicts, in the consumer's thread or loop."""

    def flagged(self, verdict: Verdict) -> None:
        """Take note of a verdict that flags."""
        ...

    def blocked(self, verdict: Verdict, codec: Codec[T]) -> Iterable[T]:
        """Return the last items of a blocked stream, or raise."""
        ...

    def unreadable(self, codec: Codec[T]) -> Iterable[T]:
        """Return the last items of a stream that cannot be read, or raise."""
        ...


@dataclass(frozen=True, slots=True)
class _Items:
    frames: Sequence[Frame]


@dataclass(frozen=True, slots=True)
class _Flagged:
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Blocked:
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Failed:
    pass


@dataclass(frozen=True, slots=True)
class _Ended:
    pass


@dataclass(frozen=True, slots=True)
class _Crashed:
    error: BaseException


@dataclass(frozen=True, slots=True)
class _Pull:
    answer: asyncio.Future[Sequence[Frame] | None]


_Event = _Items | _Flagged | _Blocked | _Failed | _Ended | _Crashed | _Pull


class _Outbox:
    """The relay's sink: turns its calls into events for the consumer."""

    def __init__(self, put: Callable[[_Event], Awaitable[None]]) -> None:
        self._put = put

    async def release(self, frames: Sequence[Frame]) -> None:
        await self._put(_Items(frames))

    async def flagged(self, verdict: Verdict) -> None:
        await self._put(_Flagged(verdict))

    async def refuse(self, verdict: Verdict) -> None:
        await self._put(_Blocked(verdict))

    async def fail(self, message: str) -> None:  # noqa: ARG002  (the fault itself is kept)
        await self._put(_Failed())

    async def finish(self) -> None:
        await self._put(_Ended())


class _Consumer(Generic[T]):
    """What consumers of both kinds do with an event; also keeps the source's own error."""

    def __init__(self, policy: Policy, codec: Codec[T], ending: Ending[T]) -> None:
        self._policy = policy
        self._codec = codec
        self._ending = ending
        self._error: BaseException | None = None
        self.over = False

    def decode(self, item: T) -> Sequence[Frame]:
        return readable(self._policy, self._codec.frames(item))

    def flush(self) -> Sequence[Frame]:
        return readable(self._policy, self._codec.flush())

    def fault(self, error: BaseException) -> SourceFault:
        """Keep an error of the source, which is raised once what came before is released."""
        self._error = error
        return error if isinstance(error, SourceFault) else SourceFault("the source failed")

    def take(self, event: _Event) -> Iterable[T]:
        """Return the items for an event, or raise what ends the stream."""
        match event:
            case _Items(frames):
                return self._codec.items(frames)
            case _Flagged(verdict):
                self._ending.flagged(verdict)
                return ()
            case _Blocked(verdict):
                self.over = True
                return self._ending.blocked(verdict, self._codec)
            case _Failed():
                self.over = True
                return self._failed()
            case _Crashed(error):
                raise error
        self.over = True
        return ()

    def _failed(self) -> Iterable[T]:
        error = self._error
        if error is None or isinstance(error, Unreadable):
            return self._ending.unreadable(self._codec)
        raise error


async def guard_async(
    source: AsyncIterator[T], codec: Codec[T], policy: Policy, judge: Judge, ending: Ending[T]
) -> AsyncGenerator[T, None]:
    """Yield what is cleared of an async stream.

    Args:
        source: The stream; closed however this ends.
        codec: Reads its items.
        policy: The policy in force.
        judge: Turns a check into a verdict.
        ending: What to do about verdicts.

    Yields:
        The items, in order.
    """
    outbox: asyncio.Queue[_Event] = asyncio.Queue(QUEUED_RELEASES)
    consumer = _Consumer(policy, codec, ending)

    async def frames() -> AsyncGenerator[Sequence[Frame], None]:
        try:
            async for item in source:
                yield consumer.decode(item)
            yield consumer.flush()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise consumer.fault(error)  # noqa: B904  (something that the source waited for)
        except Exception as error:  # noqa: BLE001  (whatever the wrapped code raises)
            raise consumer.fault(error)  # noqa: B904  (the error itself is kept)
        finally:
            await aclose(source)

    guard = StreamGuard(stream_settings(policy))
    relay = Relay(guard, frames(), _Outbox(outbox.put), judge, *_redaction(policy, codec))
    task = asyncio.create_task(_run(relay, outbox.put))
    try:
        while not consumer.over:
            for item in consumer.take(await outbox.get()):
                yield item
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def guard_sync(
    source: Iterable[T],
    codec: Codec[T],
    policy: Policy,
    judge: Judge,
    ending: Ending[T],
    home: Runtime,
) -> Generator[T, None, None]:
    """Yield what is cleared of a sync stream.

    Args:
        source: The stream, read in this thread; closed however this ends.
        codec: Reads its items.
        policy: The policy in force.
        judge: Turns a check into a verdict, on the background loop.
        ending: What to do about verdicts.
        home: The background loop.

    Yields:
        The items, in order.
    """
    outbox: queue.SimpleQueue[_Event] = queue.SimpleQueue()
    consumer = _Consumer(policy, codec, ending)
    steps = _steps(source, consumer)

    async def put(event: _Event) -> None:
        outbox.put(event)

    async def start() -> None:
        guard = StreamGuard(stream_settings(policy))
        relay = Relay(guard, _pulled(put), _Outbox(put), judge, *_redaction(policy, codec))
        await _run(relay, put)

    relay = home.submit(start())
    pull: asyncio.Future[Sequence[Frame] | None] | None = None
    try:
        while not consumer.over:
            # What is cleared goes first; the source is read only while nothing is.
            try:
                event = outbox.get(block=pull is None)
            except queue.Empty:
                assert pull is not None
                _answer(home, pull, steps, consumer)
                pull = None
                continue
            if isinstance(event, _Pull):
                pull = event.answer
            else:
                yield from consumer.take(event)
    finally:
        relay.cancel()
        steps.close()
        close(source)


def _redaction(policy: Policy, codec: Codec[Any]) -> tuple[StreamRedactor | None, Verdict]:
    redactor = Redactor.of(policy, Direction.OUTPUT)
    stream = StreamRedactor(redactor, codec.edit) if redactor is not None else None
    return stream, unredactable(policy, Direction.OUTPUT)


async def _run(relay: Relay, put: Callable[[_Event], Awaitable[None]]) -> None:
    try:
        await relay.run()
    except Exception as error:  # noqa: BLE001  (raised again in the consumer)
        await put(_Crashed(error))


def _steps(source: Iterable[T], consumer: _Consumer[T]) -> Generator[Sequence[Frame], None, None]:
    for item in source:
        yield consumer.decode(item)
    yield consumer.flush()


async def _pulled(
    put: Callable[[_Event], Awaitable[None]],
) -> AsyncGenerator[Sequence[Frame], None]:
    """Yield what the consumer's thread reads from the source for us."""
    loop = asyncio.get_running_loop()
    while True:
        answer: asyncio.Future[Sequence[Frame] | None] = loop.create_future()
        await put(_Pull(answer))
        frames = await answer
        if frames is None:
            return
        yield frames


def _answer(
    home: Runtime,
    pull: asyncio.Future[Sequence[Frame] | None],
    steps: Iterator[Sequence[Frame]],
    consumer: _Consumer[Any],
) -> None:
    """Read the source once, in this thread, and hand the frames to the relay."""
    frames: Sequence[Frame] | None = None
    fault: SourceFault | None = None
    try:
        frames = next(steps, None)
    except Exception as error:  # noqa: BLE001  (whatever the wrapped code raises)
        fault = consumer.fault(error)
    home.loop.call_soon_threadsafe(_settle, pull, frames, fault)


def _settle(
    pull: asyncio.Future[Sequence[Frame] | None],
    frames: Sequence[Frame] | None,
    fault: SourceFault | None,
) -> None:
    if pull.done():
        return
    if fault is not None:
        pull.set_exception(fault)
    else:
        pull.set_result(frames)


def close(source: object) -> None:
    """Close a stream that can be closed."""
    end = getattr(source, "close", None)
    if callable(end):
        end()


async def aclose(source: object) -> None:
    """Close an async stream: a generator has ``aclose``, the clients' streams have ``close``."""
    end = getattr(source, "aclose", None) or getattr(source, "close", None)
    done = end() if callable(end) else None
    if inspect.isawaitable(done):
        await done
