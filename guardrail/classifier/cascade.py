"""Bigger guards at work: made from a policy, asked, calibrated, and their answers put in place.

    rules ──> embedded model ──> a guard, inside the band only ──> a person

`Guard` is one guard of a policy with what it takes to rely on it: calibration, views of disguised
text, a cache, a breaker. It is synchronous; `guardrail.escalate` decides when, and waits.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from guardrail.classifier.asking import rubrics_of
from guardrail.classifier.base import Judge, Sample
from guardrail.classifier.guard_kinds import LOCAL_BATCH, make_judge
from guardrail.classifier.normalise import views
from guardrail.classifier.resilience import AnswerCache, Breaker
from guardrail.errors import CheckError, GuardrailError, PolicyError
from guardrail.policy import Combine, GuardSpec, Policy
from guardrail.types import Escalation, Scores

__all__ = ["Guard", "Guards", "combine", "settle"]

CLIP: Final = 1e-6
"""Probabilities are kept this far from 0 and 1, so that their logits are finite."""
_OF_TEXTS: Final = frozenset({"garbage", "rejected", "too_large"})
"""Reasons that tell of a text rather than of the guard."""


def combine(how: Combine, before: float, after: float) -> float:
    """Return the probability that counts once a guard has answered.

    Args:
        how: The guard's number, or the mean of both as logits.
        before: The embedded model's probability.
        after: The guard's, calibrated.
    """
    if how is Combine.REPLACE:
        return after
    return _sigmoid((_logit(before) + _logit(after)) / 2)


def settle(scores: Scores, asked: Sequence[Escalation]) -> Scores:
    """Put a guard's answers in the place of the embedded model's probabilities.

    Args:
        scores: What the embedded model and the rules gave.
        asked: What a guard was asked; what it did not answer stays as it is.

    Returns:
        The scores, with what was asked on record.
    """
    after = {one.category: one.after for one in asked if one.after is not None}
    models = dict.fromkeys(one.model for one in asked if one.after is not None)
    return replace(
        scores,
        categories={**scores.categories, **after},
        model="+".join([scores.model, *models]),
        escalations=(*scores.escalations, *asked),
    )


class Guard:
    """One guard of a policy, ready to be asked from any thread.

    Args:
        spec: The guard as the policy has it.
        judge: What answers.
        normalise: Whether what a disguised text stands for is asked about too.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        spec: GuardSpec,
        judge: Judge,
        *,
        normalise: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.judge = judge
        self._normalise = normalise
        self._cache = AnswerCache(spec.cache)
        self._breaker = Breaker(clock=clock)

    @property
    def name(self) -> str:
        """Its name in the policy."""
        return self.spec.name

    @property
    def model_id(self) -> str:
        """Its name and the identity of what answers."""
        return f"{self.spec.name}/{self.judge.model_id}"

    @property
    def batch(self) -> int:
        """Most texts in one call of `ask`."""
        return int(getattr(self.judge, "batch", LOCAL_BATCH))

    @property
    def by_category(self) -> bool:
        """Whether each category costs a call of its own, so that they are better asked apart."""
        return bool(getattr(self.judge, "by_category", False))

    def admit(self, sample: Sample) -> None:
        """Refuse a text that is longer than the guard is to be sent.

        Raises:
            CheckError: It is, with reason ``too_large``.
        """
        size = len(sample.context) + len(sample.text)
        most = min(self.spec.max_chars, getattr(self.judge, "max_chars", size))
        if size > most:
            raise CheckError(
                f"guard '{self.name}' takes {most:,} characters, the text has {size:,}",
                reason="too_large",
            )

    def ask(
        self, samples: Sequence[Sample], categories: Sequence[str]
    ) -> list[Mapping[str, float]]:
        """Ask about some texts; what was asked before is not asked again.

        Args:
            samples: The texts.
            categories: Category keys.

        Returns:
            For each text, calibrated probabilities by category; of a disguised text the highest.

        Raises:
            CheckError: There is no answer; see its reason.
        """
        keys = [AnswerCache.key(sample, tuple(categories)) for sample in samples]
        answers = [self._cache.get(key) for key in keys]
        missing = [n for n, answer in enumerate(answers) if answer is None]
        if missing:
            asked = self._asked([samples[n] for n in missing], categories)
            for number, answer in zip(missing, asked, strict=True):
                answers[number] = answer
                self._cache.put(keys[number], answer)
        return [answer for answer in answers if answer is not None]

    def _asked(
        self, samples: Sequence[Sample], categories: Sequence[str]
    ) -> list[Mapping[str, float]]:
        texts: list[Sample] = []
        owners: list[int] = []
        for number, sample in enumerate(samples):
            shown = views(sample.context + sample.text) if self._normalise else []
            # A guard is asked now and then, and never reads on where it stopped.
            alone = replace(sample, place=None)
            own = [alone, *(replace(alone, text=view.text, context="") for view in shown)]
            texts += own
            owners += [number] * len(own)
        found: list[dict[str, float]] = [{} for _ in samples]
        for owner, scores in zip(owners, self._called(texts, categories), strict=True):
            for key in categories:
                value = self._calibrated(key, scores)
                found[owner][key] = max(value, found[owner].get(key, 0.0))
        return list(found)

    def _called(self, samples: Sequence[Sample], categories: Sequence[str]) -> list[Scores]:
        if not self._breaker.allow():
            raise CheckError(f"guard '{self.name}' keeps failing; resting", reason="unavailable")
        try:
            scores = self.judge.ask(samples, categories)
        except Exception as error:
            # Of odd texts anyone may send as many as it takes to turn the guard off for all.
            if getattr(error, "reason", "") not in _OF_TEXTS:
                self._breaker.failed(getattr(error, "wait_s", 0.0))
            raise
        self._breaker.succeeded()
        return scores

    def _calibrated(self, key: str, scores: Scores) -> float:
        if scores.coverage.truncated:
            raise CheckError(f"guard '{self.name}' did not read it all", reason="too_large")
        raw = scores.get(key)
        if raw is None or not 0.0 <= raw <= 1.0:
            raise CheckError(f"guard '{self.name}' says nothing of '{key}'", reason="garbage")
        slope, offset = self.spec.platt(key)
        return _sigmoid(slope * _logit(raw) + offset)

    def probe(self, categories: Sequence[str]) -> None:
        """Ask once, past the cache, to find out what is wrong before traffic does.

        Raises:
            CheckError: It does not answer as it should.
        """
        for scores in self.judge.ask([Sample("What is the capital of France?")], categories):
            for key in categories:
                self._calibrated(key, scores)


class Guards:
    """The guards of all policies of a process; one that several name alike is made once.

    Args:
        make: Makes what answers; `make_judge` but in tests.
    """

    MOST: Final = 32

    def __init__(
        self, make: Callable[[GuardSpec, Mapping[str, str], Path], Judge] = make_judge
    ) -> None:
        self._make = make
        self._known: OrderedDict[str, Guard] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, policy: Policy, *, probe: bool = True) -> dict[str, Guard]:
        """Return the guards that a policy's rules escalate to, made and probed where they are new.

        Args:
            policy: The policy.
            probe: Whether those that are new, and ask for it, are asked once.

        Returns:
            The guards by name.

        Raises:
            PolicyError: One cannot be used; names the guard and the fix.
            SettingsError: The variable of a key is not set, or a package is missing.
            BundleError: A local model cannot be loaded.
        """
        wanted: dict[str, list[str]] = {}
        for rule in policy.rules:
            if rule.escalate is not None:
                wanted.setdefault(rule.escalate.guard, []).append(rule.category)
        with self._lock:
            return {name: self._one(policy, name, keys, probe) for name, keys in wanted.items()}

    def _one(self, policy: Policy, name: str, categories: Sequence[str], probe: bool) -> Guard:
        spec = policy.guards[name]
        rubrics = rubrics_of(policy)
        folder = Path(policy.file).parent if policy.file else Path()
        known = repr((spec, rubrics, str(folder), policy.normalise, sorted(categories)))
        guard = self._known.get(known)
        if guard is None:
            guard = Guard(spec, self._make(spec, rubrics, folder), normalise=policy.normalise)
            if spec.probe and probe:
                _probe(guard, categories, policy)
            self._known[known] = guard
            while len(self._known) > self.MOST:
                self._known.popitem(last=False)
        return guard


def _probe(guard: Guard, categories: Sequence[str], policy: Policy) -> None:
    try:
        guard.probe(categories)
    except KeyError as error:
        raise PolicyError(
            f"guards.{guard.name}: '{error.args[0]}' has no rubric that it could be asked about",
            file=policy.file,
        ) from error
    except GuardrailError as error:
        raise PolicyError(
            f"guards.{guard.name}: {error} (asked once at start; 'probe: false' leaves that out)",
            file=policy.file,
        ) from error


def _logit(probability: float) -> float:
    p = min(max(probability, CLIP), 1.0 - CLIP)
    return math.log(p / (1.0 - p))


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -60.0), 60.0)))
