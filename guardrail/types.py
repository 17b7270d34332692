"""Values that every room shares: what is judged, what was found, what is to be done.

This room knows nothing of models, policies, HTTP or clocks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

__all__ = [
    "UNSAFE",
    "Action",
    "Channel",
    "ChannelKind",
    "Coverage",
    "Direction",
    "Edits",
    "Escalation",
    "Evidence",
    "Finding",
    "Frame",
    "Outcome",
    "Role",
    "Scores",
    "Segment",
    "Span",
    "Stage",
    "Verdict",
]

UNSAFE = "unsafe"
"""Key of the overall probability, beside the category keys, in `Scores.categories`."""


class Direction(StrEnum):
    """Which way a text travels: to the model (input) or from it (output)."""

    INPUT = "input"
    OUTPUT = "output"


class Role(StrEnum):
    """Who speaks, in the sense the classifier was trained on."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    TEXT = "text"


class ChannelKind(StrEnum):
    """What a text is within a request or an answer."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    TOOL_ARGUMENTS = "tool_arguments"
    TOOL_RESULT = "tool_result"


class Action(Enum):
    """What to do with a text, ordered by severity."""

    PASS = "pass"  # noqa: S105  (not a password)
    FLAG = "flag"
    REDACT = "redact"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """0 for pass up to 3 for block."""
        return _SEVERITY[self]

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Action):
            return NotImplemented
        return self.severity < other.severity


_SEVERITY = {action: rank for rank, action in enumerate(Action)}


class Outcome(StrEnum):
    """How far a check got; the audit trail's own words."""

    SCANNED = "scanned"
    TRUNCATED = "truncated"
    SKIPPED = "skipped"
    FAILED = "failed"


class Stage(StrEnum):
    """Who settled a probability, from the cheapest to the dearest; `FAILURE` where nobody did."""

    RULES = "rules"
    MODEL = "model"
    GUARD = "guard"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, order=True)
class Channel:
    """An independent text stream within one answer or request.

    Args:
        index: Choice, item or message index.
        kind: What the text is.
        sub: Second index within the item: content part or tool call.
    """

    index: int = 0
    kind: ChannelKind = ChannelKind.TEXT
    sub: int = 0

    def __str__(self) -> str:
        return f"{self.kind.value}[{self.index}.{self.sub}]"


@dataclass(frozen=True, slots=True)
class Segment:
    """One text to judge, with what the classifier may know about it.

    Args:
        text: The text to judge.
        role: Who speaks.
        channel: Where in the request or answer it stands.
        prompt: The user turn before an assistant's reply, or None.
        turn: Index of the message it came from; -1 where there are no turns.
        latest: Whether it belongs to the latest turn (all that follows the last assistant
            message).
    """

    text: str
    role: Role = Role.TEXT
    channel: Channel = Channel()
    prompt: str | None = None
    turn: int = -1
    latest: bool = True


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text that one frame adds to one channel.

    Args:
        channel: The channel it continues.
        text: The decoded text; may be empty.
        pieces: Start and end in it of each string that the frame has; empty where the text is
            such a string itself.
    """

    channel: Channel
    text: str
    pieces: tuple[tuple[int, int], ...] = ()

    def strings(self) -> Iterator[tuple[int, int, str]]:
        """Yield the strings of the frame in it: start, end and text."""
        for start, end in self.pieces or ((0, len(self.text)),):
            yield start, end, self.text[start:end]


Edits = Mapping[tuple[int, str], str]
"""New strings for a frame, by the index of their channel and the strings that they stand for."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The smallest unit that a relay forwards: original bytes and what they say.

    Two frames are never equal: a frame is an event, not a value.

    Args:
        raw: The bytes as they came, forwarded unchanged.
        spans: Text that the frame adds, by channel.
        ends: Channels that no later frame continues; their tail needs no look-ahead.
        keepalive: A comment or ping without content, which may overtake held frames.
        opaque: Of unknown shape and may carry text; the failure mode decides on it.
        payload: The decoded content for the dialect's own later use.
    """

    raw: bytes
    spans: tuple[Span, ...] = ()
    ends: tuple[Channel, ...] = ()
    keepalive: bool = False
    opaque: bool = False
    payload: object = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a text the scores rest on.

    Args:
        scanned_chars: Characters that were scored.
        total_chars: Characters that were handed in.
        tokens: Classifier tokens that were processed, context included.
        windows: Windows that the text was cut into.
    """

    scanned_chars: int = 0
    total_chars: int = 0
    tokens: int = 0
    windows: int = 0

    @property
    def truncated(self) -> bool:
        """Whether some of the text was not scored."""
        return self.scanned_chars < self.total_chars


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a probability rests on besides the model; it holds no text.

    Args:
        category: Category key; empty where it concerns the text as a whole.
        kind: ``pattern``, ``word``, ``detector``, or ``view`` for a disguise that was undone.
        name: Which pattern, detector or disguise; of words only that one of the list matched.
        start: First character of the place in the text.
        end: Character after the last.
    """

    category: str
    kind: str
    name: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Escalation:
    """One category of one text that a bigger guard was asked about.

    Args:
        category: Category key.
        guard: The guard's name in the policy.
        before: The embedded model's probability, which lay in the rule's band.
        after: The probability that counts now; None where the guard gave none.
        model: Identity of what answered; empty where nothing did.
        reason: Why there is no answer: ``timeout``, ``overload``, ``unavailable``,
            ``rate_limited``, ``garbage``, ``rejected``, ``too_large`` or ``failure``; empty where
            there is one.
        seconds: Time that was spent on it.
    """

    category: str
    guard: str
    before: float
    after: float | None = None
    model: str = ""
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """Calibrated probabilities of one text.

    Args:
        categories: Probability in [0, 1] by category key; `UNSAFE` is the overall one.
        model: Identity of what produced them: name and content hash.
        coverage: How much of the text they rest on.
        evidence: What they rest on besides the model.
        escalations: Categories that a bigger guard was asked about, answered or not.
    """

    categories: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    coverage: Coverage = Coverage()
    evidence: tuple[Evidence, ...] = ()
    escalations: tuple[Escalation, ...] = ()

    def get(self, key: str) -> float | None:
        """Return the probability of ``key``, or None where the model gave none, or not a number."""
        probability = self.categories.get(key)
        return None if probability is None or math.isnan(probability) else probability


@dataclass(frozen=True, slots=True)
class Finding:
    """One category whose threshold a text crossed, or one rule that failed.

    Args:
        category: Category key.
        action: What its rule asks for.
        probability: Calibrated probability; None where the check failed.
        threshold: The threshold that was crossed; None where the check failed.
        reason: ``threshold``, ``abstain``, ``pattern``, ``failure``, ``timeout``, ``overload`` …
        review: Whether the probability lies in the rule's review band.
        stage: Who settled it.
        guard: The guard that did, by its name in the policy; empty where none did.
    """

    category: str
    action: Action
    probability: float | None = None
    threshold: float | None = None
    reason: str = "threshold"
    review: bool = False
    stage: Stage = Stage.MODEL
    guard: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one text.

    Args:
        action: What to do.
        direction: Which way the text travels.
        findings: Categories that were crossed, the most severe and likely first.
        scores: The probabilities behind it.
        policy: Identity of the policy: name and content hash.
        outcome: How far the check got.
        enforced: False where the policy only monitors: ``action`` is then what would have
            happened, and `effective` is pass.
    """

    action: Action
    direction: Direction
    findings: tuple[Finding, ...] = ()
    scores: Scores = field(default_factory=Scores)
    policy: str = ""
    outcome: Outcome = Outcome.SCANNED
    enforced: bool = True

    @property
    def effective(self) -> Action:
        """The action to carry out: ``action``, or pass where the policy only monitors."""
        return self.action if self.enforced else Action.PASS

    @property
    def blocked(self) -> bool:
        """Whether the text must not travel on."""
        return self.effective is Action.BLOCK

    @property
    def review(self) -> bool:
        """Whether a person is asked: a finding lies in its rule's review band."""
        return any(finding.review for finding in self.findings)

    @property
    def review_reasons(self) -> tuple[str, ...]:
        """Why a person is asked: each category in its band, with its probability and source."""
        return tuple(
            f"{f.category}: {f.probability:.3f} by {f.guard or f.stage.value} is in the review band"
            for f in self.findings
            if f.review and f.probability is not None
        )

    @property
    def stage(self) -> Stage | None:
        """Who decided: that of the foremost finding; without one, the dearest that was asked.

        None where nothing was judged.
        """
        if self.findings:
            return self.findings[0].stage
        if self.outcome is Outcome.SKIPPED:
            return None
        if self.outcome is Outcome.FAILED:
            return Stage.FAILURE
        answered = any(e.after is not None for e in self.scores.escalations)
        return Stage.GUARD if answered else Stage.MODEL

    @property
    def guard(self) -> str:
        """The guard that decided, by its name in the policy; empty where none did."""
        if self.findings:
            return self.findings[0].guard
        answered = (e.guard for e in self.scores.escalations if e.after is not None)
        return next(answered, "")

    @property
    def redacted(self) -> Mapping[str, int]:
        """How many places rules that redact have found, by kind; never their text.

        A kind is a detector's name, or the category of a pattern or word.
        """
        rules = {f.category for f in self.findings if f.action is Action.REDACT}
        found = (e for e in self.scores.evidence if e.category in rules)
        return Counter(
            e.name if e.kind == "detector" else e.category for e in found if e.kind != "view"
        )

    @property
    def categories(self) -> tuple[str, ...]:
        """Keys of the findings that ask for the verdict's own action."""
        return tuple(f.category for f in self.findings if f.action is self.action)
