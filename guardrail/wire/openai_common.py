"""What OpenAI's dialects share: the error shape, the choices of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guardrail.errors import WireError
from guardrail.types import ChannelKind
from guardrail.wire.base import EVENT_STREAM, JSON, Notice, RefusalStyle, Reply, WireRequest
from guardrail.wire.channels import MAX_CHANNELS, Reading
from guardrail.wire.json import dump, optional, parse_object, strings

__all__ = [
    "CHOICE_LIMIT",
    "ENVELOPE",
    "HARMLESS",
    "OpenAIErrors",
    "choice_count",
    "choice_index",
    "error_body",
    "json_reply",
    "kept",
    "listed",
    "model_of",
    "read_logprobs",
    "refusal_error",
    "refused_other",
    "stream_reply",
    "wants_usage",
]

CHOICE_LIMIT = 128
"""The most choices that the API documents for ``n``."""

ENVELOPE = ("id", "created", "model", "system_fingerprint", "service_tier")
"""Fields of an answer that a refusal keeps."""

HARMLESS = frozenset(
    {
        *ENVELOPE,
        "object",
        "usage",
        "error",
        "obfuscation",
        "provider",  # OpenRouter
        "timings",  # llama.cpp
        "x_groq",
        "prompt_filter_results",  # Azure: names and severities
        "prompt_annotations",
        "content_filter_results",
        "moderation",
        "kv_transfer_params",  # vLLM
        "prompt_token_ids",
    }
)
"""Top-level fields of an answer that carry no text of the model."""


def error_body(
    message: str, *, type_: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return OpenAI's error object.

    Args:
        message: What is wrong.
        type_: Error type.
        code: Stable word for programs.
        param: The field at fault.
    """
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


class OpenAIErrors:
    """The `Wire.error` that all of OpenAI's dialects share."""

    def error(
        self,
        status: int,
        message: str,
        *,
        type: str,  # noqa: A002  (the field's name in the dialect)
        code: str | None = None,
        param: str | None = None,
    ) -> Reply:
        """Return an error in OpenAI's shape; see `Wire.error`."""
        return Reply(status, dump(error_body(message, type_=type, code=code, param=param)))


def refusal_error(notice: Notice, param: str) -> Reply:
    """Return the error for a refused request; without a style for errors it is a 400.

    Args:
        notice: What the client is told.
        param: The dialect's main field.
    """
    forbidden = notice.style is RefusalStyle.ERROR_403
    body = error_body(
        notice.message,
        type_="permission_error" if forbidden else "invalid_request_error",
        code="content_filter",
        param=param,
    )
    return Reply(403 if forbidden else 400, dump(body))


def refused_other(body: bytes, notice: Notice) -> Reply | None:
    """Return the error in place of what is no answer of its own; None where it is one.

    A list would be short of its items, and a compacted conversation would go on without what
    was said in it: a client must not take a notice for either.

    Args:
        body: What is refused.
        notice: What the client is told.
    """
    what = kept(body, ("object",)).get("object")
    return refusal_error(notice, "data") if what in _NO_ANSWERS else None


_NO_ANSWERS = ("list", "response.compaction")


def stream_reply(body: bytes) -> Reply:
    """Return a streamed answer with status 200."""
    return Reply(200, body, EVENT_STREAM)


def json_reply(payload: Mapping[str, Any]) -> Reply:
    """Return a whole answer with status 200."""
    return Reply(200, dump(payload), JSON)


def kept(body: bytes, fields: tuple[str, ...]) -> dict[str, Any]:
    """Return some fields of an answer, or nothing if it is not a JSON object."""
    try:
        payload = parse_object(body, what="answer", unique=False)
    except WireError:
        return {}
    return {key: payload[key] for key in fields if key in payload}


def listed(payload: Mapping[str, Any], reading: Reading) -> list[Any] | None:
    """Return the items of a list of what the API keeps, or None where it is no list.

    Args:
        payload: A whole answer.
        reading: Marked opaque where there is more than can be read.
    """
    items = payload.get("data")
    if payload.get("object") != "list" or not isinstance(items, list):
        return None
    reading.check(payload, _LIST)
    reading.opaque = reading.opaque or len(items) > MAX_CHANNELS
    return items[:MAX_CHANNELS]


_LIST = frozenset({"object", "data", "first_id", "last_id", "has_more"})


def model_of(request: WireRequest | None) -> str:
    """Return the model that a request names, or a word for none."""
    return (request.model if request else None) or "unknown"


def choice_count(payload: Mapping[str, Any]) -> int:
    """Return how many choices a request asks for, within `CHOICE_LIMIT`."""
    count = payload.get("n")
    if isinstance(count, bool) or not isinstance(count, int):
        return 1
    return min(max(count, 1), CHOICE_LIMIT)


def wants_usage(payload: Mapping[str, Any]) -> bool:
    """Return whether a request asks for a last chunk with usage.

    Raises:
        WireError: ``stream_options`` is not an object.
    """
    options = optional(payload, "stream_options", dict) or {}
    return options.get("include_usage") is True


def choice_index(choice: Mapping[str, Any], default: int) -> int | None:
    """Return a choice's index, ``default`` if it has none, or None if it is no sane index."""
    index = choice.get("index", default)
    sane = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < CHOICE_LIMIT
    return index if sane else None


def read_logprobs(index: int, value: object, reading: Reading) -> None:
    """Add tokens of logprobs that the text of the same choice does not contain.

    The tokens repeat the text, and text must not be judged twice; but tokens of a text that is
    not there would pass unseen. Alternatives (``top_logprobs``) were not sampled and say
    nothing in a row.

    Args:
        index: Choice index.
        value: The ``logprobs`` field in chat or completion form.
        reading: Has the text of the choice already.
    """
    if not isinstance(value, dict):
        reading.opaque = reading.opaque or any(strings(value))
        return
    for field in ("content", "refusal", "tokens"):
        items = value.get(field)
        tokens = items if isinstance(items, list) else []
        reading.opaque = reading.opaque or (not tokens and any(strings(items)))
        words = [item.get("token") if isinstance(item, dict) else item for item in tokens]
        text = "".join(word for word in words if isinstance(word, str))
        if text.strip():
            reading.beside(index, ChannelKind.TEXT, text)
