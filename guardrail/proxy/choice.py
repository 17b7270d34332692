"""Which policy a request is judged by."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from guardrail.policy import Policy
from guardrail.types import Direction

__all__ = ["KEY_HEADERS", "chosen", "judges"]

KEY_HEADERS: Final = ("x-guardrail-key", "x-api-key", "api-key")
"""Where a key may stand, besides a bearer token; that of the proxy itself first."""


def judges(policy: Policy) -> bool:
    """Return whether a policy looks at anything at all."""
    return policy.applies(Direction.INPUT) or policy.applies(Direction.OUTPUT)


def chosen(policy: Policy, client: web.Request, path: str, model: str | None) -> Policy:
    """Return the policy for a request, by its path, model, key and headers."""
    headers = {name.lower(): value for name, value in list(client.headers.items())[::-1]}
    # All of them: whoever adds a key must not thereby hide the one that lets him in.
    keys = [key for name in KEY_HEADERS for key in client.headers.getall(name, ())]
    bearers = client.headers.getall("Authorization", ())
    keys += [value[7:].strip() for value in bearers if value[:7].lower() == "bearer "]
    return policy.select(path, model, [key for key in keys if key], headers)
