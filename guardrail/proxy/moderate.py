"""``/v1/moderations``, served by the policy and the classifier in force."""

from __future__ import annotations

import asyncio

from guardrail.check import Checker, Watch
from guardrail.policy import Policy
from guardrail.types import Action, Direction, Outcome, Role, Segment, Verdict
from guardrail.wire import JSON, Reply, Wire
from guardrail.wire.moderations import ModerationResult, read_moderation, write_moderation

__all__ = ["moderate"]


async def moderate(
    checker: Checker,
    policy: Policy,
    errors: Wire,
    body: bytes,
    request_id: str,
    watch: Watch | None = None,
) -> Reply:
    """Answer one moderation request.

    Args:
        checker: Judges.
        policy: Its thresholds say what is flagged.
        errors: The dialect whose error shape is used.
        body: The request body.
        request_id: Identity of the request.
        watch: Told of every decision.

    Returns:
        The answer; status 503 where a text could not be scored, since a made-up score would
        be worse than none.

    Raises:
        WireError: The body is not a moderation request.
    """
    request = read_moderation(body)
    # A policy that looks at answers alone has scores for them alone.
    way = Direction.INPUT if policy.applies(Direction.INPUT) else Direction.OUTPUT
    verdicts = await asyncio.gather(
        *(
            checker.check(policy, way, Segment(one.text, Role.TEXT), watch=watch)
            for one in request.inputs
        )
    )
    if any(verdict.outcome in (Outcome.FAILED, Outcome.TRUNCATED) for verdict in verdicts):
        return errors.error(
            503, "A text could not be scored now.", type="api_error", code="check_failed"
        )
    results = [ModerationResult(v.scores, _flagged(v)) for v in verdicts]
    model = checker.classifier.model_id
    return Reply(200, write_moderation(results, id=f"modr-{request_id}", model=model), JSON)


def _flagged(verdict: Verdict) -> frozenset[str]:
    return frozenset(f.category for f in verdict.findings if f.action is not Action.PASS)
