"""From a document that satisfies the schema to a `Policy`, with what a schema cannot say."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from guardrail.policy.abstain import build_abstain
from guardrail.policy.guards import GuardSpec, build_escalate, build_guards
from guardrail.policy.patterns import compile_pattern, compile_words
from guardrail.policy.redaction import check_order, check_placeholders, check_redacts
from guardrail.policy.schema import CATEGORY_KEYS
from guardrail.policy.shapes import PII, PLACEHOLDER, Detector, Examples, Matchers
from guardrail.policy.types import (
    DEFAULT_MESSAGE,
    DEFAULT_ROLES,
    AuditPolicy,
    AuditText,
    FailureMode,
    InputCheck,
    Measure,
    Mode,
    Policy,
    Review,
    Rule,
    StreamPolicy,
    Target,
    Turns,
)
from guardrail.types import Action, ChannelKind, Direction, Role

__all__ = ["Problem", "build"]

Problem = Callable[[Sequence[str | int], str], Exception]
"""Makes the exception for a mistake at a path of the document."""


def build(document: Mapping[str, Any], content_hash: str, problem: Problem) -> Policy:
    """Turn a document that satisfies `SCHEMA` into a `Policy`.

    Args:
        document: The parsed document, merged with what it extends.
        content_hash: SHA-256 (hex) of its canonical content.
        problem: Called with a path and a message for what a schema cannot say.

    Returns:
        The policy.

    Raises:
        Exception: What ``problem`` makes, for what contradicts itself.
    """
    if "categories" not in document:
        raise problem((), "the policy lacks 'categories:'; add it")
    failure = document.get("failure", {})
    scope = document.get("input", {})
    timeout_ms = document.get("timeout_ms", 10_000)
    guards = build_guards(document, timeout_ms, problem)
    categories = document["categories"].items()
    rules = tuple(_rule(key, body, failure, guards, problem) for key, body in categories)
    check_placeholders(rules, problem)
    scope_check = InputCheck(scope.get("check", "before"))
    check_order(rules, scope_check, problem)
    message, translations = _message(document.get("message", DEFAULT_MESSAGE))
    return Policy(
        name=document["name"],
        content_hash=content_hash,
        description=document.get("description", ""),
        mode=Mode(document.get("mode", "enforce")),
        rules=rules,
        roles=_roles(scope) or DEFAULT_ROLES,
        turns=Turns(scope.get("turns", "latest_turn")),
        input_check=scope_check,
        timeout_ms=timeout_ms,
        message=message,
        translations=translations,
        stream=_stream(document.get("stream", {}), problem),
        audit=_audit(document.get("audit", {})),
        normalise=document.get("normalise", True),
        calibration=document.get("calibration"),
        tests=tuple(document.get("tests", ())),
        guards=guards,
    )


def _audit(body: Mapping[str, Any]) -> AuditPolicy:
    return AuditPolicy(AuditText(body.get("text", "none")), body.get("required", False))


def _stream(body: Mapping[str, Any], problem: Problem) -> StreamPolicy:
    stream = StreamPolicy(**body)
    if stream.stride_chars < stream.first_chars:
        raise problem(
            ("stream", "stride_chars" if "stride_chars" in body else "first_chars"),
            f"'stride_chars: {stream.stride_chars}' is below 'first_chars: {stream.first_chars}'; "
            "the stride only grows, so make it as large at least",
        )
    return stream


def _message(value: str | Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Return the text for everyone, English or else the first, and those by language."""
    if isinstance(value, str):
        return value, {}
    return value.get("en", next(iter(value.values()))), dict(value)


def _roles(body: Mapping[str, Any]) -> frozenset[Role]:
    return frozenset(Role(name) for name in body.get("roles", ()))


def _rule(
    key: str,
    body: Mapping[str, Any],
    failure: Mapping[str, str],
    guards: Mapping[str, GuardSpec],
    problem: Problem,
) -> Rule:
    where = ("categories", key)
    _check_own(key, body, where, problem)
    flag, flag_target = _threshold(body.get("flag"), (*where, "flag"), problem)
    block, block_target = _threshold(body.get("block"), (*where, "block"), problem)
    blocks = block is not None or block_target is not None
    action = Action(body.get("action", "block" if blocks else "flag"))
    if action is Action.REDACT:
        check_redacts(key, body, where, problem)
        block = 0.5 if block is None and flag is None else block if block is not None else flag
        flag, blocks = None, True
    if not blocks and flag is None and flag_target is None and action is not Action.PASS:
        raise problem(where, f"'{key}' has no threshold; add 'flag:' or 'block:' (0 to 1)")
    if flag is not None and block is not None and flag > block:
        raise problem(
            (*where, "flag"),
            f"'flag: {flag}' is above 'block: {block}', so it can never flag; lower it",
        )
    if action is Action.BLOCK and not blocks:
        raise problem((*where, "action"), "'action: block' needs a 'block:' threshold")
    wanted = body.get("direction", "both")
    severe = action in (Action.BLOCK, Action.REDACT)
    default = failure.get("block", "closed") if severe else failure.get("flag", "open")
    message, translations = _message(body["message"]) if "message" in body else (None, {})
    examples = body.get("examples", {})
    return Rule(
        category=key,
        directions=frozenset(Direction) if wanted == "both" else frozenset((Direction(wanted),)),
        roles=_roles(body) or frozenset(Role),
        channels=frozenset(ChannelKind(k) for k in body.get("channels", ChannelKind)),
        action=action,
        flag=flag,
        block=block,
        flag_target=flag_target,
        block_target=block_target,
        review=_review(body, (*where, "review"), problem),
        failure=FailureMode(body.get("failure", default)),
        message=message,
        translations=translations,
        rubric=body.get("rubric"),
        examples=Examples(tuple(examples.get("violates", ())), tuple(examples.get("allowed", ()))),
        matchers=_matchers(body, where, problem),
        escalate=build_escalate(body, guards, (*where, "escalate"), problem),
        abstain=build_abstain(body, guards, (*where, "abstain"), problem),
        placeholder=body.get("placeholder", PLACEHOLDER),
    )


_SUBSTANCE: Final = ("rubric", "patterns", "words", "detectors")


def _check_own(
    key: str, body: Mapping[str, Any], where: Sequence[str | int], problem: Problem
) -> None:
    """Tell a category of the author's own from a misspelt one."""
    if key in CATEGORY_KEYS:
        if "rubric" in body:
            raise problem(
                (*where, "rubric"),
                f"'{key}' is a category of the taxonomy and has its definition; give your own "
                "rubric a key of its own",
            )
        return
    if any(name in body for name in _SUBSTANCE):
        return
    near = difflib.get_close_matches(key, CATEGORY_KEYS, 1, 0.6)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise problem(
        where,
        f"unknown category '{key}'{hint or ''} (one of your own needs 'rubric:', 'patterns:', "
        "'words:' or 'detectors:')",
    )


def _threshold(
    value: Any, where: Sequence[str | int], problem: Problem
) -> tuple[float | None, Target | None]:
    if not isinstance(value, Mapping):
        return value, None
    named = [m for m in Measure if m.value in value]
    if len(named) != 1:
        raise problem(where, "a target names one of 'precision:', 'recall:' and 'fpr:'")
    return None, Target(named[0], value[named[0].value], value.get("confidence", 0.95))


def _matchers(body: Mapping[str, Any], where: Sequence[str | int], problem: Problem) -> Matchers:
    for number, pattern in enumerate(body.get("patterns", ())):
        try:
            compile_pattern(pattern)
        except ValueError as error:
            raise problem((*where, "patterns", number), str(error)) from None
    words = tuple(body.get("words", ()))
    if words:
        if not all(word.strip() for word in words):
            raise problem((*where, "words"), "a word of the list is blank; remove it")
        try:
            compile_words(words)
        except ValueError as error:
            raise problem((*where, "words"), str(error)) from None
    named = body.get("detectors", ())
    wanted = {Detector(n) for n in named if n != "pii"} | (set(PII) if "pii" in named else set())
    detectors = tuple(d for d in Detector if d in wanted)
    return Matchers(tuple(body.get("patterns", ())), words, detectors)


def _review(body: Mapping[str, Any], where: Sequence[str | int], problem: Problem) -> Review | None:
    if "review" not in body:
        return None
    low, high = body["review"]
    if low >= high:
        raise problem(where, f"the review band [{low}, {high}) is empty; the low end comes first")
    return Review(low, high)
