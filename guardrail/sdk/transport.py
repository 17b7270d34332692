"""Guarded HTTP for the official clients: the bytes of a call, checked on their way.

The guard sits between a client and its connection pool, where the proxy would sit on the
network: requests and answers are read by the same dialects, and the client parses what passes
with its own types. Works with httpx and httpx2, whichever a client brings; imports neither.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any, TypeVar

from guardrail.errors import GuardrailError
from guardrail.redact import LARGE_BYTES
from guardrail.sdk.adapters import answer_segments
from guardrail.sdk.exchange import Call, Exchange
from guardrail.sdk.parallel import abeside, beside
from guardrail.sdk.scope import Options
from guardrail.sdk.streams import aclose, close
from guardrail.types import Direction, Verdict
from guardrail.wire import Wire
from guardrail.wire.routes import Route

__all__ = ["guarded_http"]

T = TypeVar("T")


def _is_stream(response: Any) -> bool:
    """Return whether an answer is a stream; errors are none, whatever their label says."""
    kind: str = response.headers.get("content-type", "")
    return bool(response.is_success) and kind.startswith("text/event-stream")


class _SyncTransport:
    """Sends by another client of the same library, with checks before and after."""

    def __init__(self, inner: Any, exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    def handle_request(self, request: Any) -> Any:
        exchange = self._exchange
        route = exchange.route_of(request)
        if route.wire is None or not route.guarded:
            return self._passed_on(self._send(request))
        try:
            return self._guarded(route, route.wire, request)
        except GuardrailError as error:
            return exchange.failure(error, request)

    def _guarded(self, route: Route, wire: Wire, request: Any) -> Any:
        exchange = self._exchange
        call = Call(route, wire, route.read(request.read()))
        verdict, response = self._sent(call, request)
        exchange.note(verdict)
        if verdict.blocked:
            return exchange.refusal(call, verdict, None, request)
        if not exchange.is_guarded(response):
            return self._passed_on(response)
        return self._answer(call, response, request)

    def _sent(self, call: Call, request: Any) -> tuple[Verdict, Any]:
        """Check a request and send it, in the order that the policy sets."""
        guardrail, asked = self._exchange.guardrail, call.request
        if guardrail.parallel:
            check = guardrail.submit_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
            return beside(check, lambda: self._send(request), close)
        verdict = guardrail.check_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
        request, verdict = self._exchange.clean_request(call, request, verdict)
        return verdict, None if verdict.blocked else self._send(request)

    def _send(self, request: Any) -> Any:
        return self._inner.send(request, stream=True, follow_redirects=False)

    def _passed_on(self, response: Any) -> Any:
        body = _classes(self._exchange.http)[0](response.iter_raw(), response)
        return self._exchange.passed_on(response, body)

    def _answer(self, call: Call, response: Any, request: Any) -> Any:
        exchange = self._exchange
        if _is_stream(response):
            guarded = exchange.guardrail.stream(
                response.iter_bytes(), exchange.codec(call), exchange.ending, call.request.prompt
            )
            stream = _classes(exchange.http)[0](guarded, response)
            return exchange.rebuilt(response, stream=stream)
        body = _read(response)
        read = exchange.reader(call, response)
        frame = exchange.frame(read, body)
        segments = answer_segments(frame, call.request.prompt)
        guardrail = exchange.guardrail
        verdict = guardrail.check_segments(segments, Direction.OUTPUT, opaque=frame.opaque)
        exchange.note(verdict)
        body, verdict = exchange.clean_answer(read, frame, verdict)
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
        route = exchange.route_of(request)
        if route.wire is None or not route.guarded:
            return self._passed_on(await self._send(request))
        try:
            return await self._guarded(route, route.wire, request)
        except GuardrailError as error:
            return exchange.failure(error, request)

    async def _guarded(self, route: Route, wire: Wire, request: Any) -> Any:
        exchange = self._exchange
        call = Call(route, wire, route.read(await request.aread()))
        verdict, response = await self._sent(call, request)
        exchange.note(verdict)
        if verdict.blocked:
            return exchange.refusal(call, verdict, None, request)
        if not exchange.is_guarded(response):
            return self._passed_on(response)
        return await self._answer(call, response, request)

    async def _sent(self, call: Call, request: Any) -> tuple[Verdict, Any]:
        """Check a request and send it, in the order that the policy sets."""
        guardrail, asked = self._exchange.guardrail, call.request
        check = guardrail.acheck_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
        if guardrail.parallel:
            return await abeside(check, self._send(request), aclose)
        clean = functools.partial(self._exchange.clean_request, call, request, await check)
        request, verdict = await _aside(len(asked.raw), clean)
        return verdict, None if verdict.blocked else await self._send(request)

    async def _send(self, request: Any) -> Any:
        return await self._inner.send(request, stream=True, follow_redirects=False)

    def _passed_on(self, response: Any) -> Any:
        body = _classes(self._exchange.http)[1](response.aiter_raw(), response)
        return self._exchange.passed_on(response, body)

    async def _answer(self, call: Call, response: Any, request: Any) -> Any:
        exchange = self._exchange
        if _is_stream(response):
            guarded = exchange.guardrail.astream(
                response.aiter_bytes(), exchange.codec(call), exchange.ending, call.request.prompt
            )
            stream = _classes(exchange.http)[1](guarded, response)
            return exchange.rebuilt(response, stream=stream)
        body = await _aread(response)
        read = exchange.reader(call, response)
        frame = exchange.frame(read, body)
        segments = answer_segments(frame, call.request.prompt)
        guardrail = exchange.guardrail
        verdict = await guardrail.acheck_segments(segments, Direction.OUTPUT, opaque=frame.opaque)
        exchange.note(verdict)
        clean = functools.partial(exchange.clean_answer, read, frame, verdict)
        body, verdict = await _aside(len(body), clean)
        if verdict.blocked:
            return exchange.refusal(call, verdict, body, request)
        return exchange.rebuilt(response, content=body)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _aside(size: int, work: Callable[[], T]) -> T:
    """Redact a body; a large one in a thread, so that it does not hold up other calls."""
    return work() if size < LARGE_BYTES else await asyncio.to_thread(work)


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


def guarded_http(inner: Any, options: Options, http: ModuleType) -> Any:
    """Return an HTTP client that sends by another one, with checks.

    Args:
        inner: The client's HTTP client, sync or async; closed with the new one.
        options: What the guard was told.
        http: The module of the HTTP library.
    """
    exchange = Exchange(options, http)
    settings = {
        "base_url": inner.base_url,
        "timeout": inner.timeout,
        "follow_redirects": inner.follow_redirects,
        "trust_env": False,  # proxies and certificates of the environment are inner's affair
    }
    if isinstance(inner, http.AsyncClient):
        return http.AsyncClient(transport=_classes(http)[3](inner, exchange), **settings)
    return http.Client(transport=_classes(http)[2](inner, exchange), **settings)
