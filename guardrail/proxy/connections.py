"""Each client connection: how long it may take to ask, to read and to idle, and how many there are.

The HTTP server's own protocol does the talking. This one stands before it, hands everything on,
and watches three things that the server has no bound for: headers that never end, answers that
nobody reads, and the number of connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from guardrail.proxy.limits import Limits

__all__ = ["Connection", "Connections", "attend"]

IDLE: Final = "idle"
HEADERS: Final = "headers"
REQUEST: Final = "request"


class Connections:
    """All connections of one process; makes the protocol of each.

    Args:
        server: The HTTP server, which makes the protocol that does the talking.
        limits: Time and number.
        cut: Called with ``headers``, ``unread`` or ``connections`` when one is cut off.
    """

    def __init__(self, server: web.Server, limits: Limits, cut: Callable[[str], None]) -> None:
        self._server = server
        self.limits = limits
        self.cut = cut
        self.open: set[Connection] = set()

    def __call__(self) -> Connection:
        """Return the protocol for a new connection."""
        return Connection(self, self._server())

    def abort(self) -> None:
        """Cut off all of them."""
        for connection in list(self.open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        all_: The other connections, and the limits.
        inner: The protocol that does the talking.
    """

    __slots__ = ("_all", "_inner", "_reading", "_state", "_transport", "_unread")

    def __init__(self, all_: Connections, inner: asyncio.Protocol) -> None:
        self._all = all_
        self._inner = inner
        self._state = IDLE
        self._transport: asyncio.Transport | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Take note that a request is complete up to its body."""
        self._state = REQUEST
        self._reading = _off(self._reading)

    def end(self) -> None:
        """Take note that the request is answered."""
        self._state = IDLE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take in the connection, or close it where there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._all.open) >= self._all.limits.connections:
            self._all.cut("connections")
            transport.abort()
            return
        self._all.open.add(self)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._reading = _off(self._reading)
        self._unread = _off(self._unread)
        if self in self._all.open:
            self._all.open.discard(self)
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand bytes on; the first of a request start the clock of its headers."""
        if self._state is IDLE:
            self._state = HEADERS
            self._reading = self._later(self._all.limits.header_s, "headers")
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand on that the client sends no more."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Stop the answer: the client does not read. It has a while to begin again."""
        if self._unread is None:
            self._unread = self._later(self._all.limits.write_s, "unread")
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        self._unread = _off(self._unread)
        self._inner.resume_writing()

    def abort(self) -> None:
        """Cut it off."""
        if self._transport is not None:
            self._transport.abort()

    def _later(self, seconds: float, why: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._abort, why)

    def _abort(self, why: str) -> None:
        self._all.cut(why)
        self.abort()


@web.middleware
async def attend(
    request: web.Request, handler: Callable[[web.Request], object]
) -> web.StreamResponse:
    """Tell a request's connection when its headers are complete and when it is answered."""
    transport = request.transport
    protocol = transport.get_protocol() if transport is not None else None
    if not isinstance(protocol, Connection):
        return await handler(request)  # type: ignore[misc, no-any-return]
    protocol.begin()
    try:
        return await handler(request)  # type: ignore[misc, no-any-return]
    finally:
        protocol.end()


def _off(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Stop a clock; return what takes its place: none."""
    if timer is not None:
        timer.cancel()
    return None
