"""Requests and answers of every dialect with a text planted in any channel.

`STREAMS`, `WHOLES` and `REQUESTS` are keyed by (dialect, channel kind); `NONE`, `NO_STREAM` and
`NO_INPUT` name the cells that a dialect does not have. `test_matrix.py` fails where a cell is in
neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from guardrail.types import ChannelKind

TEXT, REASONING, REFUSAL = ChannelKind.TEXT, ChannelKind.REASONING, ChannelKind.REFUSAL
ARGS, RESULT = ChannelKind.TOOL_ARGUMENTS, ChannelKind.TOOL_RESULT

CHAT, COMPLETIONS, RESPONSES = "openai.chat", "openai.completions", "openai.responses"
EMBEDDINGS, MESSAGES = "openai.embeddings", "anthropic.messages"
CONVERSATIONS = "openai.conversations"

PATHS = {
    CHAT: "/v1/chat/completions",
    COMPLETIONS: "/v1/completions",
    RESPONSES: "/v1/responses",
    EMBEDDINGS: "/v1/embeddings",
    MESSAGES: "/v1/messages",
    CONVERSATIONS: "/v1/conversations/conv_1/items",
}

Stream = Callable[[Sequence[str]], list[bytes]]
Whole = Callable[[str], dict[str, Any]]


def sse(payload: object, event: str | None = None) -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(payload)}\n\n".encode()


# --- OpenAI chat -------------------------------------------------------------------------


def _chat_chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return sse({**head, "choices": [choice]})


def chat_stream(field: str) -> Stream:
    def make(pieces: Sequence[str]) -> list[bytes]:
        first = _chat_chunk({"role": "assistant", "content": None})
        body = [_chat_chunk({field: piece}) for piece in pieces]
        return [first, *body, _chat_chunk({}, "stop"), b"data: [DONE]\n\n"]

    return make


def chat_tool_stream(pieces: Sequence[str]) -> list[bytes]:
    function = {"name": "send", "arguments": ""}
    call = {"index": 0, "id": "t", "type": "function", "function": function}
    opened = _chat_chunk({"role": "assistant", "content": None, "tool_calls": [call]})
    body = [
        _chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        for piece in pieces
    ]
    return [opened, *body, _chat_chunk({}, "tool_calls"), b"data: [DONE]\n\n"]


def chat_whole(message: Callable[[str], dict[str, Any]]) -> Whole:
    def make(text: str) -> dict[str, Any]:
        body = {"role": "assistant", "content": None, **message(text)}
        choice = {"index": 0, "message": body, "finish_reason": "stop"}
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        return {**head, "choices": [choice]}

    return make


def chat_call(arguments: str) -> dict[str, Any]:
    function = {"name": "send", "arguments": arguments}
    return {"tool_calls": [{"id": "t", "type": "function", "function": function}]}


# --- OpenAI completions ----------------------------------------------------------------------


def completions_stream(pieces: Sequence[str]) -> list[bytes]:
    def chunk(text: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        head = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
        return sse({**head, "choices": [choice]})

    return [*(chunk(p) for p in pieces), chunk("", "stop"), b"data: [DONE]\n\n"]


def completions_whole(text: str) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
    head = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice]}


# --- OpenAI responses ------------------------------------------------------------------------


def _part(kind: ChannelKind, text: str) -> dict[str, Any]:
    if kind is REFUSAL:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": []}


def _item(kind: ChannelKind, text: str, status: str = "completed") -> dict[str, Any]:
    if kind is ARGS:
        return {
            "type": "function_call",
            "id": "i",
            "call_id": "t",
            "name": "send",
            "arguments": text,
            "status": status,
        }
    if kind is REASONING:
        parts = [{"type": "summary_text", "text": text}] if text else []
        return {"type": "reasoning", "id": "i", "summary": parts}
    content = [_part(kind, text)] if text else []
    return {
        "type": "message",
        "id": "i",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _response(items: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "output": items,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


_RESPONSE_EVENTS = {
    TEXT: ("response.output_text", "text"),
    REFUSAL: ("response.refusal", "refusal"),
    ARGS: ("response.function_call_arguments", "arguments"),
    REASONING: ("response.reasoning_summary_text", "text"),
}


def responses_stream(kind: ChannelKind) -> Stream:
    name, field = _RESPONSE_EVENTS[kind]
    place: dict[str, Any] = {"item_id": "i", "output_index": 0}
    part_place = dict(place)
    if kind in (TEXT, REFUSAL):
        part_place["content_index"] = 0
    elif kind is REASONING:
        part_place["summary_index"] = 0

    def make(pieces: Sequence[str]) -> list[bytes]:
        text = "".join(pieces)
        events: list[tuple[str, dict[str, Any]]] = [
            ("response.created", {"response": _response([], "in_progress")}),
            (
                "response.output_item.added",
                {"output_index": 0, "item": _item(kind, "", "in_progress")},
            ),
        ]
        if kind in (TEXT, REFUSAL):
            part = _part(kind, "")
            events.append(("response.content_part.added", {**part_place, "part": part}))
        events += [(f"{name}.delta", {**part_place, "delta": piece}) for piece in pieces]
        events.append((f"{name}.done", {**part_place, field: text}))
        if kind in (TEXT, REFUSAL):
            part = _part(kind, text)
            events.append(("response.content_part.done", {**part_place, "part": part}))
        item = _item(kind, text)
        events += [
            ("response.output_item.done", {"output_index": 0, "item": item}),
            ("response.completed", {"response": _response([item], "completed")}),
        ]
        return [
            sse({"type": event, "sequence_number": n, **body}, event)
            for n, (event, body) in enumerate(events)
        ]

    return make


def responses_whole(kind: ChannelKind) -> Whole:
    return lambda text: _response([_item(kind, text)], "completed")


# --- OpenAI conversations --------------------------------------------------------------------


def conversations_whole(kind: ChannelKind) -> Whole:
    listed = {"object": "list", "first_id": "i", "last_id": "i", "has_more": False}
    return lambda text: {**listed, "data": [_item(kind, text)]}


def conversations_request(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": [{"type": "message", **USER}, *items]}


# --- Anthropic messages ----------------------------------------------------------------------

_BLOCKS: dict[ChannelKind, tuple[dict[str, Any], str, str]] = {
    TEXT: ({"type": "text", "text": ""}, "text_delta", "text"),
    REASONING: (
        {"type": "thinking", "thinking": "", "signature": ""},
        "thinking_delta",
        "thinking",
    ),
    ARGS: (
        {"type": "tool_use", "id": "t", "name": "send", "input": {}},
        "input_json_delta",
        "partial_json",
    ),
}


def _message(content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def messages_stream(kind: ChannelKind) -> Stream:
    block, delta, field = _BLOCKS[kind]

    def make(pieces: Sequence[str]) -> list[bytes]:
        events: list[tuple[str, dict[str, Any]]] = [
            ("message_start", {"message": _message([], None)}),
            ("content_block_start", {"index": 0, "content_block": block}),
        ]
        events += [
            ("content_block_delta", {"index": 0, "delta": {"type": delta, field: piece}})
            for piece in pieces
        ]
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        events += [
            ("content_block_stop", {"index": 0}),
            ("message_delta", {"delta": stop, "usage": {"output_tokens": 5}}),
            ("message_stop", {}),
        ]
        return [sse({"type": event, **body}, event) for event, body in events]

    return make


def messages_whole(kind: ChannelKind) -> Whole:
    def make(text: str) -> dict[str, Any]:
        block = dict(_BLOCKS[kind][0])
        if kind is ARGS:
            block["input"] = {"body": text}
        else:
            block[_BLOCKS[kind][2]] = text
        return _message([block], "end_turn")

    return make


STREAMS: dict[tuple[str, ChannelKind], Stream] = {
    (CHAT, TEXT): chat_stream("content"),
    (CHAT, REASONING): chat_stream("reasoning_content"),
    (CHAT, REFUSAL): chat_stream("refusal"),
    (CHAT, ARGS): chat_tool_stream,
    (COMPLETIONS, TEXT): completions_stream,
    **{(RESPONSES, kind): responses_stream(kind) for kind in _RESPONSE_EVENTS},
    **{(MESSAGES, kind): messages_stream(kind) for kind in _BLOCKS},
}

WHOLES: dict[tuple[str, ChannelKind], Whole] = {
    (CHAT, TEXT): chat_whole(lambda text: {"content": text}),
    (CHAT, REASONING): chat_whole(lambda text: {"reasoning_content": text}),
    (CHAT, REFUSAL): chat_whole(lambda text: {"refusal": text}),
    (CHAT, ARGS): chat_whole(chat_call),
    (COMPLETIONS, TEXT): completions_whole,
    **{(RESPONSES, kind): responses_whole(kind) for kind in _RESPONSE_EVENTS},
    **{(CONVERSATIONS, kind): conversations_whole(kind) for kind in _RESPONSE_EVENTS},
    **{(MESSAGES, kind): messages_whole(kind) for kind in _BLOCKS},
}

NONE = {
    *((COMPLETIONS, kind) for kind in (REASONING, REFUSAL, ARGS)),
    *((EMBEDDINGS, kind) for kind in (TEXT, REASONING, REFUSAL, ARGS)),
    (MESSAGES, REFUSAL),
}
"""Channels of an answer that a dialect does not have."""

NO_STREAM = {(CONVERSATIONS, kind) for kind in (TEXT, REASONING, REFUSAL, ARGS)}
"""Channels that a dialect has in whole answers only."""


# --- requests ----------------------------------------------------------------------------------


def chat_request(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages)}


def messages_request(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": list(messages)}


USER = {"role": "user", "content": "hi"}


def chat_history(**assistant: Any) -> dict[str, Any]:
    return chat_request(USER, {"role": "assistant", "content": None, **assistant})


REQUESTS: dict[tuple[str, ChannelKind], Whole] = {
    (CHAT, TEXT): lambda t: chat_request({"role": "user", "content": t}),
    (CHAT, REFUSAL): lambda t: chat_history(refusal=t),
    (CHAT, REASONING): lambda t: chat_history(content="a", reasoning_content=t),
    (CHAT, ARGS): lambda t: chat_history(**chat_call(t)),
    (CHAT, RESULT): lambda t: chat_request(
        USER,
        {"role": "assistant", "content": None, **chat_call("{}")},
        {"role": "tool", "tool_call_id": "t", "content": t},
    ),
    (COMPLETIONS, TEXT): lambda t: {"model": "m", "prompt": t},
    (EMBEDDINGS, TEXT): lambda t: {"model": "m", "input": ["a", t]},
    (RESPONSES, TEXT): lambda t: {"model": "m", "input": t},
    (RESPONSES, REFUSAL): lambda t: {"model": "m", "input": [USER, _item(REFUSAL, t)]},
    (RESPONSES, REASONING): lambda t: {"model": "m", "input": [USER, _item(REASONING, t)]},
    (RESPONSES, ARGS): lambda t: {"model": "m", "input": [USER, _item(ARGS, t)]},
    (RESPONSES, RESULT): lambda t: {
        "model": "m",
        "input": [
            USER,
            _item(ARGS, "{}"),
            {"type": "function_call_output", "call_id": "t", "output": t},
        ],
    },
    **{
        (CONVERSATIONS, kind): lambda t, kind=kind: conversations_request(_item(kind, t))
        for kind in (TEXT, REFUSAL, REASONING, ARGS)
    },
    (CONVERSATIONS, RESULT): lambda t: conversations_request(
        _item(ARGS, "{}"), {"type": "function_call_output", "call_id": "t", "output": t}
    ),
    (MESSAGES, TEXT): lambda t: messages_request({"role": "user", "content": t}),
    (MESSAGES, REASONING): lambda t: messages_request(
        USER,
        {"role": "assistant", "content": [{"type": "thinking", "thinking": t, "signature": "s"}]},
    ),
    (MESSAGES, ARGS): lambda t: messages_request(
        USER,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"body": t}}],
        },
    ),
    (MESSAGES, RESULT): lambda t: messages_request(
        USER,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": t}],
        },
    ),
}

NO_INPUT = {
    *((COMPLETIONS, kind) for kind in (REASONING, REFUSAL, ARGS, RESULT)),
    *((EMBEDDINGS, kind) for kind in (REASONING, REFUSAL, ARGS, RESULT)),
    (MESSAGES, REFUSAL),
}
"""Channels of a request that a dialect does not have."""
