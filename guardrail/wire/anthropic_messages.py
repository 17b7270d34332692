"""Anthropic Messages: requests, whole answers, refusals.

Written from https://docs.anthropic.com/en/api/messages and its pages on tools, thinking,
citations and errors.
"""

from __future__ import annotations

from typing import Any

from guardrail.errors import WireError
from guardrail.types import ChannelKind, Frame, Role
from guardrail.wire.anthropic_stream import MESSAGE, AnthropicStream, read_block, stop_details
from guardrail.wire.base import SIDE, Notice, RefusalStyle, Reply, WireRequest
from guardrail.wire.channels import OTHER, Reading, whole_frame
from guardrail.wire.json import (
    dump,
    is_coded,
    is_plain,
    optional,
    parse_object,
    strict_keys,
    strings,
)
from guardrail.wire.openai_common import json_reply, kept, model_of, stream_reply
from guardrail.wire.parts import spoken
from guardrail.wire.segments import SegmentList, read_body, request_of

__all__ = ["AnthropicMessages"]

_FIELDS = frozenset({"messages", "model", "stream", "system", "tools", "output_config"})
_SETTINGS = _FIELDS | {
    "anthropic_version", "betas", "cache_control", "container", "context_management",
    "inference_geo", "max_tokens", "mcp_servers", "metadata", "service_tier", "stop_sequences",
    "temperature", "thinking", "tool_choice", "top_k", "top_p",
}  # fmt: skip
_MESSAGE = frozenset({"role", "content"})
_BLOCK = frozenset({"type", "text", "thinking", "input", "content", "source", "title", "context"})
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_LABELS = (
    "type", "id", "tool_use_id", "name", "signature", "encrypted_content", "encrypted_index",
    "media_type", "url", "file_id", "page_age", "data",
)  # fmt: skip
_MEDIA = frozenset(
    {"image", "container_upload", "redacted_thinking", "audio", "video", "base64", "url", "file"}
)  # blocks, and sources that are not text in the request

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicMessages:
    """``/v1/messages``."""

    name = "anthropic.messages"
    paths = ("/v1/messages",)

    def read_request(self, body: bytes) -> WireRequest:
        """Read a request body; see `Wire.read_request`."""
        return request_of(body, read_body(body, _FIELDS), _read)

    def read_response(self, body: bytes) -> Frame:
        """Read a whole answer; see `Wire.read_response`."""
        payload = parse_object(body, what="answer", unique=False)
        reading = Reading()
        reading.check(payload, MESSAGE)
        reading.side(0, ChannelKind.TEXT, payload.get("error"), OTHER)
        content = payload.get("content")
        blocks = content if isinstance(content, list) else []
        reading.opaque = reading.opaque or not isinstance(content, list | None)
        for index, block in enumerate(blocks):
            read_block(index, block, reading)
        return whole_frame(body, reading, payload)

    def open_stream(self, request: WireRequest) -> AnthropicStream:
        """Return the decoder for a streamed answer."""
        return AnthropicStream(request)

    def input_refusal(self, request: WireRequest | None, notice: Notice) -> Reply:
        """Return the answer to a refused request; see `Wire.input_refusal`."""
        if notice.style is not RefusalStyle.MESSAGE_200:
            return self.error(notice.style.status, notice.message, type="")
        if request is not None and request.stream:
            return stream_reply(AnthropicStream(request).refusal(notice))
        return json_reply(_refused({}, request, notice))

    def output_refusal(self, request: WireRequest, body: bytes, notice: Notice) -> Reply:
        """Return the answer in place of a refused one; see `Wire.output_refusal`."""
        return json_reply(_refused(kept(body, ("id", "model", "usage")), request, notice))

    def error(
        self,
        status: int,
        message: str,
        *,
        type: str,  # noqa: A002  (the field's name in the dialect)
        code: str | None = None,  # noqa: ARG002  (the dialect has no such field)
        param: str | None = None,
    ) -> Reply:
        """Return an error in Anthropic's shape, with a type that the dialect knows."""
        fallback = _ERROR_TYPES.get(status, "api_error" if status >= 500 else _ERROR_TYPES[400])
        kind = type if type in _ERROR_TYPES.values() else fallback
        text = f"{param}: {message}" if param and param not in message else message
        error = {"type": "error", "error": {"type": kind, "message": text}}
        return Reply(status, dump(error))


def _refused(fields: dict[str, Any], request: WireRequest | None, notice: Notice) -> dict[str, Any]:
    return {
        "id": f"msg_{notice.request_id}",
        "type": "message",
        "role": "assistant",
        "model": model_of(request),
        "usage": {"input_tokens": 0, "output_tokens": 0},
        **fields,
        "content": [{"type": "text", "text": notice.message}],
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": stop_details(notice),
    }


def _read(payload: dict[str, Any], out: SegmentList) -> None:
    messages = optional(payload, "messages", list)
    if not messages:
        raise WireError("messages must be a list with at least one message", param="messages")
    _content(payload.get("system"), "system", Role.SYSTEM, -1, out)
    for place, message in enumerate(messages):
        path = f"messages[{place}]"
        if not isinstance(message, dict):
            raise WireError(f"{path} must be an object", param=path)
        strict_keys(message, _MESSAGE, path)
        word = message.get("role")
        if not isinstance(word, str):
            raise WireError(f"{path}.role must be a string", param=f"{path}.role")
        role = _ROLES.get(word, Role.TEXT)
        turn = out.turn(role)
        _content(message.get("content"), f"{path}.content", role, turn, out)
        out.unknown(message, _MESSAGE, role, turn=turn)
    for field in ("tools", "output_config"):
        out.definitions(payload.get(field), field)
    out.unknown(payload, _SETTINGS, Role.TEXT)


def _content(value: object, path: str, role: Role, turn: int, out: SegmentList) -> None:
    if value is None:
        return
    if isinstance(value, str):
        out.add(value, role, turn=turn)
        return
    if not isinstance(value, list):
        raise WireError(f"{path} must be a string or a list of blocks", param=path)
    for place, block in enumerate(value):
        where = f"{path}[{place}]"
        if not isinstance(block, dict):
            raise WireError(f"{where} must be an object", param=where)
        strict_keys(block, _BLOCK, where)
        _block(block, where, role, turn, place, out)


def _block(
    block: dict[str, Any], path: str, role: Role, turn: int, place: int, out: SegmentList
) -> None:
    kind = optional(block, "type", str, path)
    if kind == "text":
        out.add(optional(block, "text", str, path) or "", role, turn=turn, sub=place)
    elif kind == "thinking":
        text = optional(block, "thinking", str, path) or ""
        out.add(text, role, ChannelKind.REASONING, turn=turn, sub=place)
    elif kind in _CALLS:
        value = block.get("input")
        text = dump(value).decode() if value else ""
        out.add(text, role, ChannelKind.TOOL_ARGUMENTS, turn=turn, sub=place)
    elif kind in _MEDIA:
        out.skip(path, kind)
    else:
        own = role if kind == "document" else Role.TOOL
        _nested(block, path, own, turn, place, out)
        return
    said = "input" if kind in _CALLS else kind
    for text in _beside({k: v for k, v in block.items() if k != said or kind in _MEDIA}):
        out.add(text, role, turn=turn, sub=SIDE)


def _beside(rest: dict[str, Any]) -> list[str]:
    """Return the sentences beside what a block is for: some server may print them.

    Names and ids that are plain words are settings, and so are media in a coded form.
    """
    return [text for text in spoken(rest)[0] if not is_plain(text)]


def _nested(value: object, path: str, role: Role, turn: int, place: int, out: SegmentList) -> None:
    """Add what a tool result, document or search result holds, nested blocks included."""
    todo: list[tuple[str, object]] = [(path, value)]
    texts: list[str] = []
    while todo:
        where, item = todo.pop()
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, list):
            todo += reversed([(f"{where}[{i}]", child) for i, child in enumerate(item)])
        elif isinstance(item, dict):
            kind = str(item.get("type"))
            if kind in _MEDIA:
                out.skip(where, kind)
                texts += _beside(item)
            else:  # the data of a text source is text; elsewhere it is not
                labels = _LABELS if kind != "text" else _LABELS[:-1]
                fields = [
                    (f"{where}.{k}", list(strings(v)) if k in labels else v)
                    for k, v in item.items()
                    if not (k in labels and isinstance(v, str) and is_coded(v))
                ]
                todo += reversed(fields)
    what = ChannelKind.TOOL_RESULT if role is Role.TOOL else ChannelKind.TEXT
    out.add("\n".join(texts), role, what, turn=turn, sub=place)
