"""The types of a policy: frozen, validated, and free of files, YAML and schemas."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from guardrail.policy.abstain import Abstain
from guardrail.policy.guards import Escalate, GuardSpec
from guardrail.policy.shapes import PLACEHOLDER, Examples, Matchers
from guardrail.types import Action, ChannelKind, Direction, Role

__all__ = [
    "DEFAULT_MESSAGE",
    "DEFAULT_ROLES",
    "AuditPolicy",
    "AuditText",
    "FailureMode",
    "InputCheck",
    "Measure",
    "Mode",
    "Override",
    "Policy",
    "Review",
    "Rule",
    "Selection",
    "StreamPolicy",
    "Target",
    "Turns",
]

DEFAULT_MESSAGE: Final = "This content was blocked by a safety policy."
DEFAULT_ROLES: Final = frozenset({Role.USER, Role.ASSISTANT, Role.TOOL})


class FailureMode(StrEnum):
    """What a rule does when its check cannot be made."""

    CLOSED = "closed"
    OPEN = "open"


class Mode(StrEnum):
    """Whether verdicts are carried out or only recorded."""

    ENFORCE = "enforce"
    MONITOR = "monitor"


class Turns(StrEnum):
    """How much of a conversation is checked on input."""

    LATEST = "latest_turn"
    UNSEEN = "unseen"
    ALL = "all"


class AuditText(StrEnum):
    """In which form the audit keeps a judged text."""

    NONE = "none"
    HASH = "hash"
    PLAIN = "plain"
    ENCRYPTED = "encrypted"


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """What the audit keeps of a decision, and what follows where it can keep nothing.

    Args:
        text: The form in which the judged text is kept.
        required: Whether a request whose decisions cannot be recorded is a failed check;
            otherwise its records are dropped and counted.
    """

    text: AuditText = AuditText.NONE
    required: bool = False


class InputCheck(StrEnum):
    """Whether the upstream waits for the verdict on the input."""

    BEFORE = "before"
    PARALLEL = "parallel"


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """How a streamed answer is held; `guardrail.stream.StreamSettings` has the same fields.

    Args:
        mode: ``hold``, ``trail`` or ``monitor``.
        first_chars: New characters before the first check of a channel.
        stride_chars: New characters between checks once the stride has grown.
        lookahead_chars: Characters that must follow a text before it goes out.
        context_chars: Judged characters that are shown again before each window.
        max_hold_ms: Longest time that a text waits before it is checked as it stands.
    """

    mode: str = "hold"
    first_chars: int = 20
    stride_chars: int = 112
    lookahead_chars: int = 32
    context_chars: int = 112
    max_hold_ms: int = 1000


@dataclass(frozen=True, slots=True)
class Review:
    """Probabilities for which a person is asked: ``low <= p < high``."""

    low: float
    high: float


class Measure(StrEnum):
    """What a threshold target bounds."""

    PRECISION = "precision"
    RECALL = "recall"
    FPR = "fpr"


@dataclass(frozen=True, slots=True)
class Target:
    """A threshold said as what it must achieve, with a finite-sample guarantee.

    Args:
        measure: What is bounded: precision and recall from below, ``fpr`` from above.
        value: The bound.
        confidence: Probability, over the draw of the calibration data, that the bound holds.
    """

    measure: Measure
    value: float
    confidence: float = 0.95

    def __str__(self) -> str:
        sign = "<=" if self.measure is Measure.FPR else ">="
        return f"{self.measure.value} {sign} {self.value:g} at {self.confidence:.0%} confidence"


@dataclass(frozen=True, slots=True)
class Override:
    """A value that a policy changes of one that it extends.

    Args:
        path: Where, such as ``categories.hate.block``.
        before: The inherited value.
        after: The value in force; None where it was removed.
        file: The file that changed it.
    """

    path: str
    before: object
    after: object
    file: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do about one category.

    Args:
        category: Category key.
        directions: Directions in which it applies.
        roles: Speakers on input to whom it applies.
        action: The most severe action it may take.
        flag: Probability from which it flags, or None for never.
        block: Probability from which it blocks, or None for never.
        review: Band in which a person is asked, or None.
        failure: What it does when its check cannot be made.
        message: Text for the user when it blocks, or None for the policy's own.
        translations: The same by language, such as ``de``.
        channels: Kinds of text to which it applies.
        flag_target: What ``flag`` is to achieve, where it is given as a target; ``flag`` is
            None until the target is resolved.
        block_target: The same for ``block``.
        rubric: What violates the category in plain language, for one of the author's own.
        examples: Texts that show it.
        matchers: What puts a text into it by shape.
        escalate: When a bigger guard is asked, or None.
        abstain: What it does where the model is not sure enough to say either, or None.
        placeholder: What stands for a redacted place; ``{kind}`` is the detector's name, or the
            category, and ``{category}`` the category.
    """

    category: str
    directions: frozenset[Direction]
    roles: frozenset[Role]
    action: Action
    flag: float | None
    block: float | None
    review: Review | None
    failure: FailureMode
    message: str | None
    translations: Mapping[str, str] = field(default_factory=dict)
    channels: frozenset[ChannelKind] = frozenset(ChannelKind)
    flag_target: Target | None = None
    block_target: Target | None = None
    rubric: str | None = None
    examples: Examples = field(default_factory=Examples)
    matchers: Matchers = field(default_factory=Matchers)
    escalate: Escalate | None = None
    abstain: Abstain | None = None
    placeholder: str = PLACEHOLDER

    @property
    def resolved(self) -> bool:
        """Whether all that was given as a target is a probability by now."""
        return (
            (self.flag_target is None or self.flag is not None)
            and (self.block_target is None or self.block is not None)
            and (self.abstain is None or self.abstain.resolved)
        )

    @property
    def lowest(self) -> float | None:
        """The probability from which it does anything, or None."""
        return min((t for t in (self.flag, self.block) if t is not None), default=None)


@dataclass(frozen=True, slots=True)
class Selection:
    """Requests for which another policy is in force. What is None, or empty, fits every one.

    Args:
        policy: The policy to use.
        route: Shell pattern of the path, such as ``/v1/chat/*``.
        model: Shell pattern of the model's name.
        key_sha256: SHA-256 (hex) of the client's API key, or its first 16 digits or more.
        headers: Shell pattern of the value by lower-case name of a header.
    """

    policy: Policy
    route: str | None = None
    model: str | None = None
    key_sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def fits(
        self, route: str, model: str | None, keys: Sequence[str], headers: Mapping[str, str]
    ) -> bool:
        """Whether a request fits every condition; see `Policy.select`."""
        return (
            (self.route is None or fnmatchcase(route, self.route))
            and (self.model is None or fnmatchcase(model or "", self.model))
            and (self.key_sha256 is None or any(map(self._is_of, keys)))
            and all(fnmatchcase(headers.get(n, ""), v) for n, v in self.headers.items())
        )

    def _is_of(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
        return self.key_sha256 is not None and digest.startswith(self.key_sha256)


@dataclass(frozen=True, slots=True)
class Policy:
    """A validated policy.

    Args:
        name: Its name.
        content_hash: SHA-256 (hex) of its canonical content; the version in force.
        description: One paragraph for people.
        mode: Enforce or monitor.
        rules: One for each category, in the order of the file.
        roles: Speakers whose input is checked at all.
        turns: How much of a conversation is checked on input.
        input_check: Whether the upstream waits for the verdict on the input.
        timeout_ms: Longest time for one check.
        message: Text for the user when something is blocked.
        stream: How streamed answers are held.
        translations: The message by language, such as ``de``.
        normalise: Whether disguised text is also scored as what it disguises.
        extends: The policies that it builds on, as written.
        overrides: What it changes of them.
        calibration: Path of the author's labelled JSONL for targets, or None for the model's.
        tests: Paths of labelled JSONL that ``guardrail policy test`` runs.
        file: Path that it was loaded from, or None.
        sources: Every file that it was read from, those that it extends included.
        selections: Requests for which another policy is in force; the first that fits counts.
        shadow: A policy that judges the same texts for the record only, or None.
        guards: Bigger guards by name, for the rules that escalate.
        audit: What the audit keeps.
    """

    name: str
    content_hash: str
    description: str = ""
    mode: Mode = Mode.ENFORCE
    rules: tuple[Rule, ...] = ()
    roles: frozenset[Role] = DEFAULT_ROLES
    turns: Turns = Turns.LATEST
    input_check: InputCheck = InputCheck.BEFORE
    timeout_ms: int = 10_000
    message: str = DEFAULT_MESSAGE
    stream: StreamPolicy = field(default_factory=StreamPolicy)
    translations: Mapping[str, str] = field(default_factory=dict)
    normalise: bool = True
    extends: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    calibration: str | None = None
    tests: tuple[str, ...] = ()
    file: str | None = None
    sources: tuple[str, ...] = ()
    selections: tuple[Selection, ...] = ()
    shadow: Policy | None = None
    guards: Mapping[str, GuardSpec] = field(default_factory=dict)
    audit: AuditPolicy = AuditPolicy()

    @property
    def identity(self) -> str:
        """Name and the first 12 digits of the hash, as verdicts and headers carry it."""
        return f"{self.name}@{self.content_hash[:12]}"

    def applies(self, direction: Direction) -> bool:
        """Whether any rule looks at texts that travel this way."""
        return any(direction in rule.directions for rule in self.rules)

    def may_block(self, direction: Direction) -> bool:
        """Whether any rule can block texts that travel this way; to redact may be to block."""
        return self.mode is Mode.ENFORCE and any(
            direction in rule.directions and rule.action in (Action.BLOCK, Action.REDACT)
            for rule in self.rules
        )

    def redacts(self, direction: Direction) -> bool:
        """Whether any rule takes something out of texts that travel this way."""
        return self.mode is Mode.ENFORCE and any(
            direction in rule.directions and rule.action is Action.REDACT for rule in self.rules
        )

    def select(
        self, route: str, model: str | None, keys: Sequence[str], headers: Mapping[str, str]
    ) -> Policy:
        """Return the policy for a request.

        Args:
            route: Its path.
            model: The model that it names, if any.
            keys: The API keys that it presents; any of them may be the one that counts.
            headers: Its headers, by lower-case name.

        Returns:
            That of the first selection that fits, or this policy.
        """
        fitting = (s.policy for s in self.selections if s.fits(route, model, keys, headers))
        return next(fitting, self)

    def rule(self, category: str) -> Rule | None:
        """Return the rule of a category, or None."""
        return next((rule for rule in self.rules if rule.category == category), None)

    def message_for(self, categories: Sequence[str], languages: Sequence[str] = ()) -> str:
        """Return the text for the user.

        Args:
            categories: Categories that blocked, the most severe first; the first that has a
                text of its own is used.
            languages: Languages that the user reads, the best first, such as ``de-AT``.

        Returns:
            The text in the first of the languages that there is, or in the policy's own.
        """
        rules = {rule.category: rule for rule in self.rules}
        own = next((r for k in categories if (r := rules.get(k)) and r.message), None)
        message, translations = (
            (own.message, own.translations) if own else (self.message, self.translations)
        )
        for language in languages:
            for tag in (language.lower(), language.lower().split("-")[0]):
                if tag in translations:
                    return translations[tag]
        return message or self.message
