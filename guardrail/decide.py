"""What a policy looks at, and how thresholds and bands turn `Scores` into a `Verdict`.

Pure: no models, no HTTP, no clock. The only place where a failure becomes an action.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from guardrail.policy import FailureMode, Mode, Policy, Rule, Turns
from guardrail.types import (
    Action,
    ChannelKind,
    Direction,
    Finding,
    Outcome,
    Role,
    Scores,
    Segment,
    Stage,
    Verdict,
)

__all__ = [
    "Scope",
    "decide",
    "decide_failure",
    "decide_skipped",
    "rules_for",
    "select",
    "undecided",
    "worst",
]


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a request is judged.

    Args:
        samples: Segments to judge; neighbours of one speaker and kind are joined.
        skipped: Segments out of the policy's scope, with the reason, for the audit.
    """

    samples: tuple[Segment, ...]
    skipped: tuple[str, ...]


def rules_for(
    policy: Policy,
    direction: Direction,
    role: Role,
    kind: ChannelKind | None = ChannelKind.TEXT,
) -> tuple[Rule, ...]:
    """Return the rules that apply to a speaker in a direction and a kind of text.

    On output there is one speaker, the assistant, and `Rule.roles` does not apply. Text of no
    known speaker (`Role.TEXT`) is in scope of every rule, and so is text of no known kind (None).
    """
    return tuple(
        rule
        for rule in policy.rules
        if direction in rule.directions
        and (kind is None or kind in rule.channels)
        and (direction is Direction.OUTPUT or role is Role.TEXT or role in rule.roles)
    )


def decide(
    policy: Policy,
    direction: Direction,
    role: Role,
    scores: Scores,
    kind: ChannelKind = ChannelKind.TEXT,
) -> Verdict:
    """Decide about one text.

    A probability equal to a threshold crosses it. Text that the classifier could not cover
    counts as a failed check of every rule: what nobody read is not safe. So does a category
    that was not scored, or whose threshold is a target that was never resolved.

    Args:
        policy: The policy in force.
        direction: Which way the text travels.
        role: Who speaks.
        scores: Calibrated probabilities.
        kind: Kind of text.

    Returns:
        The verdict, with findings ordered by severity and probability.
    """
    rules = rules_for(policy, direction, role, kind)
    findings = [found for rule in rules for found in _settle(rule, scores)]
    missing = [rule for rule in rules if scores.get(rule.category) is None]
    findings += _failures(missing, "no_score")
    findings += _failures((r for r in rules if not r.resolved and r not in missing), "unresolved")
    outcome = Outcome.SCANNED
    if scores.coverage.truncated:
        outcome = Outcome.TRUNCATED
        findings += _failures(rules, "truncated")
    elif missing and len(missing) == len(rules):
        outcome = Outcome.FAILED
    return _verdict(policy, direction, findings, scores, outcome)


def undecided(
    policy: Policy,
    direction: Direction,
    role: Role,
    scores: Scores,
    kind: ChannelKind = ChannelKind.TEXT,
) -> tuple[Rule, ...]:
    """Return the rules whose bigger guard has to be asked about a text.

    None where the text is blocked whatever a guard may say: by a rule that is sure of it, or
    because it was not covered.

    Args:
        policy: The policy in force.
        direction: Which way the text travels.
        role: Who speaks.
        scores: The embedded model's probabilities, joined with those of the rules.
        kind: Kind of text.

    Returns:
        Rules whose probability lies in the band of their ``escalate:``.
    """
    rules = rules_for(policy, direction, role, kind)
    unsure = tuple(rule for rule in rules if _unsure(rule, scores))
    if not unsure or scores.coverage.truncated:
        return ()
    sure = (_apply(rule, scores) for rule in rules if rule not in unsure)
    if any(found is not None and found.action is Action.BLOCK for found in sure):
        return ()
    return unsure


def _unsure(rule: Rule, scores: Scores) -> bool:
    probability = scores.get(rule.category)
    return (
        rule.escalate is not None
        and probability is not None
        and rule.escalate.low <= probability < rule.escalate.high
    )


def decide_failure(
    policy: Policy,
    direction: Direction,
    role: Role,
    reason: str,
    model: str = "",
    kind: ChannelKind | None = None,
) -> Verdict:
    """Decide about a text whose check could not be made.

    Rules that fail closed take their most severe action, or block where that is to redact: what
    was not found cannot be taken out. Rules that fail open take none.

    Args:
        policy: The policy in force.
        direction: Which way the text travels.
        role: Who speaks.
        reason: ``timeout``, ``overload``, ``failure`` or ``unreadable``.
        model: Identity of the classifier that failed.
        kind: Kind of text; None where that is not known, since nothing of it was read.

    Returns:
        A verdict with outcome ``failed``.
    """
    findings = _failures(rules_for(policy, direction, role, kind), reason)
    return _verdict(policy, direction, findings, Scores(model=model), Outcome.FAILED)


def decide_skipped(policy: Policy, direction: Direction, model: str = "") -> Verdict:
    """Return the verdict on a text that no rule looks at: pass, and said to be unscanned."""
    return _verdict(policy, direction, [], Scores(model=model), Outcome.SKIPPED)


def select(policy: Policy, segments: Iterable[Segment]) -> Scope:
    """Pick what a policy looks at on input, and join what belongs together.

    Neighbouring parts of one speaker are judged as one text, since a sentence cut into two
    parts must not pass for two harmless halves. Earlier turns that were answered with one of
    the policy's own refusals are left out, or a conversation once blocked would stay blocked.

    Args:
        policy: The policy in force.
        segments: All texts of a request, in order.

    Returns:
        The segments to judge and what was left out.
    """
    segments = tuple(segments)
    refused = _refused_turns(policy, segments)
    groups: list[list[Segment]] = []
    skipped: list[str] = []
    for segment in segments:
        reason = _out_of_scope(policy, segment)
        if reason is None and segment.turn in refused:
            reason = "already refused"
        if reason is not None:
            skipped.append(f"{segment.channel} of turn {segment.turn}: {reason}")
        elif groups and _joins(groups[-1][-1], segment):
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return Scope(tuple(map(_joined, groups)), tuple(skipped))


def _joined(group: Sequence[Segment]) -> Segment:
    if len(group) == 1:
        return group[0]
    return replace(group[0], text="\n".join(segment.text for segment in group))


def _out_of_scope(policy: Policy, segment: Segment) -> str | None:
    # Text of no known speaker is always in scope: a server may take any role for the user's.
    if segment.role is not Role.TEXT and segment.role not in policy.roles:
        return f"role {segment.role.value} is not in input.roles"
    if policy.turns is Turns.LATEST and not segment.latest:
        return "earlier turn"
    kind = segment.channel.kind
    if not rules_for(policy, Direction.INPUT, segment.role, kind):
        return f"no rule for role {segment.role.value} and {kind.value}"
    return None


def _refused_turns(policy: Policy, segments: Sequence[Segment]) -> frozenset[int]:
    """Return the earlier turns that a refusal of this policy answered, and the refusals."""
    messages = {policy.message, *policy.translations.values()}
    for rule in policy.rules:
        messages |= {text for text in (rule.message, *rule.translations.values()) if text}
    refused: set[int] = set()
    open_turns: set[int] = set()
    for segment in segments:
        if segment.latest:
            break
        open_turns.add(segment.turn)
        if segment.role is Role.ASSISTANT:
            if segment.text.strip() in messages:
                refused |= open_turns
            open_turns = set()
    return frozenset(refused)


def _joins(left: Segment, right: Segment) -> bool:
    return (
        left.role is right.role
        and left.channel.kind is right.channel.kind
        and right.turn - left.turn <= 1
    )


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the most severe of at least one verdict; among equals the likeliest finding."""
    return max(verdicts, key=lambda v: (v.effective.severity, v.action.severity, _top(v.findings)))


def _top(findings: Iterable[Finding]) -> float:
    return max((f.probability or 0.0 for f in findings), default=-1.0)


def _settle(rule: Rule, scores: Scores) -> list[Finding]:
    """Apply a rule, or its failure mode where the guard that was to decide did not.

    A rule that fails open keeps the embedded model's probability.
    """
    for asked in scores.escalations:
        if asked.category == rule.category and asked.after is None:
            failed = _failures([rule], f"guard_{asked.reason}", asked.guard)
            if failed:
                return failed
    found = _apply(rule, scores)
    return [] if found is None else [found]


def _apply(rule: Rule, scores: Scores) -> Finding | None:
    probability = scores.get(rule.category)
    if probability is None:
        return None
    in_band = rule.review is not None and rule.review.low <= probability < rule.review.high
    abstains = rule.abstain is not None and rule.abstain.holds(probability)
    stage, guard, reason = _source(rule.category, scores, abstains=abstains)
    for action, threshold in ((Action.BLOCK, rule.block), (Action.FLAG, rule.flag)):
        if threshold is not None and probability >= threshold:
            allowed = min(action, rule.action, key=lambda a: a.severity)
            if allowed is not Action.PASS or in_band:
                return Finding(
                    rule.category, allowed, probability, threshold, reason, in_band, stage, guard
                )
            return None
    if in_band and rule.review is not None:
        return Finding(
            rule.category,
            Action.PASS,
            probability,
            rule.review.low,
            "abstain" if reason == "abstain" else "review",
            True,
            stage,
            guard,
        )
    return None


def _source(category: str, scores: Scores, *, abstains: bool = False) -> tuple[Stage, str, str]:
    """Return who settled a category's probability, the guard if one did, and the reason."""
    for asked in scores.escalations:
        if asked.category == category and asked.after is not None:
            return Stage.GUARD, asked.guard, "threshold"
    kind = next((e.kind for e in scores.evidence if e.category == category), None)
    if kind:
        return Stage.RULES, "", kind
    return Stage.MODEL, "", "abstain" if abstains else "threshold"


def _failures(rules: Iterable[Rule], reason: str, guard: str = "") -> list[Finding]:
    return [
        Finding(rule.category, _closed(rule), reason=reason, stage=Stage.FAILURE, guard=guard)
        for rule in rules
        if rule.failure is FailureMode.CLOSED and rule.action is not Action.PASS
    ]


def _closed(rule: Rule) -> Action:
    return Action.BLOCK if rule.action is Action.REDACT else rule.action


def _verdict(
    policy: Policy,
    direction: Direction,
    findings: list[Finding],
    scores: Scores,
    outcome: Outcome,
) -> Verdict:
    findings.sort(key=lambda f: (-f.action.severity, -(f.probability or 0.0)))
    return Verdict(
        action=max((f.action for f in findings), default=Action.PASS),
        direction=direction,
        findings=tuple(findings),
        scores=scores,
        policy=policy.identity,
        outcome=outcome,
        enforced=policy.mode is Mode.ENFORCE,
    )
