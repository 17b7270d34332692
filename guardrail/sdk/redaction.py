"""Redaction of what people pass around: the same shapes with other texts in them.

What is made of plain JSON types, or knows `model_validate`, is rebuilt; anything else that holds
something to redact is refused by a `PolicyError`, never passed on as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from guardrail.errors import PolicyError
from guardrail.policy import Policy
from guardrail.redact import Redactor, Unredactable
from guardrail.sdk.adapters import answer_frame, as_plain, read_content
from guardrail.types import Direction, Frame, Role, Segment
from guardrail.wire import WireRequest
from guardrail.wire.rewrite import edit_body, redact_request

__all__ = ["put_back", "redact_answer", "redact_frame", "redact_input", "refuse_redaction"]

T = TypeVar("T")


def redact_input(policy: Policy, content: T) -> T:
    """Return an input as it may be sent.

    Args:
        policy: The policy in force.
        content: A string, messages, a request body, or segments.

    Returns:
        The same where nothing is redacted.

    Raises:
        PolicyError: It holds something to redact and cannot be rebuilt.
        Unredactable: A place cannot be taken out of it.
    """
    redactor = Redactor.of(policy, Direction.INPUT)
    if redactor is None:
        return content
    if (made := _segments(redactor, content)) is not None:
        return cast("T", made)

    def read(body: bytes) -> WireRequest:
        payload = json.loads(body)
        return WireRequest(body, payload, read_content(payload).segments)

    segments = read_content(content).segments
    request = WireRequest(b"", {}, segments)
    if all(redactor.text(s.text, s.role, s.channel.kind) == s.text for s in segments):
        return content
    plain: Any = _plain(policy, content)
    made_request = redact_request(replace(request, payload=plain), read, redactor.text)
    if made_request is None:
        raise Unredactable
    return cast("T", _rebuilt(content, made_request.payload))


def _segments(redactor: Redactor, content: Any) -> Any | None:
    """Redact a string, a segment, or a list of either; None for anything else."""
    if isinstance(content, str):
        return redactor.text(content, Role.USER)
    if isinstance(content, Segment):
        shown = redactor.text(content.text, content.role, content.channel.kind)
        return content if shown == content.text else replace(content, text=shown)
    if isinstance(content, list | tuple) and all(isinstance(c, str | Segment) for c in content):
        made = [_segments(redactor, item) for item in content]
        same = all(new is old or new == old for new, old in zip(made, content, strict=True))
        return content if same else made
    return None


def redact_answer(policy: Policy, result: T) -> T:
    """Return a whole answer as it may be handed out.

    Args:
        policy: The policy in force.
        result: A string, a message or an answer of a known API.

    Raises:
        PolicyError: It holds something to redact and cannot be rebuilt.
        Unredactable: A place cannot be taken out of it.
    """
    redactor = Redactor.of(policy, Direction.OUTPUT)
    if redactor is None:
        return result
    if isinstance(result, str):
        return redactor.text(result, Role.ASSISTANT)  # type: ignore[return-value]
    frame = answer_frame(result)
    if all(redactor.clean(span.channel, span.text) for span in frame.spans):
        return result
    plain = _plain(policy, result)
    frame = replace(frame, raw=b"", payload=plain)
    edit = edit_body(_read_answer, redactor.clean)
    return cast("T", _rebuilt(result, redactor.frame(frame, edit).payload))


def _read_answer(body: bytes) -> Frame:
    payload = json.loads(body)
    return replace(answer_frame(payload), payload=payload)


def redact_frame(policy: Policy, frame: Frame, read: Callable[[bytes], Frame]) -> Frame:
    """Return a whole answer in the bytes of its API.

    Args:
        policy: The policy in force.
        frame: The answer.
        read: Reads it.

    Raises:
        Unredactable: A place cannot be taken out of it.
    """
    redactor = Redactor.of(policy, Direction.OUTPUT)
    if redactor is None:
        return frame
    return redactor.frame(frame, edit_body(read, redactor.clean))


def refuse_redaction(policy: Policy, framework: str) -> None:
    """Refuse a policy that redacts where texts cannot be changed on their way.

    Args:
        policy: The policy in force.
        framework: Whose plug-in it is.

    Raises:
        PolicyError: It redacts.
    """
    if policy.redacts(Direction.INPUT) or policy.redacts(Direction.OUTPUT):
        raise PolicyError(
            f"{framework} has no place where a text could be changed, so 'action: redact' cannot "
            "be carried out; use 'action: block', or guard the client or the function instead",
            file=policy.file,
        )


def _plain(policy: Policy, value: object) -> Any:
    """Return a value as JSON types, if it can be rebuilt from them."""
    if isinstance(value, list):
        return [_plain(policy, item) for item in value]
    plain = as_plain(value)
    if isinstance(value, Mapping) or hasattr(value, "model_validate") or plain == value:
        return plain
    raise PolicyError(
        f"a {type(value).__name__} holds something to redact and cannot be rebuilt; pass strings, "
        "dicts or messages of the openai and anthropic packages, or use 'action: block'",
        file=policy.file,
    )


def _rebuilt(value: Any, plain: Any) -> Any:
    if isinstance(value, list):
        return [_rebuilt(old, new) for old, new in zip(value, plain, strict=True)]
    make = getattr(type(value), "model_validate", None)
    return make(plain) if make is not None else plain


def put_back(
    args: tuple[Any, ...], kwargs: dict[str, Any], found: object, made: object
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a call's arguments with its redacted input in place of the input.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        found: The input as it was found among them.
        made: The input, redacted.

    Raises:
        PolicyError: The input was computed, so that there is no argument to replace.
    """
    if made is found or made == found:
        return args, kwargs
    held = [arg is found for arg in (*args, *kwargs.values())]
    if not any(held):
        raise PolicyError(
            "the input that 'input=' computes holds something to redact, and is no argument that "
            "could be replaced; name a parameter instead, or use 'action: block'"
        )
    new_args = tuple(made if arg is found else arg for arg in args)
    return new_args, {key: made if arg is found else arg for key, arg in kwargs.items()}
