"""The connection to the LLM API: headers, errors and nothing else.

The upstream is fixed by the settings; nothing in a request can change it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from guardrail.proxy.settings import Settings
from guardrail.relay import SourceFault

__all__ = ["Upstream", "UpstreamAnswer", "UpstreamError", "forwardable", "pieces"]

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to one connection (RFC 9110, 7.6.1); never forwarded."""

_REQUEST_ONLY: Final = frozenset(
    {
        "accept-encoding",
        "content-encoding",  # the server has decompressed the body, within its bound
        "content-length",
        "expect",
        "host",
        "x-http-method-override",
    }
)
_OWN: Final = "x-guardrail-"


class UpstreamError(SourceFault):
    """The upstream could not be reached or broke off.

    Args:
        kind: A stable word: ``refused``, ``timeout``, ``tls``, ``broken``, ``credentials``,
            ``redirect`` or ``too_large``.
        status: The HTTP status for the client: 502 or 504.
        message: What happened, in words fit for the client.
    """

    def __init__(self, kind: str, status: int, message: str) -> None:
        self.kind = kind
        self.status = status
        self.message = message
        super().__init__(message)


class Content(Protocol):
    """The body of an answer."""

    def iter_any(self) -> AsyncIterator[bytes]:
        """Yield it in pieces, as they come."""


class UpstreamAnswer(Protocol):
    """What the proxy reads of an answer: `aiohttp.ClientResponse` has it, and others may."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers as they came."""

    @property
    def content_type(self) -> str:
        """Media type without its parameters."""

    @property
    def content(self) -> Content:
        """The body, unread."""


def forwardable(headers: Mapping[str, str], *, drop: Iterable[str] = ()) -> CIMultiDict[str]:
    """Copy the end-to-end headers of a message.

    Args:
        headers: Headers as they came; repeated ones are kept.
        drop: Further names to leave out, in lower case.

    Returns:
        The headers without hop-by-hop ones, those that ``Connection`` names, and our own.
    """
    gone = HOP_BY_HOP.union(drop)
    for key, value in headers.items():
        if key.lower() == "connection":
            gone |= {token.strip().lower() for token in value.split(",")}
    return CIMultiDict(
        (key, value)
        for key, value in headers.items()
        if (name := key.lower()) not in gone and not name.startswith(_OWN)
    )


class Upstream:
    """A client of one LLM API.

    Args:
        settings: Where it is and how long to wait for it.
        travel: Adds what travels with every request, such as the trace that it belongs to.
    """

    def __init__(
        self,
        settings: Settings,
        travel: Callable[[CIMultiDict[str]], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._travel = travel
        base = URL(settings.upstream)
        self._origin = str(base.origin())
        self._prefix = base.raw_path.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self._settings.connect_timeout_s,
                sock_read=self._settings.read_timeout_s,
            ),
        )

    async def close(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()

    def url(self, path: str, query: str) -> URL:
        """Return the upstream URL of a path.

        A base of ``https://host/v1`` serves ``/v1/…`` without doubling the ``/v1``.

        Args:
            path: Raw (percent-encoded) path of the request.
            query: Raw query string, or an empty one.
        """
        last = "/" + self._prefix.rpartition("/")[2]
        if self._prefix and (path == last or path.startswith(last + "/")):
            path = path[len(last) :]
        raw = f"{self._origin}{self._prefix}{path}" + (f"?{query}" if query else "")
        return URL(raw, encoded=True)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: Any,
        *,
        decode: bool,
    ) -> AsyncIterator[UpstreamAnswer]:
        """Send a request and wait for the head of the answer.

        Args:
            method: HTTP method.
            url: From `url`.
            headers: The client's headers; those that must not travel are left out here.
            body: Bytes, or a stream of bytes.
            decode: Whether the body of the answer will be read by us: it is then asked for
                uncompressed and decompressed if it comes compressed all the same.

        Yields:
            The answer, closed on leaving: the upstream never outlives its client.

        Raises:
            UpstreamError: No connection or no answer.
        """
        assert self._session is not None, "start() comes first"
        try:
            response = await self._session.request(
                method,
                url,
                headers=self._headers(headers, decode=decode),
                data=body,
                allow_redirects=False,
                auto_decompress=decode,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        except (aiohttp.ClientError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            raise explain(error) from error
        try:
            yield response
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    def _headers(self, headers: Mapping[str, str], *, decode: bool) -> CIMultiDict[str]:
        sent = forwardable(headers, drop=_REQUEST_ONLY)
        if decode:
            sent["Accept-Encoding"] = "identity"
        elif "Accept-Encoding" in headers:
            sent["Accept-Encoding"] = headers["Accept-Encoding"]
        key = self._settings.upstream_key
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
            if "x-api-key" in sent or "anthropic-version" in sent:
                sent["x-api-key"] = key
        self._travel(sent)
        return sent


async def pieces(answer: UpstreamAnswer) -> AsyncGenerator[bytes, None]:
    """Yield the body of an answer, as it comes.

    Raises:
        UpstreamError: It broke off.
    """
    try:
        async for data in answer.content.iter_any():
            yield data
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise explain(error) from error


def explain(error: BaseException) -> UpstreamError:
    """Put a fault of the upstream into words for the client: no address, no traceback."""
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        return UpstreamError("timeout", 504, "The model API did not answer in time.")
    if isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError):
        return UpstreamError("tls", 502, "The model API's certificate was not accepted.")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError("refused", 502, "The model API cannot be reached.")
    return UpstreamError("broken", 502, "The model API broke off its answer.")
