"""Which endpoint a request is for, however its path is spelt.

Doubled slashes, dots, capitals, path parameters and percent-escapes must not lead past the
checks: what a lenient upstream would take for a guarded path is guarded.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from aiohttp import web

__all__ = ["Route", "route_of"]

_ENDPOINT: Final = re.compile(
    r".*/(chat/completions|(?<!/chat/)completions|responses|embeddings|messages|moderations)",
    re.DOTALL,
)
"""Under any prefix: versions, deployments and gateways all have their own."""

_STORED: Final = re.compile(r".*/(chat/completions|responses)/[^/]+(?:/cancel)?", re.DOTALL)
"""Answers that the API keeps, and gives out again as often as it is asked."""

_FOREIGN: Final = "/threads/"
"""Messages below it are those of the Assistants API, not Anthropic's."""

_UNQUOTED: Final = 3
"""Times that escapes are undone: gateways before the upstream may each undo them once."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.

    Args:
        endpoint: Such as ``chat/completions``; empty where nothing is guarded.
        stored: Whether it fetches what was answered before: there is no new input.
        path: Raw path to forward if it is guarded.
    """

    endpoint: str
    stored: bool
    path: str


def route_of(client: web.Request) -> Route:
    """Return where a request goes.

    Args:
        client: The client's request.

    Returns:
        Its route. A guarded path is forwarded in its plain form, without the slash at its end
        that makes some servers answer with a redirect.
    """
    raw = client.rel_url.raw_path
    plain = _plain(raw)
    path = raw.rstrip("/") if raw.rstrip("/").lower() == plain else quote(plain)
    if found := _STORED.fullmatch(plain):
        return Route(found[1], True, path)
    found = _ENDPOINT.fullmatch(plain)
    if found is None or (found[1] == "messages" and _FOREIGN in plain):
        return Route("", False, raw)
    fetched = client.method == "GET" and not client.body_exists
    return Route(found[1], fetched, path)


@lru_cache(maxsize=1024)
def _plain(raw: str) -> str:
    for _ in range(_UNQUOTED):
        raw = unquote(raw)
    raw = re.sub(r";[^/]*", "", raw.replace("\\", "/"))
    return posixpath.normpath("/" + raw.lstrip("/")).lower()
