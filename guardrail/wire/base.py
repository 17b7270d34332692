"""What every dialect offers: the `Wire` and `WireStream` protocols and their values.

A dialect turns bytes of one API into texts to judge, and a decision to block into bytes that
are valid in that API. It knows neither asyncio nor models nor policies: it is told what to say,
never decides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from guardrail.types import Frame, Segment

__all__ = [
    "EVENT_STREAM",
    "JSON",
    "SIDE",
    "Notice",
    "RefusalStyle",
    "Reply",
    "Wire",
    "WireRequest",
    "WireStream",
]

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"

SIDE = 1 << 20
"""Lowest `Channel.sub` of text that stands beside the main text of its index: citations,
tokens of logprobs that the text does not contain, tool definitions."""


class RefusalStyle(StrEnum):
    """How a refused request is answered."""

    ERROR_400 = "400"
    ERROR_403 = "403"
    MESSAGE_200 = "200"

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return int(self.value)


@dataclass(frozen=True, slots=True)
class Notice:
    """What a client is told about a block.

    Args:
        message: The sentence shown to the user.
        categories: Keys of the categories that decided it.
        request_id: Identity of the request, quoted where the dialect has a place for it.
        style: How a refused request is answered; refused answers keep status 200.
        created: Unix time in seconds for answers that are made from nothing.
    """

    message: str
    categories: tuple[str, ...] = ()
    request_id: str = ""
    style: RefusalStyle = RefusalStyle.ERROR_400
    created: int = 0


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request body, read.

    Args:
        raw: The bytes as they came; they are what is sent on.
        payload: The decoded body.
        segments: Every text in it, in order, whatever its role.
        stream: Whether the client asked for a streamed answer.
        model: The model that it names, if any.
        prompt: Text of the last user turn: context for judging the answer.
        skipped: What could not be scanned, such as ``messages[0].content[1]: image_url``.
        opaque: Whether some of that is text all the same, such as token numbers; the failure
            mode decides on it.
    """

    raw: bytes
    payload: dict[str, Any]
    segments: tuple[Segment, ...] = ()
    stream: bool = False
    model: str | None = None
    prompt: str | None = None
    skipped: tuple[str, ...] = ()
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer.

    Args:
        status: HTTP status code.
        body: The body.
        content_type: Value of the content-type header.
    """

    status: int
    body: bytes
    content_type: str = JSON


class WireStream(Protocol):
    """One streamed answer of one request."""

    def feed(self, data: bytes) -> list[Frame]:
        """Decode bytes from upstream, cut anywhere.

        Args:
            data: The next bytes.

        Returns:
            The frames that they complete. Joined, the raw bytes of all frames are the input.

        Raises:
            WireError: One event is larger than the bound, or the answer has too many channels.
        """
        ...

    def flush(self) -> list[Frame]:
        """Return what is left once upstream has closed.

        Returns:
            A last frame that only lacked its blank line, which is then added to ``raw``; or
            one that was cut, which is opaque and must not be forwarded.
        """
        ...

    def sent(self, frame: Frame) -> None:
        """Take note that a frame was written to the client, so that closing frames fit.

        Args:
            frame: A frame that this stream produced.
        """
        ...

    def complete(self) -> bool:
        """Return whether the dialect's terminal frame has been read."""
        ...

    def refusal(self, notice: Notice) -> bytes:
        """Return the bytes that end the stream as blocked, after what was sent.

        Args:
            notice: What the client is told.

        Returns:
            Closing frames: open blocks closed, the dialect's word for a filtered answer, usage
            where it is known, and the dialect's end mark. Valid even if nothing was sent.
        """
        ...

    def failure(self, message: str) -> bytes:
        """Return the bytes that end the stream because upstream broke off.

        Args:
            message: What happened, in words fit for the client.

        Returns:
            Closing frames with the dialect's form of an error.
        """
        ...

    def event(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Return an event of the dialect without content that carries ``data``.

        Clients that only read content skip it; those that look find ``data`` under ``name``.

        Args:
            name: The field that holds the data.
            data: Anything that JSON can say.

        Returns:
            An SSE event with its blank line.
        """
        ...

    def extra(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Return a comment line that clients ignore and tools can read.

        Args:
            name: First word of the comment.
            data: Written as JSON on the same line.

        Returns:
            An SSE comment with its blank line.
        """
        ...


class Wire(Protocol):
    """One API dialect."""

    @property
    def name(self) -> str:
        """Key in `WIRES`."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """HTTP paths that speak this dialect."""
        ...

    def read_request(self, body: bytes) -> WireRequest:
        """Read a request body.

        Args:
            body: The bytes as they came.

        Returns:
            The texts in it and what is known about them.

        Raises:
            WireError: The body is not JSON, too large, too deep, has duplicate keys, or a field
                that we read has the wrong type. ``param`` names the field.
        """
        ...

    def read_response(self, body: bytes) -> Frame:
        """Read a whole answer.

        Args:
            body: The bytes as they came.

        Returns:
            One frame with every text in it; all its channels end.

        Raises:
            WireError: The body is not a JSON object.
        """
        ...

    def open_stream(self, request: WireRequest) -> WireStream:
        """Return the decoder for the streamed answer to ``request``."""
        ...

    def input_refusal(self, request: WireRequest | None, notice: Notice) -> Reply:
        """Return the answer to a request that is refused.

        Args:
            request: The request, or None where it could not be read.
            notice: What the client is told and in which style.

        Returns:
            An error in the dialect's shape, or a refusal message, streamed if the client asked
            for a stream.
        """
        ...

    def output_refusal(self, request: WireRequest, body: bytes, notice: Notice) -> Reply:
        """Return the answer that stands in for a whole answer that is refused.

        Args:
            request: The request.
            body: Upstream's answer; its id, model and usage are kept.
            notice: What the client is told.

        Returns:
            A status 200 answer with the notice for text and no tool calls; an error where the
            body is no answer of its own, such as a list of kept ones.
        """
        ...

    def error(
        self,
        status: int,
        message: str,
        *,
        type: str,  # noqa: A002  (the field's name in every dialect)
        code: str | None = None,
        param: str | None = None,
    ) -> Reply:
        """Return any other error in the dialect's shape.

        Args:
            status: HTTP status code.
            message: What is wrong, in words fit for the client.
            type: The dialect's error type.
            code: A stable word for programs, where the dialect has one.
            param: The field at fault, where the dialect has one.

        Returns:
            The error.
        """
        ...
