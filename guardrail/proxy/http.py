"""Bodies and answers on the client's side: taken in, forwarded unread, cut off."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

import aiohttp
from aiohttp import web

from guardrail.errors import WireError
from guardrail.proxy.upstream import UpstreamAnswer, UpstreamError, pieces
from guardrail.wire import Reply

__all__ = [
    "BodyError",
    "begun",
    "copy",
    "gone",
    "one_answer",
    "passing_body",
    "read_body",
    "respond",
    "status_of",
]

SMALL_BODY_BYTES: Final = 65_536
"""Larger bodies that nothing reads are streamed upstream."""

BEGUN: Final = web.RequestKey("begun", web.StreamResponse)
"""The answer to a request whose head is out."""

_RESET: Final = struct.pack("ii", 1, 0)

_UNREADABLE: Final = (aiohttp.ClientPayloadError, web.RequestPayloadError, ValueError)
"""What the server raises on a body that is cut off or does not decompress."""

_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


def _nothing(_: int) -> None:
    pass


class BodyError(WireError):
    """A body that cannot be taken in, with a status of its own."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def status_of(error: WireError) -> int:
    """Return the HTTP status for a request that cannot be read."""
    return error.status if isinstance(error, BodyError) else 400


async def passing_body(
    client: web.Request, timeout_s: float
) -> bytes | AsyncIterator[bytes] | None:
    """Return a body to forward unread: a small one at once, a larger one as it comes.

    Raises:
        BodyError: A small one did not come in time.
        WireError: A small one is compressed in a way that cannot be undone.
    """
    if not client.body_exists:
        return None
    if client.content_length is None or client.content_length > SMALL_BODY_BYTES:
        return _as_it_comes(client, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            return await client.read()
    except TimeoutError as error:
        raise BodyError(408, "The request body did not come in time.") from error
    except _UNREADABLE as error:
        raise WireError("The request body cannot be read.") from error


async def _as_it_comes(client: web.Request, timeout_s: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(timeout_s):
            data = await client.content.readany()
        if not data:
            return
        yield data


async def read_body(
    client: web.Request, limit: int, timeout_s: float, take: Callable[[int], None] = _nothing
) -> bytes:
    """Take in the body of a request that is judged.

    Args:
        client: The request.
        limit: Largest body in bytes, once decompressed.
        timeout_s: Longest wait for all of it.
        take: Told of every piece that came, before it is kept; may raise.

    Returns:
        The body, decompressed.

    Raises:
        BodyError: Another charset than UTF-8 (415), too slow (408) or too large (413).
        WireError: Cut off, or compressed in a way that cannot be undone.
    """
    if (client.charset or "utf-8").lower() not in _CHARSETS:  # another reading than ours
        raise BodyError(415, "The request body must be UTF-8.")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while data := await client.content.readany():
                take(len(data))
                body += data
                if len(body) > limit:
                    raise BodyError(413, f"The request body is larger than {limit:,} bytes.")
    except TimeoutError as error:
        raise BodyError(408, "The request body did not come in time.") from error
    except (*_UNREADABLE, web.HTTPException) as error:
        raise WireError("The request body cannot be read.") from error
    return bytes(body)


def gone(client: web.Request) -> web.Response:
    """End an exchange whose client is gone, or must be cut off, without a traceback."""
    if client.transport is not None:
        if client.version < aiohttp.HttpVersion11 and BEGUN in client:
            # Without chunks an answer ends where the connection does: only a reset says
            # that it is not whole. Proxies ask in HTTP/1.0 to this day.
            peer = client.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.transport.abort()
    return web.Response(status=499)


async def begun(client: web.Request, answer: web.StreamResponse) -> None:
    """Take note that the head of an answer goes out; a signal handler."""
    client[BEGUN] = answer
    if client.content.exception() is not None:
        # Such a body has no end: to wait for it would be a fault, and nothing may follow it.
        client.content.feed_eof()
        answer.headers["Connection"] = "close"
        answer.force_close()


@web.middleware
async def one_answer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Cut the connection where a second answer would follow one whose head is out.

    Within a body, or before the next answer, it would be read as something that it is not.
    """
    answer = await handler(request)
    return answer if request.get(BEGUN, answer) is answer else gone(request)


def respond(reply: Reply, headers: dict[str, str]) -> web.Response:
    """Turn a dialect's answer into a response."""
    return web.Response(
        status=reply.status,
        body=reply.body,
        headers={**headers, "Content-Type": reply.content_type},
    )


async def copy(
    client: web.Request,
    upstream: UpstreamAnswer,
    headers: object,
    broke: Callable[[UpstreamError], None],
) -> web.StreamResponse:
    """Copy an answer that is not checked, as it comes.

    Args:
        client: The request.
        upstream: The answer, body unread.
        headers: Headers for the client.
        broke: Told where the upstream breaks off; the client is then cut off.

    Returns:
        The response, which is over.

    Raises:
        ConnectionResetError: The client is gone.
    """
    response = web.StreamResponse(status=upstream.status, headers=headers)  # type: ignore[arg-type]
    await response.prepare(client)
    try:
        async with aclosing(pieces(upstream)) as body:
            async for data in body:
                await response.write(data)
    except UpstreamError as error:
        # The head is out: the only honest end of a broken body is a broken connection.
        broke(error)
        return gone(client)
    await response.write_eof()
    return response
