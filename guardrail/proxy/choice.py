"""Which policy a request is judged by."""

from __future__ import annotations

from aiohttp import web

from guardrail.policy import Policy
from guardrail.types import Direction

__all__ = ["chosen", "judges"]


def judges(policy: Policy) -> bool:
    """Return whether a policy looks at anything at all."""
    return policy.applies(Direction.INPUT) or policy.applies(Direction.OUTPUT)


def chosen(policy: Policy, client: web.Request, path: str, model: str | None) -> Policy:
    """Return the policy for a request, by its path, model, key and headers."""
    headers = {name.lower(): value for name, value in list(client.headers.items())[::-1]}
    bearer = headers.get("authorization", "")
    key = bearer[7:].strip() if bearer[:7].lower() == "bearer " else None
    key = key or headers.get("x-api-key") or headers.get("api-key")
    return policy.select(path, model, key, headers)
