"""LiteLLM's Generic Guardrail API, served by the policy and the classifier in force."""

from __future__ import annotations

import asyncio

from guardrail.audit import Trail
from guardrail.check import Checker
from guardrail.decide import worst
from guardrail.policy import Policy
from guardrail.redact import LARGE_BYTES, Redactor, unredactable
from guardrail.types import Direction, Role, Segment
from guardrail.wire import JSON, Reply
from guardrail.wire.json import clean
from guardrail.wire.litellm_api import LiteLLMQuestion, read_litellm, write_litellm

__all__ = ["answer_litellm"]


async def answer_litellm(
    checker: Checker, policy: Policy, body: bytes, watch: Trail | None = None
) -> Reply:
    """Answer one question of a LiteLLM proxy.

    Args:
        checker: Judges.
        policy: The policy in force.
        body: The request body.
        watch: Records every decision.

    Returns:
        Whether the texts may pass, and as what; a failed check follows the policy's failure mode.

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
    if blocked:
        return Reply(200, write_litellm(policy.message_for(worst(blocked).categories)), JSON)
    redactor = Redactor.of(policy, question.direction)
    if redactor is None:
        return Reply(200, write_litellm(None), JSON)
    if len(body) < LARGE_BYTES:
        made, held = _redacted(question, redactor)
    else:
        made, held = await asyncio.to_thread(_redacted, question, redactor)
    if held:  # a tool call, or a text that only the messages have: the API cannot replace it
        if watch is not None:
            watch.refused(unredactable(policy, question.direction))
        return Reply(200, write_litellm(policy.message_for(held)), JSON)
    return Reply(200, write_litellm(None, made if made != question.texts else None), JSON)


def _redacted(
    question: LiteLLMQuestion, redactor: Redactor
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the texts as they may pass, and categories of places that no text holds."""
    speakers = {segment.text: segment for segment in question.segments}
    made = []
    for text in question.texts:
        plain = clean(text)
        segment = speakers.get(plain, Segment(plain, Role.TEXT))
        made.append(redactor.text(plain, segment.role, segment.channel.kind))
    known = {clean(text) for text in question.texts}
    left: dict[str, None] = {}
    for segment in question.segments:
        finder = redactor.finder(segment.role, segment.channel.kind)
        if finder is not None and segment.text not in known:
            left |= dict.fromkeys(place.category for place in finder.find(segment.text))
    return tuple(made), tuple(left)
