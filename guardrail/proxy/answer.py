"""From an upstream answer to the client: sources and sinks for the `Relay`.

The source turns bytes into frames; the sink writes what the guard releases and, where it ends
the answer, what the dialect says an ended answer looks like.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from guardrail.check import Checker, Watch
from guardrail.errors import WireError
from guardrail.policy import Policy
from guardrail.proxy.notices import Notices
from guardrail.proxy.settings import Settings
from guardrail.proxy.upstream import UpstreamAnswer, UpstreamError, pieces
from guardrail.redact import Redactor, StreamRedactor, unredactable
from guardrail.relay import Places, Relay, Result, Unreadable, readable, stream_settings
from guardrail.stream import Check, StreamGuard
from guardrail.types import Direction, Frame, Role, Segment, Verdict
from guardrail.wire import Wire, WireRequest, WireStream, read_error
from guardrail.wire.rewrite import edit_body, edit_event

log = logging.getLogger("guardrail.proxy")

__all__ = ["Answer", "Relayed", "StreamSink", "WholeSink"]

_BODILESS: Final = frozenset({"HEAD", "OPTIONS"})
_EMPTY: Final = frozenset({204, 205, 304})
"""Methods and statuses whose answers have no body (RFC 9110), or need none."""


class FirstText:
    """How long the first text of an answer was held."""

    __slots__ = ("_came", "held_s")

    def __init__(self) -> None:
        self._came: float | None = None
        self.held_s: float | None = None

    def came(self, frames: Sequence[Frame]) -> None:
        """Take note of frames from the upstream."""
        if self._came is None and any(frame.spans for frame in frames):
            self._came = time.monotonic()

    def left(self, frames: Sequence[Frame]) -> None:
        """Take note of frames that were written to the client."""
        if self.held_s is None and self._came is not None and any(f.spans for f in frames):
            self.held_s = time.monotonic() - self._came


class StreamSink:
    """Writes a streamed answer; the head goes out with the first frame.

    Args:
        request: The client's request.
        stream: The decoder of this answer, which also knows how to end it.
        headers: Headers for the client.
        status: Status of the upstream's answer.
        notices: Makes the notice for a verdict.
        first: Told when the first text leaves.
    """

    def __init__(
        self,
        request: web.Request,
        stream: WireStream,
        headers: Mapping[str, str],
        status: int,
        notices: Notices,
        first: FirstText,
    ) -> None:
        self._request = request
        self._stream = stream
        self._notices = notices
        self._first = first
        self.response = web.StreamResponse(status=status, headers=headers)

    async def _write(self, data: bytes) -> None:
        if not self.response.prepared:
            await self.response.prepare(self._request)
        await self.response.write(data)

    async def release(self, frames: Sequence[Frame]) -> None:
        """Write frames that are cleared."""
        await self._write(b"".join(frame.raw for frame in frames))
        self._first.left(frames)
        for frame in frames:
            self._stream.sent(frame)

    async def flagged(self, verdict: Verdict) -> None:
        """Say within the stream that the answer was flagged."""
        if told := self._notices.tell(self._stream, verdict):
            await self._write(told)

    async def refuse(self, verdict: Verdict) -> None:
        """End the stream as the dialect ends a filtered answer."""
        told = self._notices.tell(self._stream, verdict)
        await self._write(told + self._stream.refusal(self._notices.notice(verdict)))
        await self.response.write_eof()

    async def fail(self, message: str) -> None:
        """End the stream as the dialect ends one that broke off."""
        await self._write(self._stream.failure(message))
        await self.response.write_eof()

    async def finish(self) -> None:
        """End the stream."""
        if not self.response.prepared:
            await self.response.prepare(self._request)
        await self.response.write_eof()


class WholeSink:
    """Collects a whole answer.

    Args:
        wire: The dialect.
        request: The request that it answers.
        body: The upstream's bytes.
        headers: Headers for the client.
        status: Status of the upstream's answer.
        notices: Makes the notice for a verdict.
    """

    def __init__(
        self,
        wire: Wire,
        request: WireRequest,
        body: bytes,
        headers: Mapping[str, str],
        status: int,
        notices: Notices,
    ) -> None:
        self._wire = wire
        self._request = request
        self._body = body
        self._notices = notices
        self.response = web.Response(status=status, headers=headers)
        self._released: list[bytes] = []

    async def release(self, frames: Sequence[Frame]) -> None:
        """Keep the bytes of the answer."""
        self._released += [frame.raw for frame in frames]

    async def flagged(self, verdict: Verdict) -> None:
        """Say in headers that the answer was flagged."""
        self.response.headers.update(self._notices.headers(verdict))

    async def refuse(self, verdict: Verdict) -> None:
        """Replace the answer by the dialect's filtered one."""
        reply = self._wire.output_refusal(self._request, self._body, self._notices.notice(verdict))
        self.response.set_status(reply.status)
        self.response.headers["Content-Type"] = reply.content_type
        self.response.headers.update(self._notices.headers(verdict))
        self.response.body = reply.body

    async def fail(self, message: str) -> None:
        """Replace the answer by an error."""
        reply = self._wire.error(502, message, type="upstream_error", code="upstream_error")
        self.response.set_status(reply.status)
        self.response.headers["Content-Type"] = reply.content_type
        self.response.body = reply.body

    async def finish(self) -> None:
        """Set the body."""
        self.response.body = b"".join(self._released)


@dataclass(frozen=True, slots=True)
class Relayed:
    """An answer that was relayed.

    Args:
        response: What the client got.
        result: How it ended.
        first_held_s: How long its first text was held, where it was streamed and some left.
    """

    response: web.StreamResponse
    result: Result
    first_held_s: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One checked answer: everything that the relay of it needs.

    Args:
        checker: Judges.
        policy: The policy in force.
        wire: The dialect.
        request: The request that is answered.
        notices: Words and headers.
        settings: How large a whole answer and how long a streamed one may be.
        watch: Told of every decision.
        places: Where its checks stand.
    """

    checker: Checker
    policy: Policy
    wire: Wire
    request: WireRequest
    notices: Notices
    settings: Settings
    watch: Watch | None = None
    places: Places = field(default_factory=Places)

    async def relay(
        self,
        client: web.Request,
        upstream: UpstreamAnswer,
        headers: Mapping[str, str],
    ) -> Relayed:
        """Relay an answer, checked.

        Args:
            client: The client's request.
            upstream: The upstream's answer, body unread.
            headers: Headers for the client.

        Returns:
            The response to the client, how it ended, and how long its first text was held.

        Raises:
            UpstreamError: A whole answer could not be read.
            ConnectionResetError: The client is gone.
        """
        sink: StreamSink | WholeSink
        first = FirstText()
        if upstream.content_type == "text/event-stream":
            stream = self.wire.open_stream(self.request)
            source = self._frames(upstream, stream, first)
            sink = StreamSink(client, stream, headers, upstream.status, self.notices, first)
        else:
            body = await _read_whole(upstream, self.settings.max_response_bytes)
            bare = client.method in _BODILESS or upstream.status in _EMPTY
            source = self._frame(body, fine=upstream.ok, bare=bare)
            sink = WholeSink(self.wire, self.request, body, headers, upstream.status, self.notices)
        guard = StreamGuard(stream_settings(self.policy))
        redactor = self._redactor(whole=isinstance(sink, WholeSink), fine=upstream.ok)
        refusal = unredactable(self.policy, Direction.OUTPUT)
        try:
            result = await Relay(guard, source, sink, self._judge, redactor, refusal).run()
        except ConnectionResetError:
            raise
        except Exception:
            # Once the head is out an error page is no longer possible, only a proper end.
            if not (isinstance(sink, StreamSink) and sink.response.prepared):
                raise
            log.exception("an answer failed after its head was sent")
            await sink.fail("The guardrail failed on this answer.")
            result = Result(None, guard.stats, "fault")
        return Relayed(sink.response, result, first.held_s)

    def _redactor(self, *, whole: bool, fine: bool) -> StreamRedactor | None:
        redactor = Redactor.of(self.policy, Direction.OUTPUT)
        if redactor is None:
            return None
        read = self.wire.read_response if fine else read_error
        return StreamRedactor(redactor, edit_body(read, redactor.clean) if whole else edit_event)

    async def _judge(self, check: Check) -> Verdict:
        segment = Segment(
            check.text, Role.ASSISTANT, channel=check.channel, prompt=self.request.prompt
        )
        return await self.checker.check(
            self.policy,
            Direction.OUTPUT,
            segment,
            context=check.context,
            place=self.places.of(check),
            watch=self.watch,
        )

    async def _frames(
        self, upstream: UpstreamAnswer, stream: WireStream, first: FirstText
    ) -> AsyncGenerator[Sequence[Frame], None]:
        """Yield the frames of a streamed answer, read by read."""
        size, limits, started = 0, self.settings.limits, time.monotonic()
        try:
            async for data in pieces(upstream):
                size += len(data)
                if size > limits.stream_bytes:
                    raise UpstreamError("too_large", 502, "The model API's answer is too large.")
                if time.monotonic() - started > limits.stream_s:
                    raise UpstreamError("too_long", 504, "The model API's answer took too long.")
                frames = readable(self.policy, stream.feed(data))
                first.came(frames)
                yield frames
            yield readable(self.policy, stream.flush())
        except WireError as error:
            raise Unreadable(f"The model API sent a stream that cannot be read: {error}") from error
        if not stream.complete():
            raise UpstreamError("broken", 502, "The model API broke off its answer.")

    async def _frame(
        self, body: bytes, *, fine: bool, bare: bool
    ) -> AsyncGenerator[Sequence[Frame], None]:
        """Yield a whole answer, or an error, as one frame; none where there is no body to be."""
        if bare and not body:
            return
        try:
            frame = self.wire.read_response(body) if fine else read_error(body)
        except WireError as error:
            log.info("an answer cannot be read: %s", error)
            frame = Frame(raw=body, opaque=True)
        yield readable(self.policy, [frame])


async def _read_whole(upstream: UpstreamAnswer, limit: int) -> bytes:
    """Read a body of at most ``limit`` bytes, however it is compressed."""
    body = bytearray()
    async for data in pieces(upstream):
        body += data
        if len(body) > limit:
            raise UpstreamError("too_large", 502, "The model API's answer is too large.")
    return bytes(body)
