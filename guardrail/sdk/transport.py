"""Guarded HTTP for the official clients: the bytes of a call, checked on their way.

The guard sits between a client and its connection pool, where the proxy would sit on the
network: requests and answers are read by the same dialects, and the client parses what passes
with its own types. Works with httpx and httpx2, whichever a client brings; imports neither.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from guardrail.errors import GuardrailBlocked, GuardrailError, WireError
from guardrail.sdk.api import Guardrail, answer_segments
from guardrail.sdk.codecs import ByteCodec, Codec
from guardrail.sdk.parallel import abeside, beside
from guardrail.sdk.scope import Options
from guardrail.sdk.streams import aclose, close
from guardrail.types import Action, Direction, Frame, Verdict
from guardrail.wire import WIRES, Notice, Reply, Wire, WireRequest

__all__ = ["ERROR", "guarded_http"]

ERROR: Final = "guardrail_error"
"""Key of our exception among the extensions of a response that stands for it. A client would
take an exception from its transport for a lost connection, and try again."""

_FORMS: Final = ("content-length", "content-encoding", "transfer-encoding")
"""Headers about the form of a body that we have decoded."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One guarded request."""

    wire: Wire
    request: WireRequest


class _Ending:
    """How a streamed answer ends, in the client's own terms."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def flagged(self, verdict: Verdict) -> None:
        if self._options.on_flag is not None and verdict.effective is Action.FLAG:
            self._options.on_flag(verdict)

    def blocked(self, verdict: Verdict, codec: Codec[bytes]) -> Iterable[bytes]:
        if self._options.on_block != "message":
            raise GuardrailBlocked(verdict)
        return codec.refusal(self._options.guardrail.notice(verdict))

    def unreadable(self, codec: Codec[bytes]) -> Iterable[bytes]:
        return self.blocked(self._options.guardrail.unreadable(), codec)


class Exchange:
    """What is done about one client's calls; shared by the sync and the async transport.

    Args:
        options: What the guard was told.
        dialects: Prefix of the names of the client's dialects: ``openai`` or ``anthropic``.
        http: The module of the client's HTTP library.
    """

    def __init__(self, options: Options, dialects: str, http: ModuleType) -> None:
        self.options = options
        self.ending = _Ending(options)
        self.http = http
        self._wires = [
            (path.removeprefix("/v1"), wire)
            for name, wire in WIRES.items()
            if name.startswith(f"{dialects}.")
            for path in wire.paths
        ]

    @property
    def guardrail(self) -> Guardrail:
        """What judges."""
        return self.options.guardrail

    def wire_for(self, method: str, path: str) -> Wire | None:
        """Return the dialect of a request, or None where it carries no text to judge."""
        if method != "POST":
            return None
        plain = path.rstrip("/")
        return next((wire for tail, wire in self._wires if plain.endswith(tail)), None)

    def is_guarded(self, response: Any) -> bool:
        """Return whether an answer carries text of the model."""
        applies = self.guardrail.policy.applies(Direction.OUTPUT)
        return applies and 200 <= response.status_code < 300

    def note(self, verdict: Verdict) -> None:
        """Tell the callback about a verdict that flags."""
        self.ending.flagged(verdict)

    def refusal(self, call: _Call, verdict: Verdict, body: bytes | None, request: Any) -> Any:
        """Return the response that stands for a block.

        Args:
            call: The call.
            verdict: Why.
            body: The answer that is blocked, or None where the request is.
            request: The HTTP request.
        """
        if self.options.on_block != "message":
            return self.failure(GuardrailBlocked(verdict), request)
        notice = self.guardrail.notice(verdict)
        reply = _reply(call, notice, body)
        headers = {"content-type": reply.content_type}
        return self.http.Response(
            reply.status, headers=headers, content=reply.body, request=request
        )

    def failure(self, error: GuardrailError, request: Any) -> Any:
        """Return a response that makes the client raise an error of ours.

        Args:
            error: The error; its message is in the body, too, for clients that are wrapped
                otherwise.
            request: The HTTP request.
        """
        body = {"error": {"message": str(error), "type": "guardrail", "code": "content_filter"}}
        return self.http.Response(
            400,
            headers={"content-type": "application/json", "x-should-retry": "false"},
            content=json.dumps(body).encode(),
            request=request,
            extensions={ERROR: error},
        )

    def rebuilt(self, response: Any, **body: Any) -> Any:
        """Return a response with another body."""
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in _FORMS]
        extensions = {k: v for k, v in response.extensions.items() if k != "network_stream"}
        return self.http.Response(
            response.status_code, headers=headers, extensions=extensions, **body
        )

    def passed_on(self, response: Any, stream: Any) -> Any:
        """Return a response that is not judged, its bytes as they come."""
        return self.http.Response(
            response.status_code,
            headers=response.headers,
            stream=stream,
            extensions=response.extensions,
        )

    def frame(self, call: _Call, body: bytes) -> Frame:
        """Read a whole answer; one that cannot be read is opaque."""
        try:
            return call.wire.read_response(body)
        except WireError:
            return Frame(body, opaque=True)

    def codec(self, call: _Call) -> ByteCodec:
        """Return the codec for a streamed answer."""
        return ByteCodec(call.wire.open_stream(call.request))


def _reply(call: _Call, notice: Notice, body: bytes | None) -> Reply:
    if body is None:
        return call.wire.input_refusal(call.request, notice)
    return call.wire.output_refusal(call.request, body, notice)


def _is_stream(response: Any) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.startswith("text/event-stream")


class _SyncTransport:
    """Sends by another client of the same library, with checks before and after."""

    def __init__(self, inner: Any, exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    def handle_request(self, request: Any) -> Any:
        exchange = self._exchange
        wire = exchange.wire_for(request.method, request.url.path)
        if wire is None:
            return self._passed_on(self._send(request))
        try:
            return self._guarded(wire, request)
        except GuardrailError as error:
            return exchange.failure(error, request)

    def _guarded(self, wire: Wire, request: Any) -> Any:
        exchange = self._exchange
        call = _Call(wire, wire.read_request(request.read()))
        verdict, response = self._sent(call, request)
        exchange.note(verdict)
        if verdict.blocked:
            return exchange.refusal(call, verdict, None, request)
        if not exchange.is_guarded(response):
            return self._passed_on(response)
        return self._answer(call, response, request)

    def _sent(self, call: _Call, request: Any) -> tuple[Verdict, Any]:
        """Check a request and send it, in the order that the policy sets."""
        guardrail, asked = self._exchange.guardrail, call.request
        if guardrail.parallel:
            check = guardrail.submit_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
            return beside(check, lambda: self._send(request), close)
        verdict = guardrail.check_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
        return verdict, None if verdict.blocked else self._send(request)

    def _send(self, request: Any) -> Any:
        return self._inner.send(request, stream=True, follow_redirects=False)

    def _passed_on(self, response: Any) -> Any:
        body = _classes(self._exchange.http)[0](response.iter_raw(), response)
        return self._exchange.passed_on(response, body)

    def _answer(self, call: _Call, response: Any, request: Any) -> Any:
        exchange = self._exchange
        if _is_stream(response):
            guarded = exchange.guardrail.stream(
                response.iter_bytes(), exchange.codec(call), exchange.ending, call.request.prompt
            )
            stream = _classes(exchange.http)[0](guarded, response)
            return exchange.rebuilt(response, stream=stream)
        body = _read(response)
        frame = exchange.frame(call, body)
        segments = answer_segments(frame, call.request.prompt)
        verdict = exchange.guardrail.check_segments(segments, Direction.OUTPUT)
        verdict = _or_unreadable(exchange.guardrail, frame, verdict)
        exchange.note(verdict)
        if verdict.blocked:
            return exchange.refusal(call, verdict, body, request)
        return exchange.rebuilt(response, content=body)

    def close(self) -> None:
        self._inner.close()


class _AsyncTransport:
    """The same for async clients."""

    def __init__(self, inner: Any, exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    async def handle_async_request(self, request: Any) -> Any:
        exchange = self._exchange
        wire = exchange.wire_for(request.method, request.url.path)
        if wire is None:
            return self._passed_on(await self._send(request))
        try:
            return await self._guarded(wire, request)
        except GuardrailError as error:
            return exchange.failure(error, request)

    async def _guarded(self, wire: Wire, request: Any) -> Any:
        exchange = self._exchange
        call = _Call(wire, wire.read_request(await request.aread()))
        verdict, response = await self._sent(call, request)
        exchange.note(verdict)
        if verdict.blocked:
            return exchange.refusal(call, verdict, None, request)
        if not exchange.is_guarded(response):
            return self._passed_on(response)
        return await self._answer(call, response, request)

    async def _sent(self, call: _Call, request: Any) -> tuple[Verdict, Any]:
        """Check a request and send it, in the order that the policy sets."""
        guardrail, asked = self._exchange.guardrail, call.request
        check = guardrail.acheck_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
        if guardrail.parallel:
            return await abeside(check, self._send(request), aclose)
        verdict = await check
        return verdict, None if verdict.blocked else await self._send(request)

    async def _send(self, request: Any) -> Any:
        return await self._inner.send(request, stream=True, follow_redirects=False)

    def _passed_on(self, response: Any) -> Any:
        body = _classes(self._exchange.http)[1](response.aiter_raw(), response)
        return self._exchange.passed_on(response, body)

    async def _answer(self, call: _Call, response: Any, request: Any) -> Any:
        exchange = self._exchange
        if _is_stream(response):
            guarded = exchange.guardrail.astream(
                response.aiter_bytes(), exchange.codec(call), exchange.ending, call.request.prompt
            )
            stream = _classes(exchange.http)[1](guarded, response)
            return exchange.rebuilt(response, stream=stream)
        body = await _aread(response)
        frame = exchange.frame(call, body)
        segments = answer_segments(frame, call.request.prompt)
        verdict = await exchange.guardrail.acheck_segments(segments, Direction.OUTPUT)
        verdict = _or_unreadable(exchange.guardrail, frame, verdict)
        exchange.note(verdict)
        if verdict.blocked:
            return exchange.refusal(call, verdict, body, request)
        return exchange.rebuilt(response, content=body)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _or_unreadable(guardrail: Guardrail, frame: Frame, verdict: Verdict) -> Verdict:
    if frame.opaque and not verdict.blocked and (bad := guardrail.unreadable()).blocked:
        return bad
    return verdict


def _read(response: Any) -> bytes:
    try:
        body: bytes = response.read()
    finally:
        response.close()
    return body


async def _aread(response: Any) -> bytes:
    try:
        body: bytes = await response.aread()
    finally:
        await response.aclose()
    return body


class _SyncBody:
    """A response's body: guarded bytes, and the response to close with them."""

    def __init__(self, data: Iterator[bytes], response: Any) -> None:
        self._data = data
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._data

    def close(self) -> None:
        close = getattr(self._data, "close", None)
        if close is not None:
            close()
        self._response.close()


class _AsyncBody:
    """The same for async clients."""

    def __init__(self, data: AsyncIterator[bytes], response: Any) -> None:
        self._data = data
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._data:
            yield data

    async def aclose(self) -> None:
        close = getattr(self._data, "aclose", None)
        if close is not None:
            await close()
        await self._response.aclose()


@functools.cache
def _classes(http: ModuleType) -> tuple[type[Any], type[Any], type[Any], type[Any]]:
    """Return bodies and transports that are of the library's own base classes."""
    return (
        type("GuardedBody", (_SyncBody, http.SyncByteStream), {}),
        type("AsyncGuardedBody", (_AsyncBody, http.AsyncByteStream), {}),
        type("GuardedTransport", (_SyncTransport, http.BaseTransport), {}),
        type("AsyncGuardedTransport", (_AsyncTransport, http.AsyncBaseTransport), {}),
    )


def guarded_http(inner: Any, options: Options, dialects: str, http: ModuleType) -> Any:
    """Return an HTTP client that sends by another one, with checks.

    Args:
        inner: The client's HTTP client, sync or async; closed with the new one.
        options: What the guard was told.
        dialects: ``openai`` or ``anthropic``.
        http: The module of the HTTP library.
    """
    exchange = Exchange(options, dialects, http)
    settings = {
        "base_url": inner.base_url,
        "timeout": inner.timeout,
        "follow_redirects": inner.follow_redirects,
        "trust_env": False,  # proxies and certificates of the environment are inner's affair
    }
    if isinstance(inner, http.AsyncClient):
        return http.AsyncClient(transport=_classes(http)[3](inner, exchange), **settings)
    return http.Client(transport=_classes(http)[2](inner, exchange), **settings)
