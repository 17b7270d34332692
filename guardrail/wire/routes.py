"""Which dialect a request speaks, however its path is spelt, for the proxy and guarded clients.

Doubled slashes, dots, capitals, path parameters and percent-escapes must not lead past the
checks: what a lenient server would take for a guarded path is guarded.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from guardrail.types import Role
from guardrail.wire import Notice, RefusalStyle, Reply, Wire, WireRequest, wire_for
from guardrail.wire.json import parse_object
from guardrail.wire.segments import request_of

__all__ = ["Route", "route_of"]

_ENDPOINT: Final = re.compile(
    r".*/(chat/completions|(?<!/chat/)completions|responses|conversations|embeddings|messages"
    r"|moderations)(?:[?#\0].*)?",
    re.DOTALL,
)
"""Under any prefix: versions, deployments and gateways all have their own. What follows an escaped
``?``, ``#`` or NUL is no path any more for a server that undoes the escape first."""

_BELOW: Final = re.compile(r".*/(chat/completions|responses|conversations)/.+", re.DOTALL)
"""Answers that the API keeps and gives out again (``/{id}``, ``/{id}/cancel``), lists of what is
in them (``/{id}/messages``, ``/{id}/input_items``, ``/{id}/items``), and other uses of the same
request (``/compact``, ``/input_tokens``, vLLM's ``/render``)."""

_OTHER_MESSAGES: Final = re.compile(r"/(?:threads|conversations|chat/completions)/")
"""Messages below these are what some API keeps, not Anthropic's."""

_LABELS: Final = frozenset({"metadata"})
"""What a request may change of a kept answer or conversation; no model reads it."""

_KEPT: Final = "conversations"
"""The endpoint where nothing is asked of a model, so that all of it is about what is kept."""

_UNQUOTED: Final = 3
"""Times that escapes are undone: gateways before the upstream may each undo them once."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.

    Args:
        endpoint: Such as ``chat/completions``; empty where nothing is guarded.
        wire: The dialect of the endpoint, or None where it has no texts to relay.
        guarded: Whether the request or its answer carries text in that dialect.
        kept: Whether it may be about what the API keeps: it fetches, its path goes on behind
            the endpoint, or the endpoint is that of conversations.
        path: Raw path to forward if it is guarded.
    """

    endpoint: str
    wire: Wire | None
    guarded: bool
    kept: bool
    path: str

    def read(self, body: bytes) -> WireRequest:
        """Read the body of a guarded request.

        Args:
            body: The bytes as they came; none where an answer is fetched that was made before.

        Returns:
            The texts in it. Whatever the path, a body with more than the labels of a kept
            answer is a request of the dialect: some server may take it for one.

        Raises:
            WireError: The body is no request of the dialect; see `Wire.read_request`.
        """
        if self.kept and not body:
            return WireRequest(body, {})
        if self.kept and (labels := _labels_of(body)) is not None:
            return labels
        return self._wire.read_request(body)

    def refusal(self, request: WireRequest | None, notice: Notice) -> Reply:
        """Return the answer to a request that is refused; see `Wire.input_refusal`.

        What asks for no answer of the model gets an error whatever the style: a client must
        not take the notice for a compacted conversation.

        Args:
            request: The request, or None where it could not be read.
            notice: What the client is told and in which style.
        """
        if self.kept and notice.style is RefusalStyle.MESSAGE_200:
            notice = replace(notice, style=RefusalStyle.ERROR_400)
        return self._wire.input_refusal(request, notice)

    @property
    def _wire(self) -> Wire:
        if self.wire is None:
            raise ValueError(f"{self.path}: nothing is guarded there")
        return self.wire


def route_of(method: str, path: str, *, body: bool) -> Route:
    """Return where a request goes.

    Args:
        method: HTTP method.
        path: Path without query, as it came.
        body: Whether the request has a body.

    Returns:
        Its route. A guarded path is forwarded in its plain form, without the slash at its end
        that makes some servers answer with a redirect.
    """
    plain = _plain(path)
    endpoint, below = _endpoint_of(plain)
    if not endpoint:
        return Route("", None, False, False, path)
    wire = wire_for(f"/v1/{endpoint}")
    kept = below or method == "GET" or endpoint == _KEPT
    guarded = wire is not None and (kept or body or method == "POST")
    trimmed = path.rstrip("/")
    sent = trimmed if trimmed.lower() == plain else quote(plain)
    return Route(endpoint, wire, guarded, kept, sent)


@lru_cache(maxsize=1024)
def _plain(raw: str) -> str:
    for _ in range(_UNQUOTED):
        raw = unquote(raw)
    # A pattern's ``$`` matches before a line end, too: such a route is found (Starlette, FastAPI).
    raw = re.sub(r";[^/]*", "", raw.replace("\\", "/")).rstrip()
    return posixpath.normpath("/" + raw.lstrip("/")).lower()


def _endpoint_of(plain: str) -> tuple[str, bool]:
    found = _ENDPOINT.fullmatch(plain)
    if found and not (found[1] == "messages" and _OTHER_MESSAGES.search(plain)):
        return found[1], False
    found = _BELOW.fullmatch(plain)
    return (found[1], True) if found else ("", False)


def _labels_of(body: bytes) -> WireRequest | None:
    """Read a body that changes nothing but labels; return None for any other."""
    payload = parse_object(body, what="request body")
    if not _LABELS.issuperset(payload):
        return None
    return request_of(body, payload, lambda read, out: out.unknown(read, (), Role.TEXT))
