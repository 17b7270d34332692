"""OpenAI Responses: requests, whole answers, refusals.

Written from https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

from typing import Any

from guardrail.errors import WireError
from guardrail.types import ChannelKind, Frame, Role
from guardrail.wire.base import SIDE, Notice, RefusalStyle, Reply, WireRequest
from guardrail.wire.channels import Reading, whole_frame
from guardrail.wire.json import is_coded, is_plain, optional, parse_object, strict_keys, strings
from guardrail.wire.openai_common import (
    ENVELOPE,
    OpenAIErrors,
    json_reply,
    kept,
    listed,
    refusal_error,
    refused_other,
    stream_reply,
)
from guardrail.wire.parts import read_parts, spoken
from guardrail.wire.responses_closing import response_object
from guardrail.wire.responses_stream import ResponsesStream, read_item, read_response_object
from guardrail.wire.segments import SegmentList, read_body, request_of

__all__ = ["OpenAIResponses", "read_items"]

_FIELDS = frozenset(
    {"input", "instructions", "model", "stream", "tools", "text", "prompt",
     "previous_response_id", "conversation"}
)  # fmt: skip
_SETTINGS = _FIELDS | {
    "background", "context_management", "frequency_penalty", "include", "max_output_tokens",
    "max_tool_calls", "metadata", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier", "seed",
    "service_tier", "store", "stream_options", "temperature", "tool_choice", "top_logprobs",
    "top_p", "truncation", "user",
}  # fmt: skip
_ITEM = frozenset(
    {"type", "role", "content", "arguments", "input", "output", "summary", "code", "action"}
)
_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
_LABELS = (
    "type", "id", "call_id", "status", "name", "namespace", "server_label", "container_id",
    "file_id", "approval_request_id", "image_url", "file_url", "file_data", "filename", "detail",
    "encrypted_content", "role",
)  # fmt: skip
_INSTEAD = ("prompt", "previous_response_id", "conversation")
"""Fields that can stand for the input."""
_MEDIA = frozenset(
    {"input_image", "input_file", "input_audio", "computer_screenshot", "image_generation_call",
     "item_reference", "compaction"}
)  # fmt: skip
_OWN = frozenset(
    {"reasoning", "apply_patch_call", "code_interpreter_call", "computer_call", "custom_tool_call",
     "file_search_call", "function_call", "local_shell_call", "mcp_approval_request", "mcp_call",
     "mcp_list_tools", "shell_call", "tool_search_call", "web_search_call"}
)  # fmt: skip
_RESULT = ("_output", "_result", "_response")


class OpenAIResponses(OpenAIErrors):
    """``/v1/responses``."""

    name = "openai.responses"
    paths = ("/v1/responses",)

    def read_request(self, body: bytes) -> WireRequest:
        """Read a request body; see `Wire.read_request`."""
        return request_of(body, read_body(body, _FIELDS), _read)

    def read_response(self, body: bytes) -> Frame:
        """Read a whole answer; see `Wire.read_response`."""
        payload = parse_object(body, what="answer", unique=False)
        reading = Reading()
        items = listed(payload, reading)
        if isinstance(payload.get("type"), str) and "object" not in payload:
            items = [payload]  # one that is fetched by itself
        for index, item in enumerate(items or ()):
            read_item(index, item, reading)
        if items is None:
            read_response_object(payload, reading)
        return whole_frame(body, reading, payload)

    def open_stream(self, request: WireRequest) -> ResponsesStream:
        """Return the decoder for a streamed answer."""
        return ResponsesStream(request)

    def input_refusal(self, request: WireRequest | None, notice: Notice) -> Reply:
        """Return the answer to a refused request; see `Wire.input_refusal`."""
        if notice.style is not RefusalStyle.MESSAGE_200:
            return refusal_error(notice, "input")
        if request is not None and request.stream:
            return stream_reply(ResponsesStream(request).refusal(notice))
        return json_reply(_refused({}, request, notice))

    def output_refusal(self, request: WireRequest, body: bytes, notice: Notice) -> Reply:
        """Return the answer in place of a refused one; see `Wire.output_refusal`."""
        if refusal := refused_other(body, notice):
            return refusal
        fields = kept(body, (*ENVELOPE, "created_at", "usage", "previous_response_id", "tools"))
        return json_reply(_refused(fields, request, notice))


def _refused(fields: dict[str, Any], request: WireRequest | None, notice: Notice) -> dict[str, Any]:
    part = {"type": "output_text", "text": notice.message, "annotations": []}
    item = {
        "id": f"msg_{notice.request_id}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    outcome = {
        "status": "incomplete",
        "incomplete_details": {"reason": "content_filter"},
        "output": [item],
    }
    return response_object(
        {"usage": None, **fields, **outcome},
        id=f"resp_{notice.request_id}",
        created=notice.created,
        model=request.model if request else None,
    )


def _read(payload: dict[str, Any], out: SegmentList) -> None:
    instructions = payload.get("instructions")
    if isinstance(instructions, list):
        read_items(instructions, "instructions", out)
    else:
        out.add(optional(payload, "instructions", str) or "", Role.SYSTEM)
    for field in ("previous_response_id", "conversation"):
        if payload.get(field):
            out.skip(field, "stored_conversation")  # its texts stay with the server
    _template(optional(payload, "prompt", dict), out)
    value = payload.get("input")
    if isinstance(value, str):
        out.add(value, Role.USER, turn=out.turn(Role.USER))
    elif isinstance(value, list):
        read_items(value, "input", out)
    elif value is not None or not any(payload.get(field) for field in _INSTEAD):
        raise WireError("input must be a string or a list of items", param="input")
    out.definitions(payload.get("tools"), "tools")
    out.definitions(payload.get("text"), "text")
    out.unknown(payload, _SETTINGS, Role.TEXT)


def _template(prompt: dict[str, Any] | None, out: SegmentList) -> None:
    """Read a stored prompt: the variables are here, the template stays with the server."""
    if prompt is None:
        return
    out.skip("prompt", "stored_prompt")
    variables = optional(prompt, "variables", dict, "prompt") or {}
    names = [name for name in variables if not is_plain(name)]
    texts, media = spoken([names, *variables.values()])  # a name is the template's, no label
    for text in texts:
        out.add(text, Role.USER, always=True)
    if media:
        out.skip("prompt.variables", "media")


def read_items(items: list[Any], field: str, out: SegmentList) -> None:
    """Add the items of an input or of a conversation.

    Args:
        items: The items.
        field: Name of the field that they stand in, for errors.
        out: Takes the texts.

    Raises:
        WireError: An item, or a field of one, has the wrong type.
    """
    for place, item in enumerate(items):
        path = f"{field}[{place}]"
        if isinstance(item, str):
            out.add(item, Role.USER, turn=out.turn(Role.USER))
            continue
        if not isinstance(item, dict):
            raise WireError(f"{path} must be an object", param=path)
        strict_keys(item, _ITEM, path)
        kind = optional(item, "type", str, path) or "message"
        if kind == "message":
            _message(item, path, out)
        elif kind in _MEDIA:
            out.skip(path, kind)
            _beside(item, kind, out)
        elif isinstance(item.get("role"), str):  # LiteLLM takes every such item for a message
            _message(item, path, out)
        elif kind.endswith(_RESULT):
            _result(item, path, out)
        else:
            _own(item, kind, out)


def _message(item: dict[str, Any], path: str, out: SegmentList) -> None:
    word = item.get("role")
    if not isinstance(word, str):
        raise WireError(f"{path}.role must be a string", param=f"{path}.role")
    role = _ROLES.get(word, Role.TEXT)
    turn = out.turn(role)
    read_parts(item.get("content"), f"{path}.content", role, turn, out)
    own = item.get("id")  # some ids are seals: long, and no words
    label = ("id",) if isinstance(own, str) and is_coded(own) else ()
    out.unknown(item, ("type", "role", "content", *label), role, turn=turn)


def _beside(item: dict[str, Any], kind: str, out: SegmentList) -> None:
    """Add what stands beside media: a server may show it to the model. Plain words are settings."""
    own = kind == "image_generation_call"
    role = Role.ASSISTANT if own else Role.TEXT
    for text in spoken(item)[0]:
        if not is_plain(text):
            out.add(text, role, sub=SIDE, always=not own)


def _result(item: dict[str, Any], path: str, out: SegmentList) -> None:
    """Add the output of a tool: text, parts, or any object with strings."""
    turn = out.turn(Role.TOOL)
    output = item.get("output")
    if isinstance(output, list) and all(isinstance(part, dict) for part in output):
        read_parts(output, f"{path}.output", Role.TOOL, turn, out)
        rest = {key: value for key, value in item.items() if key != "output"}
    else:
        rest = item
    kinds = [output.get("type")] if isinstance(output, dict) else []
    for kind in kinds:
        if isinstance(kind, str) and kind in _MEDIA:
            out.skip(f"{path}.output", kind)
    text = "\n".join(strings(rest, _LABELS))
    out.add(text, Role.TOOL, ChannelKind.TOOL_RESULT, turn=turn, sub=1 << 10)


def _own(item: dict[str, Any], kind: str, out: SegmentList) -> None:
    """Add an item that the assistant made: reasoning, a call, the record of a server tool.

    Who made an item of another kind is not known; LiteLLM takes it for the user's.
    """
    role = Role.ASSISTANT if kind in _OWN else Role.TEXT
    turn = out.turn(role)
    what = ChannelKind.REASONING if kind == "reasoning" else ChannelKind.TOOL_ARGUMENTS
    own = {key: value for key, value in item.items() if key not in ("output", "outputs", "results")}
    text = "\n".join(strings(own, _LABELS))
    out.add(text, role, what if kind in _OWN else ChannelKind.TEXT, turn=turn)
    for field in ("output", "outputs", "results"):  # server tools keep result and call together
        text = "\n".join(strings(item.get(field), _LABELS))
        out.add(text, Role.TOOL, ChannelKind.TOOL_RESULT, turn=turn)
