"""What people pass around, as texts to judge: strings, messages, whole request bodies, answers.

Messages and answers of known APIs are read by the same dialects as in the proxy; what is not
known is refused with a word on the adapter to pass, never skipped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from guardrail.types import Channel, ChannelKind, Frame, Role, Segment, Span
from guardrail.wire import WIRES, Wire, WireRequest

__all__ = [
    "EMPTY_REQUEST",
    "Content",
    "answer_frame",
    "answer_segments",
    "as_plain",
    "dialect_of",
    "dump_plain",
    "read_content",
    "request_body",
]

_ANTHROPIC_PARTS: Final = frozenset(
    {"tool_use", "tool_result", "server_tool_use", "thinking", "redacted_thinking", "document"}
)
_LANGCHAIN_ROLES: Final = {
    "human": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "function",
}
_HINT: Final = "pass a string, OpenAI-style messages or Segments, or give an adapter"


class Content(NamedTuple):
    """What is about to be sent to a model, read.

    Args:
        segments: The texts in order.
        prompt: The last user turn, which is context for judging the answer.
        opaque: Whether there is text in it that cannot be read, such as token numbers.
    """

    segments: tuple[Segment, ...]
    prompt: str | None = None
    opaque: bool = False


def read_content(content: object) -> Content:
    """Read what is about to be sent to a model.

    Args:
        content: A string (what a user says), a list of messages (dicts or objects of the
            OpenAI, Anthropic and LangChain packages), a request body as a dict, one `Segment`,
            or a list of strings or of segments.

    Returns:
        Its texts.

    Raises:
        TypeError: None of these.
        WireError: Messages that are not what their API says.
    """
    if isinstance(content, str):
        return Content((Segment(content, Role.USER, turn=0),), content or None)
    if isinstance(content, Segment):
        prompt = content.text if content.role is Role.USER else content.prompt
        return Content((content,), prompt)
    if isinstance(content, Mapping):
        return _read_body(as_plain(content))
    if isinstance(content, Sequence) and not isinstance(content, bytes | bytearray):
        return _read_list(content)
    if hasattr(content, "to_messages"):  # a LangChain prompt value
        return _read_list(content.to_messages())
    raise TypeError(f"cannot judge a {type(content).__name__}: {_HINT}")


def _read_list(items: Sequence[object]) -> Content:
    if not items:
        return Content(())
    if all(isinstance(item, Segment) for item in items):
        segments = tuple(item for item in items if isinstance(item, Segment))
        said = [s.text for s in segments if s.role is Role.USER]
        return Content(segments, said[-1] if said else None)
    if all(isinstance(item, str) for item in items):
        return Content(tuple(Segment(str(item), Role.USER) for item in items))
    return _read_body({"messages": [_message(item) for item in items]})


def _read_body(body: Any) -> Content:
    if "role" in body:
        body = {"messages": [body]}
    wire = _request_dialect(body)
    if wire is None:
        raise TypeError(f"cannot judge a mapping without messages, input or prompt: {_HINT}")
    request = wire.read_request(dump_plain(body))
    return Content(request.segments, request.prompt, request.opaque)


def _request_dialect(body: Mapping[str, Any]) -> Wire | None:
    messages = body.get("messages")
    if messages is not None:
        if "system" in body or any(_is_anthropic(m) for m in messages):
            return WIRES["anthropic.messages"]
        return WIRES["openai.chat"]
    if "input" in body:
        return WIRES["openai.responses"]
    return WIRES["openai.completions"] if "prompt" in body else None


def _is_anthropic(message: object) -> bool:
    content = message.get("content") if isinstance(message, Mapping) else None
    return isinstance(content, list) and any(
        isinstance(part, Mapping) and str(part.get("type")) in _ANTHROPIC_PARTS for part in content
    )


def _message(item: object) -> Any:
    """Return one message as a dict in OpenAI's shape."""
    if isinstance(item, str):
        return {"role": "user", "content": item}
    if isinstance(item, tuple) and len(item) == 2:  # LangChain's ("human", "text")
        return {"role": _LANGCHAIN_ROLES.get(item[0], item[0]), "content": item[1]}
    kind = getattr(item, "type", None)
    if hasattr(item, "content") and isinstance(kind, str) and kind in _LANGCHAIN_ROLES:
        return _from_langchain(item, kind)
    plain = as_plain(item)
    if not isinstance(plain, dict):
        raise TypeError(f"cannot judge a {type(item).__name__} among messages: {_HINT}")
    return plain


def _from_langchain(item: Any, kind: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": _LANGCHAIN_ROLES[kind], "content": as_plain(item.content)}
    calls = [
        {"type": "function", "function": {"name": call["name"], "arguments": call["args"]}}
        for field in ("tool_calls", "invalid_tool_calls")  # invalid: no JSON, sent all the same
        for call in getattr(item, field, None) or ()
    ]
    return {**message, "tool_calls": as_plain(calls)} if calls else message


def as_plain(value: object) -> Any:
    """Return a value as JSON types; models of pydantic and dataclasses become dicts."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_plain(child) for child in value]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return as_plain(dump(exclude_none=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_plain(dataclasses.asdict(value))
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        raise TypeError(f"cannot judge a {type(value).__name__} without using it up: {_HINT}")
    return str(value)


def dump_plain(value: object) -> bytes:
    """Return plain data as JSON bytes; lone surrogates are escaped, as peers send them."""
    return json.dumps(value, separators=(",", ":")).encode()


def request_body(data: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Return the fields of a request that carry text, out of a mapping that has more.

    Args:
        data: Keyword arguments, or a framework's request with fields of its own.
        fields: Fields of the dialect.
    """
    return {key: as_plain(data[key]) for key in fields if data.get(key) is not None}


def answer_frame(result: object) -> Frame:
    """Read a whole answer.

    Args:
        result: A string, None, a message, an answer of the OpenAI or Anthropic packages (or the
            same as a dict), a LangChain message, or a list of these.

    Returns:
        One frame in which every channel ends.

    Raises:
        TypeError: None of these.
    """
    if result is None or isinstance(result, str):
        return _text_frame([result or ""])
    if isinstance(result, list):
        frames = [answer_frame(item) for item in result]
        texts = [span.text for frame in frames for span in frame.spans]
        return _text_frame(texts, opaque=any(frame.opaque for frame in frames))
    kind = getattr(result, "type", None)
    if hasattr(result, "content") and isinstance(kind, str) and kind in _LANGCHAIN_ROLES:
        plain: Any = _from_langchain(result, kind)
    else:
        plain = as_plain(result)
    if isinstance(plain, dict):
        if (wire := dialect_of(plain)) is not None:
            return wire.read_response(dump_plain(plain))
        if isinstance(plain.get("role"), str):
            body = {"choices": [{"index": 0, "message": {**plain, "role": "assistant"}}]}
            return WIRES["openai.chat"].read_response(dump_plain(body))
    raise TypeError(
        f"cannot judge an answer of type {type(result).__name__}: pass output= a function that "
        "returns its text, or False"
    )


def _text_frame(texts: Sequence[str], *, opaque: bool = False) -> Frame:
    spans = tuple(
        Span(Channel(place, ChannelKind.TEXT), text) for place, text in enumerate(texts) if text
    )
    return Frame(b"", spans, tuple(span.channel for span in spans), opaque=opaque)


def dialect_of(answer: Mapping[str, Any]) -> Wire | None:
    """Return the dialect of a whole answer, a chunk or an event, by its shape.

    Args:
        answer: The decoded JSON.
    """
    kind, what = answer.get("type"), answer.get("object")
    if what == "text_completion":
        return WIRES["openai.completions"]
    if isinstance(answer.get("choices"), list):
        return WIRES["openai.chat"]
    if what == "response" or (isinstance(kind, str) and kind.startswith("response.")):
        return WIRES["openai.responses"]
    if isinstance(kind, str) and (("role" in answer and kind == "message") or kind in _EVENTS):
        return WIRES["anthropic.messages"]
    return None


_EVENTS: Final = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
    }
)

EMPTY_REQUEST: Final = WireRequest(raw=b"{}", payload={})
"""Stands for a request that nobody read: an answer's own fields are then all that is known."""


def answer_segments(frame: Frame, prompt: str | None) -> list[Segment]:
    """Return the texts of a whole answer, one for each channel.

    Args:
        frame: The answer as one frame.
        prompt: The user turn before it.
    """
    texts: dict[Any, list[str]] = {}
    for span in frame.spans:
        texts.setdefault(span.channel, []).append(span.text)
    return [
        Segment("".join(parts), Role.ASSISTANT, channel, prompt) for channel, parts in texts.items()
    ]
