"""Requests as they may be sent on, and how a client hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from guardrail.policy import Policy
from guardrail.redact import LARGE_BYTES, Redactor
from guardrail.types import Direction
from guardrail.wire import WireRequest
from guardrail.wire.rewrite import redact_request

__all__ = ["header_of", "redacted"]


async def redacted(
    policy: Policy, read: Callable[[bytes], WireRequest], request: WireRequest
) -> tuple[WireRequest | None, Mapping[str, int]]:
    """Take what a policy redacts out of a request.

    Args:
        policy: The policy in force.
        read: Reads a body, to see that nothing was missed.
        request: The request.

    Returns:
        The request to send on, the same where nothing was found, or None where something cannot
        be taken out; and how many places were found, by kind.
    """
    redactor = Redactor.of(policy, Direction.INPUT)
    if redactor is None:
        return request, {}
    if len(request.raw) < LARGE_BYTES:
        made = redact_request(request, read, redactor.text)
    else:
        made = await asyncio.to_thread(redact_request, request, read, redactor.text)
    return made, redactor.counts


def header_of(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the header that says what was redacted: kinds and counts, no text."""
    if not counts:
        return {}
    shown = ",".join(f"{kind}={count}" for kind, count in sorted(counts.items()))
    return {"x-guardrail-redacted": shown}
