"""`Guardrail`: judge texts, messages, answers and streams in this process.

Owns the plain API. The model is loaded at the first call that needs it and shared by the whole
process; checks from any thread or event loop meet in one queue and are batched together.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from guardrail.check import Checker
from guardrail.classifier import Classifier, Sample
from guardrail.decide import decide_failure, decide_skipped, worst
from guardrail.policy import InputCheck, Policy, load_policy
from guardrail.redact import unredactable
from guardrail.relay import Places
from guardrail.sdk.adapters import answer_frame, answer_segments, read_content
from guardrail.sdk.codecs import AnyCodec, Codec
from guardrail.sdk.endings import Raising
from guardrail.sdk.record import Noting, open_log, recorded, trail_of
from guardrail.sdk.redaction import redact_answer, redact_input
from guardrail.sdk.runtime import Runtime, runtime
from guardrail.sdk.streams import Ending, guard_async, guard_sync
from guardrail.stream import Check
from guardrail.types import Direction, Role, Scores, Segment, Verdict
from guardrail.wire import Notice, RefusalStyle

if TYPE_CHECKING:
    from guardrail.audit import AuditLog, AuditSettings, Trail

__all__ = ["Guardrail"]

T = TypeVar("T")
SCORE_BATCH: Final = 64
"""Texts that are handed to the model at once: bounds memory and how late an interrupt comes."""


class Guardrail:
    """A policy, ready to judge. Safe to use from many threads and event loops.

    Args:
        policy: The policy in force.
        classifier: What scores texts, in place of the embedded model; it must be safe to call
            from another thread.
        bundle: A model folder, in place of the embedded one.
        audit: Where decisions are recorded: ``sqlite:PATH``, ``postgresql://…``, settings, or a
            log that is shared and already started; None for no record.

    Raises:
        SettingsError: The audit cannot be kept there, or not as the policy says.
    """

    def __init__(
        self,
        policy: Policy,
        classifier: Classifier | None = None,
        bundle: str | Path | None = None,
        audit: AuditLog | AuditSettings | str | None = None,
    ) -> None:
        self._policy = policy
        self._classifier = classifier
        self._bundle = None if bundle is None else Path(bundle).resolve()
        self._own: tuple[Runtime, Checker] | None = None
        self.audit = open_log(audit, policy)

    @classmethod
    def load(
        cls,
        policy: str | Path | Policy = "default",
        *,
        classifier: Classifier | None = None,
        bundle: str | Path | None = None,
        audit: AuditLog | AuditSettings | str | None = None,
    ) -> Guardrail:
        """Load a policy; the model waits for the first check.

        Args:
            policy: A policy file, the name of a bundled policy, or a `Policy`.
            classifier: What scores texts, in place of the embedded model.
            bundle: A model folder, in place of the embedded one.
            audit: Where decisions are recorded; see the class.

        Raises:
            PolicyError: The policy does not validate, or there is none of that name.
        """
        loaded = policy if isinstance(policy, Policy) else load_policy(policy)
        return cls(loaded, classifier, bundle, audit)

    def __reduce__(self) -> tuple[type[Guardrail], tuple[object, ...]]:
        settings = self.audit.settings if self.audit else None
        return type(self), (self._policy, self._classifier, self._bundle, settings)

    def __repr__(self) -> str:
        return f"Guardrail({self._policy.identity})"

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    @property
    def parallel(self) -> bool:
        """Whether a call is made while its input is checked: the policy's ``input.check``."""
        return self._policy.input_check is InputCheck.PARALLEL

    def warm_up(self) -> None:
        """Load the model and run it once, so that the first real check is not slow."""
        self._checker().classifier.score([Sample("The first pass is slower than the others.")])

    # --- one text, a conversation, an answer ---------------------------------------------

    def check(
        self,
        content: object,
        *,
        direction: Direction | str = Direction.INPUT,
        prompt: str | None = None,
    ) -> Verdict:
        """Judge a text, messages or an answer.

        Args:
            content: On input a string, messages or a request body; on output a string, a
                message or an answer of a known API.
            direction: ``input`` or ``output``.
            prompt: On output, the user turn before it: an answer is judged better with it.

        Returns:
            The verdict; a failed check becomes one by the policy's failure mode.

        Raises:
            TypeError: The content is of no known kind.
            WireError: Messages that are not what their API says.
            BundleError: The model cannot be loaded.
        """
        way = Direction(direction)
        segments, opaque = _read(content, way, prompt)
        return self.check_segments(segments, way, opaque=opaque)

    async def acheck(
        self,
        content: object,
        *,
        direction: Direction | str = Direction.INPUT,
        prompt: str | None = None,
    ) -> Verdict:
        """Judge a text, messages or an answer; see `check`."""
        way = Direction(direction)
        segments, opaque = _read(content, way, prompt)
        return await self.acheck_segments(segments, way, opaque=opaque)

    def check_segments(
        self, segments: Sequence[Segment], direction: Direction, *, opaque: bool = False
    ) -> Verdict:
        """Judge texts that an integration has read itself.

        Args:
            segments: The texts, in order, with who speaks.
            direction: Which way they travel.
            opaque: Whether there is text beside them that cannot be read, such as token numbers.
        """
        return runtime().wait(self._judge(self._checker(), segments, direction, opaque))

    async def acheck_segments(
        self, segments: Sequence[Segment], direction: Direction, *, opaque: bool = False
    ) -> Verdict:
        """Judge texts that an integration has read itself; see `check_segments`."""
        checker = await self._aready()
        return await runtime().run(self._judge(checker, segments, direction, opaque))

    def submit_segments(
        self, segments: Sequence[Segment], direction: Direction, *, opaque: bool = False
    ) -> Future[Verdict]:
        """Begin to judge texts, and go on; see `check_segments`. Cancel what is not needed."""
        checker = self._checker()
        return runtime().submit(self._judge(checker, segments, direction, opaque))

    async def _judge(
        self, checker: Checker, segments: Sequence[Segment], way: Direction, opaque: bool
    ) -> Verdict:
        trail = trail_of(self.audit, self._policy)
        if way is Direction.INPUT:
            return await checker.check_input(self._policy, segments, opaque=opaque, watch=trail)
        checks = (checker.check(self._policy, way, s, watch=trail) for s in segments)
        verdicts = list(await asyncio.gather(*checks))
        if trail is not None:
            trail.finish("ok", fault="unreadable" if opaque else None)
        if opaque:
            verdicts.append(self.unreadable())
        if not verdicts:
            return decide_skipped(self._policy, way, checker.classifier.model_id)
        return worst(verdicts)

    def redact(self, content: T, *, direction: Direction | str = Direction.INPUT) -> T:
        """Return content with what the policy redacts taken out; it is not judged.

        Args:
            content: As for `check`.
            direction: ``input`` or ``output``.

        Returns:
            The same where nothing is redacted.

        Raises:
            PolicyError: It holds something to redact and cannot be rebuilt.
            CheckError: A place cannot be taken out of it.
        """
        if Direction(direction) is Direction.INPUT:
            return redact_input(self._policy, content)
        return redact_answer(self._policy, content)

    # --- streams -------------------------------------------------------------------------

    def check_stream(
        self,
        chunks: Iterable[T],
        *,
        prompt: str | None = None,
        read: Callable[[T], str] | None = None,
        on_flag: Callable[[Verdict], object] | None = None,
    ) -> Iterator[T]:
        """Yield the items of a streamed answer as they are cleared.

        Args:
            chunks: Strings, or chunks of a known API, or anything with ``read``.
            prompt: The user turn before the answer.
            read: Returns the text of an item.
            on_flag: Called with the first verdict that flags, in this thread.

        Yields:
            The items, unchanged and in order.

        Raises:
            GuardrailBlocked: The answer is blocked; nothing that was not cleared has come out.
        """
        codec: Codec[T] = AnyCodec(read)
        return self.stream(chunks, codec, Raising(self.unreadable, on_flag), prompt)

    def acheck_stream(
        self,
        chunks: AsyncIterable[T],
        *,
        prompt: str | None = None,
        read: Callable[[T], str] | None = None,
        on_flag: Callable[[Verdict], object] | None = None,
    ) -> AsyncIterator[T]:
        """Yield the items of an async stream as they are cleared; see `check_stream`."""
        codec: Codec[T] = AnyCodec(read)
        return self.astream(chunks, codec, Raising(self.unreadable, on_flag), prompt)

    def stream(
        self, source: Iterable[T], codec: Codec[T], ending: Ending[T], prompt: str | None = None
    ) -> Iterator[T]:
        """Guard a stream with a codec and an ending of one's own; see `check_stream`."""
        checker, home = self._checker(), runtime()
        trail = trail_of(self.audit, self._policy)
        judge = self._judge_window(checker, prompt, trail)
        if trail is None:
            return guard_sync(source, codec, self._policy, judge, ending, home)
        noting = Noting(ending)
        guarded = guard_sync(source, codec, self._policy, judge, noting, home)
        return recorded(guarded, trail, noting)

    async def astream(
        self,
        source: AsyncIterable[T],
        codec: Codec[T],
        ending: Ending[T],
        prompt: str | None = None,
    ) -> AsyncIterator[T]:
        """Guard an async stream with a codec and an ending of one's own."""
        trail = trail_of(self.audit, self._policy)
        judge = self._judge_window(await self._aready(), prompt, trail)
        noting = Noting(ending)
        guarded = guard_async(aiter(source), codec, self._policy, judge, noting)
        try:
            async for item in guarded:
                yield item
        finally:
            await guarded.aclose()
            if trail is not None:
                noting.finish(trail)

    def _judge_window(
        self, checker: Checker, prompt: str | None, trail: Trail | None = None
    ) -> Callable[[Check], Any]:
        places = Places()

        async def judge(check: Check) -> Verdict:
            segment = Segment(check.text, Role.ASSISTANT, channel=check.channel, prompt=prompt)
            work = checker.check(
                self._policy,
                Direction.OUTPUT,
                segment,
                context=check.context,
                place=places.of(check),
                watch=trail,
            )
            return await runtime().run(work)

        return judge

    # --- scores --------------------------------------------------------------------------

    def score(
        self, texts: Iterable[str], *, role: Role | str = Role.TEXT, prompt: str | None = None
    ) -> list[Scores]:
        """Return calibrated probabilities, without any policy, for notebooks and batch work.

        Args:
            texts: The texts.
            role: Who speaks: ``user``, ``assistant``, ``tool``, ``system`` or ``text``.
            prompt: The user turn before an assistant's answer.

        Returns:
            One `Scores` for each text, in order.

        Raises:
            CheckError: The model could not be run.
        """
        samples = [Sample(text, Role(role), prompt) for text in texts]
        classifier = self._checker().classifier
        scores: list[Scores] = []
        for start in range(0, len(samples), SCORE_BATCH):
            scores += classifier.score(samples[start : start + SCORE_BATCH])
        return scores

    async def ascore(
        self, texts: Iterable[str], *, role: Role | str = Role.TEXT, prompt: str | None = None
    ) -> list[Scores]:
        """Return calibrated probabilities; see `score`. The event loop is not blocked."""
        return await asyncio.to_thread(self.score, list(texts), role=role, prompt=prompt)

    # --- verdicts in words ---------------------------------------------------------------

    def message(self, verdict: Verdict) -> str:
        """Return the policy's text for the user about a block."""
        return self._policy.message_for(verdict.categories)

    def notice(self, verdict: Verdict) -> Notice:
        """Return the same with what a dialect needs to write an answer of it."""
        return Notice(
            message=self.message(verdict),
            categories=verdict.categories,
            request_id=uuid.uuid4().hex,
            style=RefusalStyle.MESSAGE_200,
            created=int(time.time()),
        )

    def unreadable(self) -> Verdict:
        """Return the verdict on an answer that cannot be read, by the failure mode."""
        return decide_failure(self._policy, Direction.OUTPUT, Role.ASSISTANT, "unreadable")

    def unredactable(self, direction: Direction) -> Verdict:
        """Return the verdict on what should be redacted and cannot be, and record it."""
        verdict = unredactable(self._policy, direction)
        if (trail := trail_of(self.audit, self._policy)) is not None:
            trail.refused(verdict)
        return verdict

    # --- the model -----------------------------------------------------------------------

    def _checker(self) -> Checker:
        home = runtime()
        if self._classifier is None:
            return home.shared(self._bundle)
        own = self._own
        if own is None or own[0] is not home:
            with home.lock:
                own = self._own
                if own is None or own[0] is not home:
                    own = self._own = (home, Checker(self._classifier))
        return own[1]

    async def _aready(self) -> Checker:
        """Return the checker; a model is loaded in a thread, not on the caller's loop."""
        if self._classifier is None and not runtime().loaded(self._bundle):
            return await asyncio.to_thread(self._checker)
        return self._checker()


def _read(
    content: object, direction: Direction, prompt: str | None
) -> tuple[Sequence[Segment], bool]:
    """Return the texts of a content, and whether it has some that cannot be read."""
    if direction is Direction.INPUT:
        found = read_content(content)
        return found.segments, found.opaque
    frame = answer_frame(content)
    return answer_segments(frame, prompt), frame.opaque
