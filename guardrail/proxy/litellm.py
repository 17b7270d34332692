"""LiteLLM's Generic Guardrail API, served by the policy and the classifier in force."""

from __future__ import annotations

import asyncio

from guardrail.check import Checker, Watch
from guardrail.decide import worst
from guardrail.policy import Policy
from guardrail.types import Direction
from guardrail.wire import JSON, Reply
from guardrail.wire.litellm_api import read_litellm, write_litellm

__all__ = ["answer_litellm"]


async def answer_litellm(
    checker: Checker, policy: Policy, body: bytes, watch: Watch | None = None
) -> Reply:
    """Answer one question of a LiteLLM proxy.

    Args:
        checker: Judges.
        policy: The policy in force.
        body: The request body.
        watch: Told of every decision.

    Returns:
        Whether the texts may pass; a failed check follows the policy's failure mode.

    Raises:
        WireError: The body is not a question of that API.
    """
    question = read_litellm(body)
    if question.direction is Direction.INPUT:
        verdicts = [await checker.check_input(policy, question.segments, watch=watch)]
    else:
        checks = (
            checker.check(policy, Direction.OUTPUT, one, watch=watch) for one in question.segments
        )
        verdicts = await asyncio.gather(*checks)
    blocked = [verdict for verdict in verdicts if verdict.blocked]
    message = policy.message_for(worst(blocked).categories) if blocked else None
    return Reply(200, write_litellm(message), JSON)
