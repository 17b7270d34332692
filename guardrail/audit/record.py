"""One decision as the audit keeps it: the facts, and the row that they become."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from guardrail.audit.seal import Sealer
from guardrail.policy import AuditText, Policy
from guardrail.types import Direction, Finding, Outcome, Role, Stage, Verdict

__all__ = ["COLUMNS", "MAX_TEXT_CHARS", "Decision", "Origin", "row_of"]

MAX_TEXT_CHARS: Final = 32_000
"""Most of one text that is kept; the record says how long it was."""

COLUMNS: Final = (
    "id", "request_id", "time", "final", "source", "route", "dialect", "llm", "client", "direction",
    "channel", "role", "policy", "model", "action", "enforced", "outcome", "reason", "decided_by",
    "review", "categories", "category", "probability", "threshold", "checks", "scanned_chars",
    "total_chars", "tokens", "check_ms", "total_ms", "held_ms", "ended", "text_form", "text",
    "prompt", "detail",
)  # fmt: skip
"""Columns of a decision, in the order of `row_of`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came in.

    Args:
        request_id: Its identity, as the client was told it.
        source: ``proxy`` or ``sdk``.
        route: Its path.
        dialect: API dialect.
        llm: The model that it asks for.
        client: Name of the proxy's own key that it came with; empty where none is asked for.
    """

    request_id: str
    source: str
    route: str = ""
    dialect: str = ""
    llm: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one text, or about one channel of an answer.

    Args:
        number: Place among the decisions of the request; with it the identity.
        time: When, in seconds since 1970 (UTC).
        origin: Where the request came in.
        policy: The policy in force.
        direction: Which way the text travels.
        channel: Which text of the request or answer.
        role: Who speaks.
        verdict: What was decided; of several windows the most severe.
        text: The text behind the verdict, or None where the policy keeps none.
        prompt: The user turn before it, or None.
        final: False while an answer goes on; a later record of the same identity replaces it.
        checks: Checks that it rests on.
        scanned_chars: Characters that were scored.
        total_chars: Characters that were handed in.
        tokens: Classifier tokens, context included.
        check_ms: The slowest check, queueing included.
        total_ms: From the arrival of the request to this record.
        held_ms: Longest time that a part of the answer was held back.
        ended: How the exchange ended, where that is known.
        extra: Further facts, without text.
    """

    number: int
    time: float
    origin: Origin
    policy: Policy
    direction: Direction
    channel: str
    role: Role
    verdict: Verdict
    text: str | None = None
    prompt: str | None = None
    final: bool = True
    checks: int = 1
    scanned_chars: int = 0
    total_chars: int = 0
    tokens: int = 0
    check_ms: float = 0.0
    total_ms: float = 0.0
    held_ms: float = 0.0
    ended: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Identity: the request's and the place within it."""
        return f"{self.origin.request_id}-{self.number}"

    @property
    def size(self) -> int:
        """Characters of text that it holds in memory."""
        return len(self.text or "") + len(self.prompt or "")


def row_of(decision: Decision, sealer: Sealer) -> tuple[Any, ...]:
    """Return the row of a decision, its texts sealed, in the order of `COLUMNS`.

    Args:
        decision: The decision.
        sealer: Seals its texts.
    """
    verdict, origin = decision.verdict, decision.origin
    top = _deciding(verdict)
    form = decision.policy.audit.text
    text = None if decision.text is None else sealer.seal(_clean(decision.text), form)
    keeps_prompt = form in (AuditText.PLAIN, AuditText.ENCRYPTED) and decision.prompt is not None
    prompt = sealer.seal(_clean(decision.prompt or ""), form) if keeps_prompt else None
    return (
        decision.id, origin.request_id, decision.time, int(decision.final), origin.source,
        _clean(origin.route)[:500], origin.dialect, _clean(origin.llm)[:200], origin.client,
        decision.direction.value, decision.channel, decision.role.value,
        verdict.policy, verdict.scores.model, verdict.action.value, int(verdict.enforced),
        verdict.outcome.value, _reason(verdict), _decided_by(verdict, top),
        int(verdict.review),
        f",{','.join(dict.fromkeys(f.category for f in verdict.findings))},"
        if verdict.findings else "",
        top.category if top else "", top.probability if top else _likeliest(verdict),
        top.threshold if top else None, decision.checks, decision.scanned_chars,
        decision.total_chars, decision.tokens, round(decision.check_ms, 3),
        round(decision.total_ms, 3), round(decision.held_ms, 3), decision.ended,
        form.value if text is not None else AuditText.NONE.value, text, prompt,
        json.dumps(_detail(decision), separators=(",", ":")),
    )  # fmt: skip


def _clean(text: str) -> str:
    """Replace what a database refuses to store: lone surrogates and, PostgreSQL, NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def _deciding(verdict: Verdict) -> Finding | None:
    """Return the finding that the verdict rests on."""
    return verdict.findings[0] if verdict.findings else None


def _likeliest(verdict: Verdict) -> float | None:
    return max(verdict.scores.categories.values(), default=None)


def _reason(verdict: Verdict) -> str:
    if verdict.findings:
        return verdict.findings[0].reason
    return "" if verdict.outcome is Outcome.SCANNED else verdict.outcome.value


def _decided_by(verdict: Verdict, top: Finding | None) -> str:
    """Return who decided: the stage, and which rule, model or guard of it."""
    stage = verdict.stage
    if stage is None:
        return ""
    who = {Stage.MODEL: verdict.scores.model, Stage.GUARD: verdict.guard}.get(stage, "")
    if stage is Stage.RULES and top is not None:
        matched = (e for e in verdict.scores.evidence if e.category == top.category)
        who = next((f"{e.kind} {e.name}" for e in matched if e.kind != "view"), "")
    return f"{stage.value}:{who}".rstrip(":")[:200]


def _detail(decision: Decision) -> dict[str, Any]:
    """Return what has no column of its own; it holds no text."""
    verdict = decision.verdict
    return {
        "scores": _scores(decision),
        "findings": [
            [f.category, f.action.value, _short(f.probability), f.threshold, f.reason, f.review]
            for f in verdict.findings
        ],
        "evidence": [
            [e.category, e.kind, e.name[:200], e.start, e.end] for e in verdict.scores.evidence
        ],
        "escalations": [
            [e.category, e.guard, _short(e.before), _short(e.after), e.model, e.reason]
            for e in verdict.scores.escalations
        ],
        "policy_sha256": decision.policy.content_hash,
        **decision.extra,
    }


def _scores(decision: Decision) -> dict[str, list[float | None]]:
    """Return probability, flag and block threshold by category."""
    rules = {rule.category: rule for rule in decision.policy.rules}
    found: dict[str, list[float | None]] = {}
    for key, probability in decision.verdict.scores.categories.items():
        rule = rules.get(key)
        bars = [rule.flag, rule.block] if rule else [None, None]
        found[key] = [_short(probability), *bars]
    return found


def _short(probability: float | None) -> float | None:
    if probability is None or math.isnan(probability):  # which is no JSON
        return None
    return round(probability, 5)
