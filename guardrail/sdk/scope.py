"""One guarded exchange: its input, its answer, and what a block of either becomes."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from guardrail.errors import GuardrailBlocked, PolicyError
from guardrail.policy import Policy
from guardrail.redact import Unredactable
from guardrail.sdk.adapters import (
    EMPTY_REQUEST,
    Content,
    answer_frame,
    answer_segments,
    as_plain,
    dialect_of,
    dump_plain,
    read_content,
)
from guardrail.sdk.api import Guardrail
from guardrail.sdk.codecs import AnyCodec, Codec, TextCodec
from guardrail.sdk.handles import is_async_stream, is_stream
from guardrail.sdk.parallel import abeside, beside
from guardrail.sdk.redaction import redact_answer, redact_input
from guardrail.sdk.streams import aclose, close
from guardrail.types import Action, Direction, Segment, Verdict

__all__ = ["OnBlock", "Options", "Scope"]

R = TypeVar("R")
T = TypeVar("T")

OnBlock = Literal["raise", "message"] | Callable[[Verdict], Any]
"""Raise `GuardrailBlocked`, return the policy's message, or return what a function makes."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a guard was told; see `guardrail.sdk.decorator.guard`."""

    guardrail: Guardrail
    output: Callable[[Any], str] | Literal[False] | None
    on_block: OnBlock
    on_flag: Callable[[Verdict], object] | None


class Scope:
    """One guarded exchange: an input, then its answer.

    The last user turn of the input is remembered, since an answer is judged better with it.

    Args:
        options: What the guard was told.
        prompt: The last user turn, where the input is checked elsewhere.
    """

    def __init__(self, options: Options, prompt: str | None = None) -> None:
        self._options = options
        self._prompt = prompt
        self.verdicts: list[Verdict] = []

    # --- input ---------------------------------------------------------------------------

    def input(self, content: T) -> T:
        """Check what is about to be sent.

        Args:
            content: A string, messages or a request body.

        Returns:
            The same, or what may be sent in its place where the policy redacts.

        Raises:
            GuardrailBlocked: It is blocked, whatever ``on_block`` says.
            PolicyError: It holds something to redact and cannot be rebuilt.
        """
        asked = self._read(content)
        verdict = self._options.guardrail.check_segments(
            asked.segments, Direction.INPUT, opaque=asked.opaque
        )
        return self._passed(verdict, content)

    async def ainput(self, content: T) -> T:
        """Check what is about to be sent; see `input`."""
        asked = self._read(content)
        verdict = await self._options.guardrail.acheck_segments(
            asked.segments, Direction.INPUT, opaque=asked.opaque
        )
        return self._passed(verdict, content)

    def _read(self, content: object) -> Content:
        """Read an input, and remember its last user turn."""
        asked = read_content(content)
        self._prompt = asked.prompt
        return asked

    def noted(self, verdict: Verdict) -> Verdict:
        """Keep a verdict, and tell the callback where it flags."""
        self.flagged(verdict)
        self.verdicts.append(verdict)
        return verdict

    def _passed(self, verdict: Verdict, content: T) -> T:
        self.noted(verdict)
        if verdict.blocked:
            raise GuardrailBlocked(verdict)
        made, bad = self._redacted(content)
        if bad is not None:
            raise GuardrailBlocked(self.noted(bad))
        return made

    def _redacted(self, content: T) -> tuple[T, Verdict | None]:
        policy = self._options.guardrail.policy
        try:
            return redact_input(policy, content), None
        except Unredactable:
            return content, self._options.guardrail.unredactable(Direction.INPUT)

    def call(self, content: T, call: Callable[[T], R]) -> tuple[Verdict | None, R | None]:
        """Check an input and make the call that it is for, in the order that the policy sets.

        Args:
            content: A string, messages or a request body.
            call: Makes the call, with the content as it may be sent.

        Returns:
            The verdict that refuses the call, or None; and the result of the call.
        """
        asked, guardrail = self._read(content), self._options.guardrail
        if guardrail.parallel:
            check = guardrail.submit_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
            verdict, result = beside(check, lambda: call(content), _drop)
            return (verdict, None) if self.noted(verdict).blocked else (None, result)
        verdict = self.noted(
            guardrail.check_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
        )
        if verdict.blocked:
            return verdict, None
        made, bad = self._redacted(content)
        return (None, call(made)) if bad is None else (self.noted(bad), None)

    async def acall(
        self, content: T, call: Callable[[T], Awaitable[R]]
    ) -> tuple[Verdict | None, R | None]:
        """Check an input and make the async call that it is for; see `call`."""
        asked, guardrail = self._read(content), self._options.guardrail
        if guardrail.parallel:
            work = call(content)
            check = guardrail.acheck_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
            verdict, result = await abeside(check, work, _adrop)
            return (verdict, None) if self.noted(verdict).blocked else (None, result)
        verdict = self.noted(
            await guardrail.acheck_segments(asked.segments, Direction.INPUT, opaque=asked.opaque)
        )
        if verdict.blocked:
            return verdict, None
        made, bad = self._redacted(content)
        return (None, await call(made)) if bad is None else (self.noted(bad), None)

    # --- output --------------------------------------------------------------------------

    def output(self, result: T) -> T:
        """Check a whole answer.

        Args:
            result: A string, a message or an answer of a known API.

        Returns:
            The same, or what ``on_block`` makes of a block.

        Raises:
            GuardrailBlocked: It is blocked, and ``on_block`` is ``raise``.
        """
        if self._options.output is False:
            return result
        segments, opaque = self._answer(result)
        verdict = self._options.guardrail.check_segments(segments, Direction.OUTPUT, opaque=opaque)
        return self._kept(verdict, result)

    async def aoutput(self, result: T) -> T:
        """Check a whole answer; see `output`."""
        if self._options.output is False:
            return result
        segments, opaque = self._answer(result)
        verdict = await self._options.guardrail.acheck_segments(
            segments, Direction.OUTPUT, opaque=opaque
        )
        return self._kept(verdict, result)

    def _answer(self, result: object) -> tuple[list[Segment], bool]:
        read = self._options.output
        frame = answer_frame(read(result) if callable(read) else result)
        return answer_segments(frame, self._prompt), frame.opaque

    def _kept(self, verdict: Verdict, result: T) -> T:
        self.noted(verdict)
        policy = self._options.guardrail.policy
        try:
            made = result if verdict.blocked else self._clean(policy, result)
        except Unredactable:
            verdict = self.noted(self._options.guardrail.unredactable(Direction.OUTPUT))
        return cast("T", self.replacement(verdict, result)) if verdict.blocked else made

    def _clean(self, policy: Policy, result: T) -> T:
        read = self._options.output
        if not callable(read):
            return redact_answer(policy, result)
        text = read(result)
        if redact_answer(policy, text) != text:
            raise PolicyError(
                "an answer that 'output=' reads holds something to redact and cannot be rebuilt; "
                "return strings, messages or answers of known APIs, or use 'action: block'",
                file=policy.file,
            )
        return result

    def stream(self, chunks: Iterable[T]) -> Iterator[T]:
        """Yield the items of a streamed answer as they are cleared.

        Args:
            chunks: Strings or chunks of a known API.
        """
        if self._options.output is False:
            return iter(chunks)
        return self._options.guardrail.stream(chunks, self._codec(), self, self._prompt)

    def astream(self, chunks: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield the items of an async stream as they are cleared."""
        if self._options.output is False:
            return chunks
        return self._options.guardrail.astream(chunks, self._codec(), self, self._prompt)

    def _codec(self) -> Codec[Any]:
        read = self._options.output
        return TextCodec(read, None) if callable(read) else AnyCodec()

    # --- verdicts ------------------------------------------------------------------------

    def flagged(self, verdict: Verdict) -> None:
        """Tell the callback about a verdict that flags."""
        told = (Action.FLAG, Action.REDACT)
        if self._options.on_flag is not None and verdict.effective in told:
            self._options.on_flag(verdict)

    def blocked(self, verdict: Verdict, codec: Codec[Any]) -> Iterable[Any]:
        """Return the last items of a blocked stream, or raise."""
        self.verdicts.append(verdict)
        on_block = self._options.on_block
        if on_block == "raise":
            raise GuardrailBlocked(verdict)
        if on_block == "message":
            return codec.refusal(self._options.guardrail.notice(verdict))
        return [on_block(verdict)]

    def unreadable(self, codec: Codec[Any]) -> Iterable[Any]:
        """Return the last items of a stream that cannot be read, or raise."""
        return self.blocked(self._options.guardrail.unreadable(), codec)

    def replacement(self, verdict: Verdict, result: object = "") -> object:
        """Return what stands for a blocked call, or raise.

        Args:
            verdict: Why.
            result: The answer that is blocked: a message in its place has its type.

        Raises:
            GuardrailBlocked: ``on_block`` is ``raise``.
        """
        on_block = self._options.on_block
        if on_block == "raise":
            raise GuardrailBlocked(verdict)
        if on_block != "message":
            return on_block(verdict)
        return _in_shape_of(result, self._options.guardrail, verdict)


def _drop(result: object) -> None:
    """Close what nobody will read: a stream, or a coroutine."""
    if is_stream(result) or inspect.iscoroutine(result):
        close(result)


async def _adrop(result: object) -> None:
    if is_stream(result) or is_async_stream(result):
        await aclose(result)


def _in_shape_of(result: object, guardrail: Guardrail, verdict: Verdict) -> object:
    """Return the policy's message as an answer of the same type."""
    notice = guardrail.notice(verdict)
    if isinstance(result, str):
        return notice.message
    plain = as_plain(result)
    wire = dialect_of(plain) if isinstance(plain, dict) else None
    if wire is None:
        return notice.message
    reply = wire.output_refusal(EMPTY_REQUEST, dump_plain(plain), notice)
    payload: dict[str, Any] = json.loads(reply.body)
    make = getattr(type(result), "model_validate", None)
    return make(payload) if make is not None else payload
