"""Bodies and frames with other texts in the same places; all else in them stays.

One walk serves every dialect: a string is text unless it stands under a key that names, counts
or encodes. What a server says about its tokens goes where a text changes, for it repeats the text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from guardrail.errors import WireError
from guardrail.types import Channel, ChannelKind, Edits, Frame, Role, Segment
from guardrail.wire.base import WireRequest
from guardrail.wire.json import clean, is_coded, is_plain, strings
from guardrail.wire.openai_common import choice_index

__all__ = ["edit_body", "edit_event", "edit_payload", "redact_request", "rewrite"]

Redact = Callable[[str, Role, ChannelKind, bool], str]
"""Redacts a text of a speaker and kind; the last argument says whether its places are counted."""

_LABELS: Final = frozenset(
    {
        "call_id", "completed_at", "container_id", "created", "created_at", "data",
        "encrypted_content", "encrypted_index", "file_data", "file_id", "finish_reason", "id",
        "image_url", "index", "item_id", "media_type", "model", "native_finish_reason", "object",
        "obfuscation", "previous_response_id", "provider", "role", "seed", "service_tier",
        "signature", "status", "stop_reason", "system_fingerprint", "timestamp", "timings",
        "tool_call_id", "tool_use_id", "type", "usage",
    }
)  # fmt: skip
"""Keys whose strings and numbers are no text."""
_TOKENS: Final = frozenset({"logprobs", "prompt_token_ids", "token_ids", "top_logprobs"})
_LEAST_NUMBER: Final = 1_000_000
"""Numbers below it are no account, card or phone numbers."""


class _Walk:
    """One pass over a decoded value."""

    def __init__(self, edits: Edits, other: Callable[[str], str]) -> None:
        self._edits = edits
        self._anywhere: dict[str, set[str]] = {}
        for (_, text), shown in edits.items():
            self._anywhere.setdefault(text, set()).add(shown)
        moved = (text for (_, text), shown in edits.items() if shown != text)
        self._moved = frozenset(text for text in moved if not is_plain(text))
        self._index = -1  # of the choice that one is in
        self._other = other
        self.found: Counter[str] = Counter()
        self.stuck = False
        self.changed = False

    def value(self, value: Any, key: str) -> Any:
        if isinstance(value, str):
            label = key in _LABELS and is_coded(value) and not self._told(value)
            return value if label else self._string(value)
        if isinstance(value, list):
            return [self._child(child, key, place) for place, child in enumerate(value)]
        if isinstance(value, dict):
            self.stuck = self.stuck or any(map(self._told, value))
            said = value.get("type") == "text"  # a document's text is its source's data
            return {
                name: self.value(child, "text" if said and name == "data" else name)
                for name, child in value.items()
            }
        if isinstance(value, int) and abs(value) >= _LEAST_NUMBER and key not in _LABELS:
            digits = str(abs(value))  # a card number may be one
            shown = self._other(digits)
            self.changed = self.changed or shown != digits
            return value if shown == digits else shown
        return value

    def _child(self, value: Any, key: str, place: int) -> Any:
        if key != "choices" or not isinstance(value, dict):
            return self.value(value, key)
        index, before = choice_index(value, place), self._index
        self._index = -1 if index is None else index
        made = self.value(value, key)
        self._index = before
        return made

    def _told(self, name: str) -> bool:
        """Return whether a key or label says what is taken out of a text, and is no mere name."""
        return bool(self._moved) and clean(name) in self._moved

    def _edit(self, text: str) -> str | None:
        """Return the new text of one in this choice, or else of the same one anywhere."""
        if (self._index, text) in self._edits:
            return self._edits[self._index, text]
        shown = self._anywhere.get(text, set())
        changed = [new for new in shown if new != text]
        self.stuck = self.stuck or len(changed) > 1  # whose it is, is not known
        return changed[0] if changed else text if shown else None

    def _string(self, text: str) -> str:
        plain = clean(text)
        shown = self._edit(plain)
        if shown is None:
            shown = self._other(plain) if plain else plain
        else:
            self.found[plain] += 1
        if shown == plain:
            return text
        self.changed = True
        return shown


def rewrite(
    payload: Any, edits: Edits, other: Callable[[str], str]
) -> tuple[Any, bool, Mapping[str, int]]:
    """Return a decoded body with other texts.

    Args:
        payload: Any decoded JSON; the parser has bounded its depth.
        edits: New texts by the index and the text that they stand for.
        other: What every other text becomes.

    Returns:
        The new body, whether it differs, and how often texts of ``edits`` were found in it as
        strings of their own; none where one of them stands where it cannot be edited.
    """
    walk = _Walk(edits, other)
    made = walk.value(payload, "")
    found = {} if walk.stuck else walk.found
    return (_without_tokens(made) if walk.changed else payload), walk.changed, found


def _without_tokens(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_tokens(child) for child in value]
    if not isinstance(value, dict):
        return value
    return {
        key: ([] if isinstance(child, list) else None) if key in _TOKENS else _without_tokens(child)
        for key, child in value.items()
    }


def edit_payload(payload: Any, edits: Edits, other: Callable[[str], str]) -> bytes | None:
    """Return a body as JSON with other texts, or None where nothing in it changes.

    Whether all of it was reached is for the caller to see, by reading the new body.

    Raises:
        ValueError: It holds a number that JSON cannot say.
    """
    if isinstance(payload, str):  # an error page that is no JSON
        shown = other(payload)
        return None if shown == payload else shown.encode()
    made, changed, _ = rewrite(payload, edits, other)
    return json.dumps(made, separators=(",", ":"), allow_nan=False).encode() if changed else None


def edit_event(frame: Frame, edits: Edits, other: Callable[[str], str]) -> Frame | None:
    """Return a frame of an event stream with other texts.

    Args:
        frame: The frame, with its decoded event.
        edits: New texts by the index and the strings of its spans.
        other: What every other text becomes.

    Returns:
        The frame itself where nothing changes; None where a text of its spans that changes is
        not as often a string of its own in it as it was read.
    """
    if not isinstance(frame.payload, dict):
        return frame if all(key[1] == shown for key, shown in edits.items()) else None
    made, changed, found = rewrite(frame.payload, edits, other)
    gone = {key for key, shown in edits.items() if key[1] != shown}
    strings_of = ((span.channel.index, text) for span in frame.spans for *_, text in span.strings())
    read = Counter(key[1] for key in strings_of if key in gone)
    if any(found.get(text, 0) < times for text, times in read.items()):
        return None
    if not changed:
        return frame
    data = b"data: " + json.dumps(made, separators=(",", ":")).encode()
    kept = [
        line
        for line in frame.raw.removeprefix(b"\xef\xbb\xbf").splitlines()
        if line and not line.startswith(b"data")
    ]
    return replace(frame, raw=b"\n".join([*kept, data, b"", b""]), payload=made)


def edit_body(
    read: Callable[[bytes], Frame], is_clean: Callable[[Channel, str], bool]
) -> Callable[[Frame, Edits, Callable[[str], str]], Frame | None]:
    """Return what edits a whole answer, and sees by reading it again that nothing was missed.

    Args:
        read: Reads a body.
        is_clean: Whether a text of the new answer has nothing left to take out.
    """

    def edit(frame: Frame, edits: Edits, other: Callable[[str], str]) -> Frame | None:
        try:
            body = edit_payload(frame.payload, edits, other)
            made = frame if body is None else read(body)
        except (WireError, ValueError):
            return None
        if not all(is_clean(span.channel, span.text) for span in made.spans):
            return None
        return replace(made, opaque=frame.opaque)

    return edit


def redact_request(
    request: WireRequest, read: Callable[[bytes], WireRequest], redact: Redact
) -> WireRequest | None:
    """Return a request with its texts redacted where they stand.

    Args:
        request: The request.
        read: Reads a body, to see that nothing was missed.
        redact: Redacts one text.

    Returns:
        The request itself where nothing is redacted; None where a place cannot be edited.
    """
    texts: dict[tuple[int, str], str] = {}
    joined: dict[str, Segment] = {}
    for segment in request.segments:
        shown = redact(segment.text, segment.role, segment.channel.kind, True)
        if shown != segment.text:
            texts[0, segment.text] = shown
            joined |= dict.fromkeys(_parts(segment.text), segment)
    if not texts:
        return request

    def other(text: str) -> str:
        lines = text.split("\n")
        if not all(line in joined for line in lines):
            return text  # out of the policy's scope
        segment = joined[lines[0]]
        return redact(text, segment.role, segment.channel.kind, False)

    try:
        body = edit_payload(request.payload, texts, other)
        again = request if body is None else read(body)
    except (WireError, ValueError):
        return None
    left = (s for s in again.segments if redact(s.text, s.role, s.channel.kind, False) != s.text)
    return again if next(left, None) is None else None


def _parts(text: str) -> list[str]:
    """Return what a text may have been joined from: its lines, or the strings of an object."""
    parts = text.split("\n")
    if text[:1] in ("{", "["):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return parts
        parts += [line for string in strings(value) for line in string.split("\n")]
        parts += [str(abs(number)) for number in _numbers(value)]
    return parts


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, list | dict):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _numbers(child)
    elif isinstance(value, int):
        yield value
