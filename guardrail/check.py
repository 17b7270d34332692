"""`Checker`: from texts to verdicts, off the event loop and in batches.

Owns scope (which segments a policy looks at), batching across requests and streams, the
executor, time-outs, admission, and turning every failure into a verdict through `decide`. The
first room that may use asyncio; it knows no HTTP.

    check ──> pieces ──> heap of jobs ──> batch ──> Classifier.score in a thread
      ^                                                       │
      └── decide <── merged Scores <── futures <──────────────┘

A job's place in the heap is its arrival plus its likely cost, so that a long document does not
make a hundred streams wait, and is not starved by them either.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Self
from weakref import WeakKeyDictionary

from guardrail.classifier.base import Classifier, Place, Sample, Stream
from guardrail.classifier.cascade import Guards
from guardrail.classifier.pace import Pace
from guardrail.classifier.pieces import PIECE_CHARS, merge, pieces
from guardrail.classifier.prepare import Prepared, PreparedPolicies
from guardrail.decide import (
    Scope,
    decide,
    decide_failure,
    decide_skipped,
    rules_for,
    select,
    undecided,
    worst,
)
from guardrail.errors import CheckError
from guardrail.escalate import Escalator
from guardrail.judged import Judged
from guardrail.policy import Policy
from guardrail.types import Direction, Role, Scores, Segment, Verdict
from guardrail.watch import CheckRecord, ShadowRecord, Watch

__all__ = ["PIECE_CHARS", "CheckRecord", "Checker", "Scope", "ShadowRecord", "Watch", "select"]

log = logging.getLogger(__name__)

BATCH_S: Final = 0.25
"""What a batch should take: bounds how long a newcomer waits for the batch in progress."""
MAX_TEXTS: Final = 1_024
"""Texts of one request that are judged apart: more would outlast any time-out."""
WOKEN_AT_ONCE: Final = 4
"""Checks woken in one turn of the event loop; a batch of 35 at once held it for 30 ms."""


@dataclass(frozen=True, slots=True, order=True)
class _Job:
    """One text that waits; the order is by due time and arrival."""

    due: float
    number: int
    sample: Sample = field(compare=False)
    future: asyncio.Future[Scores] = field(compare=False)
    classifier: Classifier = field(compare=False)

    @property
    def chars(self) -> int:
        """Characters that the classifier reads."""
        return len(self.sample.text) + len(self.sample.context)


class Checker:
    """Judges texts for one event loop with one model, for any number of policies.

    Use as an async context manager, or call `close`. A policy with rubrics, patterns or targets
    is prepared at its first check, or beforehand by `adopt`.

    Args:
        classifier: The model that scores the texts.
        max_queue_chars: Most text that may wait; beyond it a check fails with ``overload``.
        batch_s: What one batch should take; its size follows from the pace that is measured.
        observer: Called with each finished check, on the event loop.
        shadow_observer: Called with each text that a policy on trial judged as well.
        clock: Monotonic seconds.
        guards: Where the guards of policies come from.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        max_queue_chars: int = 2_000_000,
        batch_s: float = BATCH_S,
        observer: Callable[[CheckRecord], None] | None = None,
        shadow_observer: Callable[[ShadowRecord], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        guards: Guards | None = None,
    ) -> None:
        self.classifier = classifier
        self._max_queue_chars = max_queue_chars
        self._observer = observer
        self._shadow_observer = shadow_observer
        self._shadows: set[asyncio.Task[None]] = set()
        self._clock = clock
        self._heap: list[_Job] = []
        self._queued_chars = 0
        self._last_due: WeakKeyDictionary[Stream, float] = WeakKeyDictionary()
        self._scoring_chars = 0
        self._pace = Pace(batch_s)
        self._count = itertools.count()
        self._busy: asyncio.Task[None] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="guardrail-score")
        self._policies = PreparedPolicies(classifier, guards)
        self._escalator = Escalator(clock)
        self._judged = Judged()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Fail what waits and what still comes, and release the worker thread."""
        self._closed = True
        for task in self._shadows:
            task.cancel()
        _fail(self._heap, CheckError("the checker is closing", reason="closing"))
        self._heap.clear()
        if self._busy is not None:
            await asyncio.gather(self._busy, return_exceptions=True)
        self._pool.shutdown(wait=False)
        self._escalator.close()

    def adopt(self, policy: Policy) -> Policy:
        """Prepare a policy now: fit its rubrics, resolve its targets. Blocks for seconds.

        Args:
            policy: The policy as loaded.

        Returns:
            The policy as it decides, whose hash covers resolved thresholds. Checks may name
            either.

        Raises:
            GuardrailError: It cannot be used; see `guardrail.classifier.prepare.prepare`.
        """
        prepared = partial(self._policies.get, again=True)
        selections = tuple(replace(s, policy=prepared(s.policy).policy) for s in policy.selections)
        shadow = prepared(policy.shadow).policy if policy.shadow else None
        settled = prepared(policy).policy
        return replace(settled, selections=selections, shadow=shadow)

    @property
    def queued_chars(self) -> int:
        """Characters that wait for the classifier now."""
        return self._queued_chars

    @property
    def expected_wait_s(self) -> float:
        """Likely time until a text that comes now is scored, at the pace measured so far."""
        return self._pace.wait_s(self._queued_chars + self._scoring_chars)

    async def check(
        self,
        policy: Policy,
        direction: Direction,
        segment: Segment,
        *,
        context: str = "",
        place: Place | None = None,
        watch: Watch | None = None,
    ) -> Verdict:
        """Judge one text; a failure becomes a verdict by the policy's failure modes.

        Args:
            policy: The policy in force.
            direction: Which way the text travels.
            segment: The text and who speaks.
            context: Text of the same channel just before it, already judged.
            place: Where it stands in a stream, so that the classifier may read on from there.
            watch: Told of the decision.

        Returns:
            The verdict; this never raises but for cancellation.
        """
        started = self._clock()
        if watch is not None and policy.audit.required and not watch.accepts:
            model, kind = self.classifier.model_id, segment.channel.kind
            verdict = decide_failure(policy, direction, segment.role, "audit", model, kind)
        else:
            verdict = await self._verdict(policy, direction, segment, context, place)
        seconds = self._clock() - started
        record = CheckRecord(direction, verdict, len(segment.text), seconds, segment, context)
        if self._observer is not None:
            self._observer(record)
        if watch is not None:
            watch.checked(record)
        # Under load a trial gives way: what it would have said is not worth a wait.
        idle = self._queued_chars <= self._max_queue_chars // 8
        if policy.shadow is not None and self._shadow_observer is not None and idle:
            work = self._compare(policy.shadow, direction, segment, context, place, verdict)
            task = asyncio.get_running_loop().create_task(work)
            self._shadows.add(task)
            task.add_done_callback(self._shadows.discard)
        return verdict

    async def _compare(
        self,
        policy: Policy,
        direction: Direction,
        segment: Segment,
        context: str,
        place: Place | None,
        live: Verdict,
    ) -> None:
        shadow = await self._verdict(policy, direction, segment, context, place)
        if self._shadow_observer is not None:
            self._shadow_observer(ShadowRecord(direction, live, shadow))

    async def check_input(
        self,
        policy: Policy,
        segments: Iterable[Segment],
        *,
        opaque: bool = False,
        watch: Watch | None = None,
    ) -> Verdict:
        """Judge what the policy scopes of a request.

        Args:
            policy: The policy in force.
            segments: All texts of the request, in order.
            opaque: Whether it has text that cannot be read, which is a failed check.
            watch: Told of every decision and of what is out of scope.

        Returns:
            The worst verdict; one with outcome ``skipped`` where nothing is in scope, and a
            failed check where it has more texts than `MAX_TEXTS`.
        """
        scope = self._judged.unseen(policy, select(policy, segments))
        model, way = self.classifier.model_id, Direction.INPUT
        if watch is not None:
            watch.skipped(scope.skipped)
        samples, unchecked = scope.samples, []
        if len(samples) > MAX_TEXTS:
            samples = ()
            unchecked.append(decide_failure(policy, way, Role.TEXT, "too_large", model))
        elif opaque:
            unchecked.append(decide_failure(policy, way, Role.TEXT, "unreadable", model))
        elif not samples:
            unchecked.append(decide_skipped(policy, way, model))
        if watch is not None:
            for verdict in unchecked:
                watch.checked(CheckRecord(way, verdict, 0, 0.0))
        checks = [self.check(policy, way, sample, watch=watch) for sample in samples]
        # One text, the usual case, is spared a task of its own.
        verdicts = [await checks[0]] if len(checks) == 1 else await asyncio.gather(*checks)
        self._judged.note(policy, samples, verdicts)
        return worst([*verdicts, *unchecked])

    async def _verdict(
        self,
        policy: Policy,
        direction: Direction,
        segment: Segment,
        context: str,
        place: Place | None,
    ) -> Verdict:
        model = self.classifier.model_id
        role, kind = segment.role, segment.channel.kind
        if not segment.text.strip() or not rules_for(policy, direction, role, kind):
            return decide_skipped(policy, direction, model)
        try:
            async with asyncio.timeout(policy.timeout_ms / 1000):
                ready = await self.prepared(policy)
                policy, model = ready.policy, ready.classifier.model_id
                sample = Sample(segment.text, segment.role, segment.prompt, context, place)
                cut = pieces(sample)
                parts = await self._score(sample, cut, ready.classifier)
                scores = merge(parts, len(sample.text))
                if ready.guards and (unsure := undecided(policy, direction, role, scores, kind)):
                    parts = await self._escalator.ask(ready.guards, unsure, cut, parts)
                    scores = merge(parts, len(sample.text))
        except TimeoutError:
            return decide_failure(policy, direction, role, "timeout", model, kind)
        except CheckError as error:
            return decide_failure(policy, direction, role, error.reason, model, kind)
        except Exception as error:  # noqa: BLE001  (a classifier is a plug-in: any fault is a failed check)
            log.error("check failed: %s", type(error).__name__)
            return decide_failure(policy, direction, role, "failure", model, kind)
        return decide(policy, direction, role, scores, kind)

    async def prepared(self, policy: Policy) -> Prepared:
        """Return a policy as it decides, with the classifier that scores for it."""
        ready = self._policies.known(policy)
        if ready is None:
            loop = asyncio.get_running_loop()
            # In the middle of traffic a guard that is down is a failed check, not a bad policy.
            get = partial(self._policies.get, policy, probe=False)
            ready = await loop.run_in_executor(None, get)
        return ready

    async def _score(
        self, sample: Sample, cut: Sequence[Sample], classifier: Classifier
    ) -> list[Scores]:
        if self._closed:
            raise CheckError("the checker is closing", reason="closing")
        if self._queued_chars + len(sample.text) > self._max_queue_chars:
            raise CheckError("too much text waits for the classifier", reason="overload")
        futures = [self._submit(piece, classifier) for piece in cut]
        try:
            return [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()

    def _submit(self, sample: Sample, classifier: Classifier) -> asyncio.Future[Scores]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Scores] = loop.create_future()
        size = len(sample.text) + len(sample.context)
        due = self._clock() + size * self._pace.seconds_per_char
        if sample.place is not None:  # a stream is read in its own order
            due = max(due, self._last_due.get(sample.place.stream, due))
            self._last_due[sample.place.stream] = due
        heapq.heappush(self._heap, _Job(due, next(self._count), sample, future, classifier))
        self._queued_chars += size
        if self._busy is None:
            self._busy = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        """Score batch after batch until nothing waits.

        Results are handed out while the next batch is being scored.
        """
        loop = asyncio.get_running_loop()
        done: list[tuple[_Job, Scores]] = []
        try:
            while (jobs := self._take()) or done:
                samples = [job.sample for job in jobs]
                score = partial(self._timed, jobs[0].classifier, samples) if jobs else None
                scoring = loop.run_in_executor(self._pool, score) if score else None
                await _hand_out(done)
                done = []
                try:
                    if scoring is not None:
                        done = list(zip(jobs, await scoring, strict=True))
                except Exception as error:  # noqa: BLE001  (goes to the waiting checks)
                    _fail(jobs, error)
        finally:
            self._busy = None

    def _timed(self, classifier: Classifier, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch, in the thread, and learn from the time that it took."""
        started = self._clock()
        scores = classifier.score(samples)
        chars = sum(len(sample.text) + len(sample.context) for sample in samples)
        self._pace.observe(chars, self._clock() - started)
        return scores

    def _take(self) -> list[_Job]:
        """Take the next batch, of one classifier; jobs that nobody waits for are dropped."""
        jobs: list[_Job] = []
        chars, most = 0, self._pace.batch_chars
        while self._heap and (not jobs or chars < most):
            if jobs and self._heap[0].classifier is not jobs[0].classifier:
                break
            job = heapq.heappop(self._heap)
            self._queued_chars -= job.chars
            if not job.future.done():
                jobs.append(job)
                chars += job.chars
        self._scoring_chars = chars
        return jobs


async def _hand_out(done: Sequence[tuple[_Job, Scores]]) -> None:
    """Wake the waiting checks, a few at a time: each may have a stream to release."""
    for number, (job, result) in enumerate(done, 1):
        if not job.future.done():
            job.future.set_result(result)
        if number % WOKEN_AT_ONCE == 0:
            await asyncio.sleep(0)


def _fail(jobs: Sequence[_Job], error: Exception) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
