"""Content parts of requests in OpenAI's dialects: text, media, and what stands beside them.

Servers that stand for many providers (LiteLLM) hand parts on that OpenAI does not know, such as
Anthropic's documents. So every string of a part counts as text that the model reads, but for
labels and for media in a coded form.
"""

from __future__ import annotations

from typing import Any

from guardrail.errors import WireError
from guardrail.types import ChannelKind, Role
from guardrail.wire.json import is_coded, is_plain, strict_keys, strings
from guardrail.wire.segments import SegmentList

__all__ = ["read_parts", "spoken"]

_PART = frozenset({"type", "text", "refusal", "thinking"})
_TEXT_TYPES = frozenset(
    {"text", "input_text", "output_text", "refusal", "thinking", "reasoning_text", "summary_text"}
)
_MEDIA = frozenset(
    {"url", "image_url", "audio_url", "video_url", "file_url", "file_id", "file_data", "data",
     "bytes", "base64", "b64_json", "image", "audio", "video", "image_embeds", "audio_embeds",
     "prompt_embeds", "result"}
)  # fmt: skip
_SEALS = frozenset(
    {"signature", "thought_signature", "encrypted_content", "encrypted_index", "id", "call_id",
     "tool_use_id", "tool_call_id"}
)  # fmt: skip
_LABELS = frozenset(
    {"id", "call_id", "tool_use_id", "tool_call_id", "container_id", "uuid", "name", "filename",
     "role", "status", "detail", "format", "media_type", "mime_type", "source_type", "ttl"}
)  # fmt: skip


def read_parts(value: object, path: str, role: Role, turn: int, out: SegmentList) -> None:
    """Add content: a string, or a list of parts; what is not text is noted as skipped.

    Args:
        value: The field.
        path: Where it stands.
        role: Who speaks.
        turn: Its turn, or -1.
        out: Takes the texts.

    Raises:
        WireError: Neither string nor list nor null, or a part that is neither string nor object.
    """
    kind = ChannelKind.TOOL_RESULT if role is Role.TOOL else ChannelKind.TEXT
    if value is None:
        return
    if isinstance(value, str):
        out.add(value, role, kind, turn=turn)
        return
    if not isinstance(value, list):
        raise WireError(f"{path} must be a string or a list of parts", param=path)
    for place, part in enumerate(value):
        where = f"{path}[{place}]"
        if isinstance(part, str):
            out.add(part, role, kind, turn=turn, sub=place)
            continue
        if not isinstance(part, dict):
            raise WireError(f"{where} must be an object", param=where)
        strict_keys(part, _PART, where)
        read = _part(part, role, kind, turn, place, out)
        if isinstance(part.get("type"), dict | list):  # whatever a server takes it for
            out.skip(where, None, opaque=True)
        elif not read:
            out.skip(where, part.get("type"))


def _part(
    part: dict[str, Any], role: Role, kind: ChannelKind, turn: int, place: int, out: SegmentList
) -> bool:
    """Add the texts of a part; return whether that is all that it holds."""
    rest = {key: value for key, value in part.items() if key != "logprobs"}  # repeat the text
    found = False
    for field, what in (
        ("text", kind),
        ("refusal", ChannelKind.REFUSAL),
        ("thinking", ChannelKind.REASONING),
    ):
        text = part.get(field)
        if isinstance(text, list):  # Mistral nests text parts in a thinking part
            text = "".join(strings(text, ("type",)))
        if isinstance(text, str):
            out.add(text, role, what, turn=turn, sub=place)
            found = True
            del rest[field]
    beside, media = spoken(rest)
    for text in beside:
        out.add(text, role, kind, turn=turn, sub=place)
    return (found and str(part.get("type")) in _TEXT_TYPES) or (bool(beside) and not media)


def spoken(value: object) -> tuple[list[str], bool]:
    """Return the strings of a value that a model may read, in order.

    Types that are strings are left out, and so are labels that are plain words and media in a
    coded form: ASCII without blanks, as URLs and base64 are. Data of a source of type ``text``
    is text.

    Args:
        value: Any decoded JSON; `parse_object` has bounded its depth.

    Returns:
        The strings, and whether media were left out.
    """
    texts: list[str] = []
    return texts, _collect(value, "", texts)


def _collect(value: object, key: str, texts: list[str]) -> bool:
    if isinstance(value, str):
        if key in _MEDIA and is_coded(value):
            return bool(value)
        label = key == "type" or (key in _LABELS and is_plain(value))
        if value and not label and not (key in _SEALS and is_coded(value)):
            texts.append(value)
        return False
    if key == "type" and isinstance(value, dict | list):
        texts += strings(value)
        return False
    media = False
    if isinstance(value, list):
        for child in value:
            media |= _collect(child, key, texts)
    elif isinstance(value, dict):
        is_text = value.get("type") == "text"
        for name, child in value.items():
            if not is_plain(name):
                texts.append(name)
            media |= _collect(child, "text" if is_text and name == "data" else name, texts)
    return media
