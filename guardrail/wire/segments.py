"""The request side that every dialect shares: texts collected in order, with who speaks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from guardrail.errors import WireError
from guardrail.types import Channel, ChannelKind, Role, Segment
from guardrail.wire.base import SIDE, WireRequest
from guardrail.wire.json import clean, is_plain, optional, parse_object, strict_keys, strings

__all__ = ["SegmentList", "read_body", "request_of"]


MAX_TEXTS = 16_384
"""Bound on the texts of one request, so that reading it takes no longer than parsing it."""


@dataclass(frozen=True, slots=True)
class _Draft:
    text: str
    role: Role
    channel: Channel
    turn: int
    always: bool


class SegmentList:
    """Texts of one request, in order, and what could not be scanned.

    Attributes:
        skipped: What could not be scanned.
        opaque: Whether some of that is text all the same.
        fresh: Whether every turn is new, and so belongs to the latest.
    """

    def __init__(self) -> None:
        self._drafts: list[_Draft] = []
        self._turns: list[Role] = []
        self.skipped: list[str] = []
        self.opaque = False
        self.fresh = False

    def turn(self, role: Role) -> int:
        """Open the next turn and return its index.

        Args:
            role: Who speaks.
        """
        self._turns.append(role)
        return len(self._turns) - 1

    def add(
        self,
        text: str,
        role: Role,
        kind: ChannelKind = ChannelKind.TEXT,
        *,
        turn: int = -1,
        sub: int = 0,
        index: int | None = None,
        always: bool = False,
    ) -> None:
        """Add a text.

        Args:
            text: The text; an empty one is left out.
            role: Who speaks.
            kind: What the text is.
            turn: Its turn, or -1.
            sub: Part or call within the turn.
            index: Channel index, the turn by default.
            always: Whether it belongs to the latest turn wherever it stands.

        Raises:
            WireError: More than `MAX_TEXTS` texts.
        """
        if text:
            if len(self._drafts) >= MAX_TEXTS:
                raise WireError(f"the request has more than {MAX_TEXTS:,} texts")
            place = max(turn, 0) if index is None else index
            self._drafts.append(_Draft(clean(text), role, Channel(place, kind, sub), turn, always))

    def skip(self, path: str, what: object, *, opaque: bool = False) -> None:
        """Note something that could not be scanned.

        Args:
            path: Where it stands.
            what: Its type, quoted only if it is a plain word.
            opaque: Whether it is text in a form that we cannot read.
        """
        self.opaque = self.opaque or opaque
        word = what if isinstance(what, str) and is_plain(what) and len(what) <= 40 else "unknown"
        self.skipped.append(f"{path}: {word}")

    def definitions(self, value: object, field: str) -> None:
        """Add descriptions from tool or format definitions: the model reads them as instructions.

        Args:
            value: A list of definitions, an object, or None.
            field: Name of the field, for errors.

        Raises:
            WireError: Neither list nor object.
        """
        if value is None:
            return
        if not isinstance(value, list | dict):
            raise WireError(f"{field} must be a list or an object", param=field)
        for place, item in enumerate(value if isinstance(value, list) else [value]):
            text = "\n".join(s for s in strings(item) if not is_plain(s))
            self.add(text, Role.SYSTEM, index=place, sub=SIDE, always=True)

    def unknown(
        self, obj: Mapping[str, Any], known: Collection[str], role: Role, *, turn: int = -1
    ) -> None:
        """Add texts from fields that we do not know: a server behind us may know them.

        Args:
            obj: The object.
            known: Fields that were read, or that carry no text.
            role: Who speaks.
            turn: Its turn, or -1.
        """
        for key, value in obj.items():
            if key in known:
                continue
            for text in strings(value):
                if not is_plain(text):  # a plain word is a setting
                    self.add(text, role, turn=turn, sub=SIDE, always=turn < 0)

    def build(self) -> tuple[tuple[Segment, ...], str | None]:
        """Return the segments and the text of the last user turn.

        A last turn of the assistant is a prefill: whoever wrote the request wrote it, and the
        model goes on from there, so it does not move the start of the latest turn.
        """
        turns = self._turns
        last = len(turns) - 1
        while last >= 0 and turns[last] is Role.ASSISTANT:
            last -= 1
        while last >= 0 and turns[last] is not Role.ASSISTANT:
            last -= 1
        segments: list[Segment] = []
        parts: list[str] = []  # joined once they are all there: a turn may have many
        asked, asked_turn = "", -1
        for draft in self._drafts:
            if draft.role is Role.USER and draft.channel.sub < SIDE:
                if draft.turn != asked_turn:
                    parts, asked_turn = [], draft.turn
                parts.append(draft.text)
                asked = ""
            elif draft.role is Role.ASSISTANT:
                asked = asked or "\n".join(parts)
            prompt = asked or None if draft.role is Role.ASSISTANT else None
            latest = self.fresh or draft.always or draft.turn > last or last < 0
            segments.append(
                Segment(draft.text, draft.role, draft.channel, prompt, draft.turn, latest)
            )
        return tuple(segments), "\n".join(parts) or None


def read_body(body: bytes, fields: Collection[str]) -> dict[str, Any]:
    """Parse a request body.

    Args:
        body: The bytes as they came.
        fields: Fields that the dialect reads.

    Raises:
        WireError: See `Wire.read_request`.
    """
    payload = parse_object(body, what="request body")
    strict_keys(payload, fields, "")
    return payload


def request_of(
    body: bytes, payload: dict[str, Any], read: Callable[[dict[str, Any], SegmentList], None]
) -> WireRequest:
    """Build a request from what ``read`` collects, with ``model`` and ``stream``.

    Args:
        body: The bytes as they came.
        payload: The decoded body.
        read: Adds the texts of the payload.

    Raises:
        WireError: A field has the wrong type. ``stream`` must be a boolean: a server that takes
            "true" or 1 for true would answer in a form that we do not expect.
    """
    model = optional(payload, "model", str)
    stream = bool(optional(payload, "stream", bool))
    segments = SegmentList()
    read(payload, segments)
    texts, prompt = segments.build()
    skipped, opaque = tuple(segments.skipped), segments.opaque
    return WireRequest(body, payload, texts, stream, model, prompt, skipped, opaque)
