"""`Escalator`: asks bigger guards off the event loop, and never lets one hold up another.

Each guard has a lane: threads of its own, a bound on how many ask at once, a queue that is
bounded too, and the guard's own time-out. Nothing here touches the thread that runs the embedded
model, so that texts nobody is unsure of do not wait for those that somebody is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from guardrail.classifier.base import Sample
from guardrail.classifier.cascade import Guard, combine, settle
from guardrail.classifier.prepare import Prepared
from guardrail.decide import decide, undecided
from guardrail.errors import CheckError
from guardrail.policy import Rule
from guardrail.types import Direction, Escalation, Scores, Verdict

__all__ = ["Escalator", "decide_now"]

log = logging.getLogger(__name__)

MAX_WAITING: Final = 512
"""Questions that may wait for one guard; beyond it they fail with ``overload``."""
MAX_LANES: Final = 32

Answer = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Question:
    """One text that waits for a guard."""

    sample: Sample
    categories: tuple[str, ...]
    answer: asyncio.Future[Answer]


class _Lane:
    """The way to one guard."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self._waiting: deque[_Question] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(
            guard.spec.concurrency, thread_name_prefix=f"guardrail-{guard.name}"
        )

    def close(self) -> None:
        """Fail what waits and release the threads."""
        _fail(self._waiting, CheckError("the checker is closing", reason="closing"))
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, sample: Sample, categories: tuple[str, ...]) -> Answer:
        """Ask about one text.

        Raises:
            CheckError: There is no answer.
            TimeoutError: It did not come in the guard's time.
        """
        self.guard.admit(sample)
        if len(self._waiting) >= MAX_WAITING:
            raise CheckError(f"too many texts wait for '{self.guard.name}'", reason="overload")
        question = _Question(sample, categories, asyncio.get_running_loop().create_future())
        self._waiting.append(question)
        self._start()
        async with asyncio.timeout(self.guard.spec.timeout_ms / 1000):
            return await question.answer

    def _start(self) -> None:
        while self._waiting and len(self._tasks) < self.guard.spec.concurrency:
            batch = self._take()
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._tasks.add(task)
                task.add_done_callback(partial(self._finished, batch))

    def _finished(self, batch: Sequence[_Question], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # perhaps before it began
            _fail(batch, CheckError("the checker is closing", reason="closing"))
        else:
            self._start()

    def _take(self) -> list[_Question]:
        """Take questions on the same categories; those that nobody waits for are dropped."""
        batch: list[_Question] = []
        while self._waiting and len(batch) < self.guard.batch:
            if batch and self._waiting[0].categories != batch[0].categories:
                break
            question = self._waiting.popleft()
            if not question.answer.done():
                batch.append(question)
        return batch

    async def _run(self, batch: Sequence[_Question]) -> None:
        loop = asyncio.get_running_loop()
        samples = [question.sample for question in batch]
        try:
            answers = await loop.run_in_executor(
                self._pool, self.guard.ask, samples, batch[0].categories
            )
            # Before any is told: with one too few, nobody knows whose answer is whose.
            answered = list(zip(batch, answers, strict=True))
        except Exception as error:  # noqa: BLE001  (goes to those who wait)
            _fail(batch, error)
            return
        for question, answer in answered:
            if not question.answer.done():
                question.answer.set_result(answer)


def _fail(questions: Iterable[_Question], error: Exception) -> None:
    for question in questions:
        if not question.answer.done():
            question.answer.set_exception(error)


class Escalator:
    """Asks guards for one event loop.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lanes: dict[int, _Lane] = {}

    def close(self) -> None:
        """Release all threads."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    async def ask(
        self,
        guards: Mapping[str, Guard],
        rules: Iterable[Rule],
        samples: Sequence[Sample],
        scores: Sequence[Scores],
    ) -> list[Scores]:
        """Ask the guards of some rules about a text.

        Args:
            guards: The policy's guards.
            rules: Rules that are unsure of the text as a whole.
            samples: Its pieces.
            scores: The scores of each piece.

        Returns:
            The scores of each piece, with the answers in place. Only pieces in a rule's band are
            asked about. A question without an answer is on record with its reason.
        """
        wanted: list[tuple[int, Guard, tuple[str, ...]]] = []
        by_guard = _by_guard(rules)
        for number, piece in enumerate(scores):
            for name, own in by_guard.items():
                keys = tuple(r.category for r in own if _in_band(r, piece))
                apart = guards[name].by_category
                groups = [(key,) for key in keys] if apart else [keys] if keys else []
                wanted += [(number, guards[name], group) for group in groups]
        asked = await asyncio.gather(
            *(self._one(guard, samples[n], keys, scores[n]) for n, guard, keys in wanted)
        )
        found: list[list[Escalation]] = [[] for _ in samples]
        for (number, _, _), answers in zip(wanted, asked, strict=True):
            found[number] += answers
        return [
            settle(piece, own) if own else piece for piece, own in zip(scores, found, strict=True)
        ]

    async def _one(
        self, guard: Guard, sample: Sample, categories: tuple[str, ...], scores: Scores
    ) -> list[Escalation]:
        started = self._clock()
        answer: Answer = {}
        reason = ""
        try:
            answer = await self._lane(guard).ask(sample, categories)
        except TimeoutError:
            reason = "timeout"
        except CheckError as error:
            reason = error.reason
            log.info("guard '%s': %s", guard.name, getattr(error, "plain", error))
        except Exception as error:  # noqa: BLE001  (a guard is a plug-in: any fault is no answer)
            reason = "failure"
            log.error("guard '%s' failed: %s", guard.name, type(error).__name__)
        return _record(guard, categories, scores, answer, reason, self._clock() - started)

    def _lane(self, guard: Guard) -> _Lane:
        lane = self._lanes.get(id(guard))
        if lane is None:
            lane = self._lanes[id(guard)] = _Lane(guard)
            while len(self._lanes) > MAX_LANES:
                self._lanes.pop(next(iter(self._lanes))).close()
        return lane


def decide_now(ready: Prepared, direction: Direction, sample: Sample, scores: Scores) -> Verdict:
    """Decide about one text in this thread, its guards asked where they have to be.

    For tools that judge one text after another; what serves traffic uses `Escalator`.

    Args:
        ready: The policy with its guards.
        direction: Which way the text travels.
        sample: The text.
        scores: What ``ready.classifier`` gave.

    Returns:
        The verdict.
    """
    rules = undecided(ready.policy, direction, sample.role, scores)
    for name, own in _by_guard(rules).items():
        guard, keys = ready.guards[name], tuple(rule.category for rule in own)
        answer: Answer = {}
        reason = ""
        started = time.monotonic()
        try:
            guard.admit(sample)
            answer = guard.ask([sample], keys)[0]
        except CheckError as error:
            reason = error.reason
        except Exception as error:  # noqa: BLE001  (as in `Escalator`: any fault is no answer)
            reason = "failure"
            log.error("guard '%s' failed: %s", name, type(error).__name__)
        seconds = time.monotonic() - started
        scores = settle(scores, _record(guard, keys, scores, answer, reason, seconds))
    return decide(ready.policy, direction, sample.role, scores)


def _by_guard(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.escalate is not None:
            found.setdefault(rule.escalate.guard, []).append(rule)
    return found


def _record(
    guard: Guard,
    categories: Sequence[str],
    scores: Scores,
    answer: Answer,
    reason: str,
    seconds: float,
) -> list[Escalation]:
    """Put what a guard was asked, and what it said, on record."""
    found = []
    for key in categories:
        before = scores.categories[key]
        after = combine(guard.spec.combine, before, answer[key]) if key in answer else None
        model = guard.model_id if after is not None else ""
        found.append(Escalation(key, guard.name, before, after, model, reason, seconds))
    return found


def _in_band(rule: Rule, scores: Scores) -> bool:
    """Whether a piece is one of those that make the text unsure; the highest always is."""
    band, probability = rule.escalate, scores.get(rule.category)
    return band is not None and probability is not None and band.low <= probability < band.high
