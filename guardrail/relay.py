"""The one loop through which every checked answer goes, streamed or whole.

A source yields frames, the `StreamGuard` says what to do with them, a sink writes. A whole
answer is one frame and an end; there is no second implementation. The proxy and the SDK both
drive it; it knows no HTTP.

    source ──frames──┐
    checks ─verdicts─┼──> queue ──> StreamGuard ──commands──> sink, checks, timer
    timer ───────────┘

The source is read only while the guard has room and the sink keeps up, so that memory is
bounded by the guard's own bound. Whatever way the loop is left, its tasks are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final, Protocol

from guardrail.classifier.base import Place, Stream
from guardrail.decide import decide_failure
from guardrail.policy import Mode, Policy
from guardrail.redact import StreamRedactor, Unredactable
from guardrail.stream import (
    Check,
    Command,
    Finish,
    Release,
    StreamGuard,
    StreamSettings,
    StreamStats,
    Terminate,
    Wake,
)
from guardrail.stream import Mode as StreamMode
from guardrail.types import Action, Channel, Direction, Frame, Role, Verdict

__all__ = [
    "Places",
    "Relay",
    "Result",
    "Sink",
    "SourceFault",
    "Unreadable",
    "readable",
    "stream_settings",
]

QUEUED_BYTES: Final = 65_536
"""What may be read from upstream while the sink keeps the loop waiting."""


class SourceFault(Exception):  # noqa: N818  (an ending, told to the sink)
    """The source broke off; what came before is still judged and released.

    Args:
        message: What happened, in words fit for the client.
    """

    kind: str = "broken"
    """A stable word for metrics."""


class Unreadable(SourceFault):
    """The answer has a part that could not be read, and the policy fails closed on it."""

    kind = "unreadable"


def stream_settings(policy: Policy) -> StreamSettings:
    """Return how an answer is held; a policy that cannot block it never delays it."""
    values = asdict(policy.stream)
    mode = StreamMode(values.pop("mode"))
    if policy.mode is Mode.MONITOR or not policy.may_block(Direction.OUTPUT):
        mode = StreamMode.MONITOR
    return StreamSettings(mode=mode, **values)


class Places:
    """Where the checks of one answer stand, for a classifier that reads each channel once."""

    MOST: Final = 64
    """Channels that are remembered; beyond, all are begun anew from their context."""

    def __init__(self) -> None:
        self._streams: dict[Channel, Stream] = {}

    def of(self, check: Check) -> Place | None:
        """Return a check's place; None for a channel in one piece, which is judged as a whole."""
        if check.start == 0:  # a channel begins, for the guard forgets those that are idle
            self._streams.pop(check.channel, None)
            if check.final:
                return None
        if check.channel not in self._streams and len(self._streams) >= self.MOST:
            self._streams.clear()
        return Place(self._streams.setdefault(check.channel, Stream()), check.start)


def readable(policy: Policy, frames: Sequence[Frame]) -> Sequence[Frame]:
    """Apply the failure mode to frames that may carry text that we cannot read.

    Args:
        policy: The policy in force.
        frames: Frames of an answer.

    Returns:
        The same frames.

    Raises:
        Unreadable: One of them is opaque, and the policy fails closed.
    """
    if any(frame.opaque for frame in frames):
        verdict = decide_failure(policy, Direction.OUTPUT, Role.ASSISTANT, "unreadable")
        if verdict.blocked:
            raise Unreadable("The model API sent a frame that cannot be read.")
    return frames


class Sink(Protocol):
    """Where an answer goes."""

    async def release(self, frames: Sequence[Frame]) -> None:
        """Write frames that are cleared."""
        ...

    async def flagged(self, verdict: Verdict) -> None:
        """Take note of a verdict that flags."""
        ...

    async def refuse(self, verdict: Verdict) -> None:
        """End the answer as blocked."""
        ...

    async def fail(self, message: str) -> None:
        """End the answer because its source broke off."""
        ...

    async def finish(self) -> None:
        """End the answer; everything was released."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """How an answer ended.

    Args:
        verdict: The worst verdict, or None where nothing was checked.
        stats: What the guard counted.
        fault: A stable word for a fault of the source, or None.
        redacted: Places that were redacted, by kind.
    """

    verdict: Verdict | None
    stats: StreamStats
    fault: str | None = None
    redacted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Frames:
    frames: Sequence[Frame]


@dataclass(frozen=True, slots=True)
class _End:
    error: SourceFault | None


@dataclass(frozen=True, slots=True)
class _Judged:
    check_id: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Tick:
    pass


@dataclass(frozen=True, slots=True)
class _Crash:
    error: BaseException


_Event = _Frames | _End | _Judged | _Tick | _Crash


class Relay:
    """Drives one answer from its source to its sink.

    Args:
        guard: The state machine of this answer.
        source: Frames as they come; raises `SourceFault` at the end of what could be read. It
            is closed however the relay is left.
        sink: Where they go.
        judge: Turns a `Check` into a verdict; never raises.
        redactor: Redacts what is released, or None.
        refusal: The verdict on what should be redacted and cannot be.
    """

    def __init__(
        self,
        guard: StreamGuard,
        source: AsyncGenerator[Sequence[Frame], None],
        sink: Sink,
        judge: Callable[[Check], Awaitable[Verdict]],
        redactor: StreamRedactor | None = None,
        refusal: Verdict | None = None,
    ) -> None:
        self._guard = guard
        self._redactor = redactor
        self._refusal = refusal
        self._source = source
        self._sink = sink
        self._judge = judge
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._queued_bytes = 0
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._verdict: Verdict | None = None
        self._ended: _End | None = None
        self._over = False

    async def run(self) -> Result:
        """Relay until everything is released, or the answer is cut.

        Returns:
            How it ended.

        Raises:
            ConnectionResetError: The client is gone.
        """
        self._room.set()
        self._spawn(self._read())
        try:
            while not self._over:
                event = await self._events.get()
                if isinstance(event, _Judged):
                    await self._note(event.verdict)
                for command in self._apply(event):
                    await self._carry_out(command)
                    if self._over:
                        break
                self._make_room()
        finally:
            await self._stop()
        error = self._ended.error if self._ended else None
        redacted = dict(self._redactor.counts) if self._redactor else {}
        fault = error.kind if error else None
        return Result(self._verdict, self._guard.stats, fault, redacted)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Task[None]) -> None:
        """Bring a fault of our own into the loop, where it ends the answer."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._events.put_nowait(_Crash(error))

    async def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self) -> None:
        error: SourceFault | None = None
        try:
            async with aclosing(self._source) as source:
                async for frames in source:
                    if frames:
                        self._queued_bytes += _size(frames)
                        self._events.put_nowait(_Frames(frames))
                        self._make_room()
                    await self._room.wait()
        except SourceFault as fault:
            error = fault
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not we were cancelled, but something that the source waited for.
            error = SourceFault("The source was cancelled.")
        self._events.put_nowait(_End(error))

    def _make_room(self) -> None:
        if self._guard.paused or self._queued_bytes >= QUEUED_BYTES:
            self._room.clear()
        else:
            self._room.set()

    def _apply(self, event: _Event) -> list[Command]:
        """Hand one event to the guard."""
        now = asyncio.get_running_loop().time()
        match event:
            case _Frames(frames):
                self._queued_bytes -= _size(frames)
                return [c for frame in frames for c in self._guard.receive_frame(frame, now)]
            case _Judged(check_id, verdict):
                return self._guard.receive_verdict(check_id, verdict, now)
            case _Tick():
                return self._guard.receive_time(now)
            case _End():
                self._ended = event
                return self._guard.receive_end(now)
            case _Crash(error):
                raise error

    async def _carry_out(self, command: Command) -> None:
        match command:
            case Check():
                self._spawn(self._check(command))
            case Release(frames):
                await self._release(frames)
            case Wake(at):
                loop = asyncio.get_running_loop()
                self._timer = loop.call_at(at, self._events.put_nowait, _Tick())
            case Terminate():
                self._over = True
                await self._sink.refuse(command.verdict)
            case Finish():
                await self._release((), last=True)
                if self._over:
                    return
                self._over = True
                fault = self._ended.error if self._ended else None
                await (self._sink.fail(str(fault)) if fault else self._sink.finish())

    async def _release(self, frames: Sequence[Frame], *, last: bool = False) -> None:
        """Write what may leave; end the answer where something cannot be redacted."""
        if self._redactor is not None:
            try:
                frames = await _redacted(self._redactor, frames, last=last)
            except Unredactable:
                assert self._refusal is not None, "a redactor comes with a refusal"
                self._over, self._verdict = True, self._refusal
                await self._sink.refuse(self._refusal)
                return
        if frames:
            await self._sink.release(frames)

    async def _check(self, check: Check) -> None:
        verdict = await self._judge(check)
        self._events.put_nowait(_Judged(check.check_id, verdict))

    async def _note(self, verdict: Verdict) -> None:
        """Remember the worst verdict; the first that flags is told to the client."""
        if self._verdict is None or self._verdict.action < verdict.action:
            self._verdict = verdict
            if verdict.effective in (Action.FLAG, Action.REDACT):
                await self._sink.flagged(verdict)


async def _redacted(
    redactor: StreamRedactor, frames: Sequence[Frame], *, last: bool
) -> Sequence[Frame]:
    """Redact frames; much of it is done in a thread, so that it does not hold up streams."""
    work = redactor.flush if last else partial(redactor.feed, frames)
    return await asyncio.to_thread(work) if redactor.heavy(frames, last=last) else work()


def _size(frames: Sequence[Frame]) -> int:
    return sum(len(frame.raw) for frame in frames)
