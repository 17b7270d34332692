"""OpenAI Responses, streamed: what the client has, and the events that close it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from guardrail.wire.base import Notice
from guardrail.wire.sse import write_event
from guardrail.wire.stream import object_at

__all__ = ["ItemPlaces", "SentResponse", "response_object"]

_CHARS = 1_000_000  # bound on kept text of one part; an answer of 250,000 tokens has as many

_PARTS = {  # delta event: list of the item, index field, part without text, its text field
    "response.output_text.delta": ("content", "content_index", "output_text", "text"),
    "response.refusal.delta": ("content", "content_index", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "content_index", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", "summary_text", "text"),
}
_WHOLE = {  # delta event: field of the item
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.code_interpreter_call_code.delta": "code",
}
_CLOSERS = {  # part type: its own done event and the event of its container
    "output_text": ("output_text.done", "content_part.done"),
    "refusal": ("refusal.done", "content_part.done"),
    "reasoning_text": ("reasoning_text.done", "content_part.done"),
    "summary_text": ("reasoning_summary_text.done", "reasoning_summary_part.done"),
}
_FIELD_CLOSERS = {  # item type: its done event and field
    "function_call": ("function_call_arguments.done", "arguments"),
    "mcp_call": ("mcp_call_arguments.done", "arguments"),
    "custom_tool_call": ("custom_tool_call_input.done", "input"),
    "code_interpreter_call": ("code_interpreter_call_code.done", "code"),
}


@dataclass(slots=True)
class _Text:
    """Text of one part, kept as the pieces that were sent."""

    pieces: list[str] = field(default_factory=list)
    chars: int = 0

    def add(self, text: str) -> None:
        if self.chars < _CHARS:
            self.pieces.append(text)
            self.chars += len(text)

    def __str__(self) -> str:
        return "".join(self.pieces)


@dataclass(slots=True)
class _Item:
    """One output item that the client has."""

    item: dict[str, Any]
    done: bool = False
    whole: _Text = field(default_factory=_Text)
    parts: dict[tuple[str, int], tuple[str, _Text]] = field(default_factory=dict)
    closed: set[tuple[str, int]] = field(default_factory=set)


class ItemPlaces:
    """Output indices for peers that leave them out, as llama.cpp does: items in order of ids."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def index(self, event: dict[str, Any]) -> object:
        """Return the output index of an event: its own, or its item's place; not yet checked."""
        own = event.get("output_index")
        if own is not None:
            return own
        item = object_at(event, "item")
        name = event.get("item_id") or item.get("id") or item.get("call_id")
        if not isinstance(name, str):
            return max(len(self._ids) - 1, 0)
        return self._ids.setdefault(name, len(self._ids))


def response_object(
    fields: dict[str, Any],
    *,
    id: str,  # noqa: A002  (the field's name in the dialect)
    created: int,
    model: str | None,
) -> dict[str, Any]:
    """Return a response object with every field that the protocol requires.

    Args:
        fields: Fields that are known; they win.
        id: Identity for an object made from nothing.
        created: Unix time in seconds for such an object.
        model: Model of the request.
    """
    return {
        "id": id,
        "object": "response",
        "created_at": created,
        "model": model or "unknown",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        **fields,
    }


class SentResponse:
    """What the client has of one streamed response.

    Args:
        model: Model of the request.
    """

    __slots__ = (
        "_created",
        "_head",
        "_items",
        "_model",
        "_number",
        "_places",
        "_terminal",
        "_text",
    )

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._head: dict[str, Any] = {}
        self._items: dict[int, _Item] = {}
        self._places = ItemPlaces()
        self._created = self._terminal = self._text = False
        self._number = 0

    def saw(self, response: dict[str, Any]) -> None:
        """Keep what upstream says of the response itself, such as id, model and usage."""
        known = {k: v for k, v in response.items() if k not in _OUTCOME and v is not None}
        self._head.update(known)

    def note(self, payload: dict[str, Any]) -> None:
        """Take note of one event that was sent."""
        kind = str(payload.get("type"))
        number = payload.get("sequence_number")
        if isinstance(number, int):
            self._number = max(self._number, number + 1)
        if kind in _TERMINAL:
            self._terminal = True
        elif kind == "response.created":
            self._created = True
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._note_item(kind, _int(self._places.index(payload)), payload)
        else:
            item = self._items.get(_int(self._places.index(payload)))
            if item is not None:
                self._note_piece(item, kind, payload)

    def _note_item(self, kind: str, index: int, payload: dict[str, Any]) -> None:
        item = payload.get("item")
        if isinstance(item, dict):
            done = kind.endswith("done")
            self._items[index] = _Item(item, done)
            self._text = self._text or (done and item.get("type") == "message")

    def _note_piece(self, item: _Item, kind: str, payload: dict[str, Any]) -> None:
        delta = payload.get("delta")
        if kind in _PARTS and isinstance(delta, str):
            place, index, part, _ = _PARTS[kind]
            key = (place, _int(payload.get(index)))
            item.parts.setdefault(key, (part, _Text()))[1].add(delta)
            self._text = self._text or part == "output_text"
        elif kind in _WHOLE and isinstance(delta, str):
            item.whole.add(delta)
        elif kind == "response.content_part.added":
            part = str(object_at(payload, "part").get("type"))
            if part in _CLOSERS:
                key = ("content", _int(payload.get("content_index")))
                item.parts.setdefault(key, (part, _Text()))
        elif kind == "response.reasoning_summary_part.added":
            key = ("summary", _int(payload.get("summary_index")))
            item.parts.setdefault(key, ("summary_text", _Text()))
        elif kind == "response.content_part.done":
            _close_part(item, ("content", _int(payload.get("content_index"))), payload)
        elif kind == "response.reasoning_summary_part.done":
            _close_part(item, ("summary", _int(payload.get("summary_index"))), payload)

    def refusal(self, notice: Notice) -> bytes:
        """Return the events that close the response as filtered.

        Open parts and items are closed with the text that was sent; the notice is an item of
        its own, as text if none was sent and as a refusal otherwise.
        """
        if self._terminal:
            return b""
        events = [*self._opening(notice), *self._close_items(), *self._notice(notice)]
        outcome = {
            "status": "incomplete",
            "incomplete_details": {"reason": "content_filter"},
            "output": self._output(),
        }
        events.append({"type": "response.incomplete", "response": self._response(outcome, notice)})
        return self._write(events)

    def failure(self, message: str) -> bytes:
        """Return the events that close the response as failed."""
        if self._terminal:
            return b""
        notice = Notice(message)
        events = [*self._opening(notice), *self._close_items()]
        outcome = {
            "status": "failed",
            "error": {"code": "server_error", "message": message},
            "output": self._output(),
        }
        events.append({"type": "response.failed", "response": self._response(outcome, notice)})
        return self._write(events)

    def _response(self, outcome: dict[str, Any], notice: Notice) -> dict[str, Any]:
        return response_object(
            {**self._head, **outcome},
            id=f"resp_{notice.request_id}",
            created=notice.created,
            model=self._model,
        )

    def _opening(self, notice: Notice) -> list[dict[str, Any]]:
        if self._created:
            return []
        response = self._response({"status": "in_progress", "output": []}, notice)
        return [{"type": "response.created", "response": response}]

    def _close_items(self) -> Iterator[dict[str, Any]]:
        for index, item in sorted(self._items.items()):
            if not item.done:
                yield from _close_item(index, item)
                item.done = True

    def _notice(self, notice: Notice) -> list[dict[str, Any]]:
        index = max(self._items, default=-1) + 1
        kind, name = ("refusal", "refusal") if self._text else ("output_text", "text")
        extra: dict[str, Any] = {} if self._text else {"annotations": []}
        item = {"id": f"msg_{notice.request_id}_{index}", "type": "message", "role": "assistant"}
        part = {"type": kind, name: notice.message, **extra}
        self._items[index] = _Item({**item, "status": "completed", "content": [part]}, done=True)
        at = {"item_id": item["id"], "output_index": index}
        place = {**at, "content_index": 0}
        logprobs: dict[str, Any] = {} if self._text else {"logprobs": []}
        return [
            _event(
                "output_item.added",
                {"output_index": index, "item": {**item, "status": "in_progress", "content": []}},
            ),
            _event("content_part.added", {**place, "part": {"type": kind, name: "", **extra}}),
            _event(f"{kind}.delta", {**place, "delta": notice.message, **logprobs}),
            _event(f"{kind}.done", {**place, name: notice.message, **logprobs}),
            _event("content_part.done", {**place, "part": part}),
            _event("output_item.done", {"output_index": index, "item": self._items[index].item}),
        ]

    def _output(self) -> list[dict[str, Any]]:
        return [item.item for _, item in sorted(self._items.items())]

    def _write(self, events: list[dict[str, Any]]) -> bytes:
        numbered = [
            {**event, "sequence_number": self._number + i} for i, event in enumerate(events)
        ]
        return b"".join(write_event(event, name=event["type"]) for event in numbered)


_OUTCOME = frozenset({"status", "output", "output_text", "error", "incomplete_details"})
_TERMINAL = frozenset({"response.completed", "response.failed", "response.incomplete"})


def _close_part(item: _Item, key: tuple[str, int], payload: dict[str, Any]) -> None:
    item.closed.add(key)
    part = payload.get("part")
    kept = item.parts.get(key)
    if kept is not None and not kept[1].chars and isinstance(part, dict):
        kept[1].add(str(part.get("text") or part.get("refusal") or ""))


def _close_item(index: int, sent: _Item) -> Iterator[dict[str, Any]]:
    """Yield the closing events of one item; its ``item`` becomes what was sent of it."""
    name = sent.item.get("id") or sent.item.get("call_id") or ""
    at = {"item_id": name, "output_index": index}
    lists: dict[str, list[dict[str, Any]]] = {}
    for (place, number), (kind, text) in sorted(sent.parts.items()):
        field_name = "refusal" if kind == "refusal" else "text"
        part: dict[str, Any] = {"type": kind, field_name: str(text)}
        part |= {"annotations": []} if kind == "output_text" else {}
        lists.setdefault(place, []).append(part)
        if (place, number) not in sent.closed:
            spot = {**at, "summary_index" if place == "summary" else "content_index": number}
            logprobs: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
            own, container = _CLOSERS[kind]
            yield _event(own, {**spot, field_name: str(text), **logprobs})
            yield _event(container, {**spot, "part": part})
    item: dict[str, Any] = {**sent.item, **lists, "status": "incomplete"}
    closer = _FIELD_CLOSERS.get(str(item.get("type")))
    if closer is not None:
        kind, field_name = closer
        item[field_name] = str(sent.whole)
        yield _event(kind, {**at, field_name: item[field_name]})
    sent.item = item
    yield _event("output_item.done", {"output_index": index, "item": item})


def _event(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
