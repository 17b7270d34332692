"""What is done about one guarded client's HTTP calls, whichever way they are sent.

Knows the dialects and the HTTP library's response classes, which it is handed; not how to send.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from guardrail.errors import GuardrailBlocked, GuardrailError, WireError
from guardrail.redact import Redactor, Unredactable
from guardrail.sdk.api import Guardrail
from guardrail.sdk.codecs import ByteCodec, Codec
from guardrail.sdk.redaction import redact_frame
from guardrail.sdk.scope import Options
from guardrail.types import Action, Direction, Frame, Verdict
from guardrail.wire import Notice, Reply, Wire, WireRequest, read_error
from guardrail.wire.rewrite import redact_request
from guardrail.wire.routes import Route, route_of

__all__ = ["ERROR", "Call", "Exchange"]

ERROR: Final = "guardrail_error"
"""Key of our exception among the extensions of a response that stands for it. A client would
take an exception from its transport for a lost connection, and try again."""

_FORMS: Final = ("content-length", "content-encoding", "transfer-encoding")
"""Headers about the form of a body that we have decoded."""


@dataclass(frozen=True, slots=True)
class Call:
    """One guarded request: where it goes, in which dialect, and what it says."""

    route: Route
    wire: Wire
    request: WireRequest


class _Ending:
    """How a streamed answer ends, in the client's own terms."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def flagged(self, verdict: Verdict) -> None:
        told = (Action.FLAG, Action.REDACT)
        if self._options.on_flag is not None and verdict.effective in told:
            self._options.on_flag(verdict)

    def blocked(self, verdict: Verdict, codec: Codec[bytes]) -> Iterable[bytes]:
        if self._options.on_block != "message":
            raise GuardrailBlocked(verdict)
        return codec.refusal(self._options.guardrail.notice(verdict))

    def unreadable(self, codec: Codec[bytes]) -> Iterable[bytes]:
        return self.blocked(self._options.guardrail.unreadable(), codec)


class Exchange:
    """What is done about one client's calls; shared by the sync and the async transport.

    Args:
        options: What the guard was told.
        http: The module of the client's HTTP library.
    """

    def __init__(self, options: Options, http: ModuleType) -> None:
        self.options = options
        self.ending = _Ending(options)
        self.http = http

    @property
    def guardrail(self) -> Guardrail:
        """What judges."""
        return self.options.guardrail

    @staticmethod
    def route_of(request: Any) -> Route:
        """Return where a request of the HTTP library goes."""
        path = request.url.raw_path.partition(b"?")[0].decode("ascii")
        length = request.headers.get("content-length", "0")
        body = length != "0" or "transfer-encoding" in request.headers
        return route_of(request.method, path, body=body)

    def is_guarded(self, response: Any) -> bool:
        """Return whether an answer may carry text of the model; errors quote it at times."""
        status = response.status_code
        bare = status in (204, 205) or 300 <= status < 400 or response.request.method == "HEAD"
        return self.guardrail.policy.applies(Direction.OUTPUT) and not bare

    def note(self, verdict: Verdict) -> None:
        """Tell the callback about a verdict that flags."""
        self.ending.flagged(verdict)

    def refusal(self, call: Call, verdict: Verdict, body: bytes | None, request: Any) -> Any:
        """Return the response that stands for a block.

        Args:
            call: The call.
            verdict: Why.
            body: The answer that is blocked, or None where the request is.
            request: The HTTP request.
        """
        if self.options.on_block != "message":
            return self.failure(GuardrailBlocked(verdict), request)
        notice = self.guardrail.notice(verdict)
        reply = _reply(call, notice, body)
        headers = {"content-type": reply.content_type}
        return self.http.Response(
            reply.status, headers=headers, content=reply.body, request=request
        )

    def failure(self, error: GuardrailError, request: Any) -> Any:
        """Return a response that makes the client raise an error of ours.

        Args:
            error: The error; its message is in the body, too, for clients that are wrapped
                otherwise.
            request: The HTTP request.
        """
        body = {"error": {"message": str(error), "type": "guardrail", "code": "content_filter"}}
        return self.http.Response(
            400,
            headers={"content-type": "application/json", "x-should-retry": "false"},
            content=json.dumps(body).encode(),
            request=request,
            extensions={ERROR: error},
        )

    def rebuilt(self, response: Any, **body: Any) -> Any:
        """Return a response with another body."""
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in _FORMS]
        extensions = {k: v for k, v in response.extensions.items() if k != "network_stream"}
        return self.http.Response(
            response.status_code, headers=headers, extensions=extensions, **body
        )

    def passed_on(self, response: Any, stream: Any) -> Any:
        """Return a response that is not judged, its bytes as they come."""
        return self.http.Response(
            response.status_code,
            headers=response.headers,
            stream=stream,
            extensions=response.extensions,
        )

    @staticmethod
    def reader(call: Call, response: Any) -> Callable[[bytes], Frame]:
        """Return what reads the body of an answer, or of an error."""
        return call.wire.read_response if response.is_success else read_error

    def frame(self, read: Callable[[bytes], Frame], body: bytes) -> Frame:
        """Read a whole answer; one that cannot be read is opaque."""
        try:
            return read(body)
        except WireError:
            return Frame(body, opaque=True)

    def clean_request(self, call: Call, request: Any, verdict: Verdict) -> tuple[Any, Verdict]:
        """Return a request as it may be sent, and the verdict, which blocks where it may not."""
        policy = self.guardrail.policy
        redactor = Redactor.of(policy, Direction.INPUT)
        if redactor is None or verdict.blocked:
            return request, verdict
        made = redact_request(call.request, call.route.read, redactor.text)
        if made is None:
            return request, self.guardrail.unredactable(Direction.INPUT)
        if made is call.request:
            return request, verdict
        headers = [(k, v) for k, v in request.headers.multi_items() if k.lower() not in _FORMS]
        clean = self.http.Request(
            request.method,
            request.url,
            headers=headers,
            content=made.raw,
            extensions=request.extensions,
        )
        return clean, verdict

    def clean_answer(
        self, read: Callable[[bytes], Frame], frame: Frame, verdict: Verdict
    ) -> tuple[bytes, Verdict]:
        """Return a whole answer as it may be handed out, and the verdict."""
        policy = self.guardrail.policy
        if verdict.blocked:
            return frame.raw, verdict
        try:
            return redact_frame(policy, frame, read).raw, verdict
        except Unredactable:
            return frame.raw, self.guardrail.unredactable(Direction.OUTPUT)

    def codec(self, call: Call) -> ByteCodec:
        """Return the codec for a streamed answer."""
        return ByteCodec(call.wire.open_stream(call.request))


def _reply(call: Call, notice: Notice, body: bytes | None) -> Reply:
    if body is None:
        return call.route.refusal(call.request, notice)
    return call.wire.output_refusal(call.request, body, notice)
