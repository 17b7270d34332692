"""From a policy as written to one that can decide: heads fitted, targets resolved."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from guardrail.classifier.abstain import Abstention, abstention, with_abstention
from guardrail.classifier.base import Classifier
from guardrail.classifier.cascade import Guard, Guards
from guardrail.classifier.compose import for_policy
from guardrail.classifier.heads import HeadStore
from guardrail.classifier.labels import Labelled, read_labels
from guardrail.classifier.normalise import NormalisingClassifier
from guardrail.classifier.recalibrated import RecalibratedClassifier
from guardrail.classifier.rubrics import Backdrop, Embedder, fit_head
from guardrail.classifier.targets import Resolved, Scored, Unsupported, read_scores, resolve
from guardrail.errors import PolicyError
from guardrail.policy import Policy, Rule

__all__ = ["Prepared", "PreparedPolicies", "kept_scores", "prepare"]

BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Prepared:
    """A policy that can decide.

    Args:
        policy: The policy; every threshold is a probability.
        classifier: What scores all that it asks for.
        targets: How its targets were resolved.
        guards: The guards that its rules escalate to, by name.
        abstentions: Where the model abstains, by its rules.
    """

    policy: Policy
    classifier: Classifier
    targets: tuple[Resolved, ...] = ()
    guards: Mapping[str, Guard] = field(default_factory=dict)
    abstentions: tuple[Abstention, ...] = ()


def prepare(
    policy: Policy,
    model: Classifier,
    *,
    store: HeadStore | None = None,
    labels: Sequence[Labelled] = (),
) -> Prepared:
    """Make a policy ready: fit its rubrics, resolve its targets.

    Args:
        policy: The policy as loaded.
        model: The embedded classifier, or another for a policy without rubrics and targets.
        store: Where heads are kept; None for the place next to the policy.
        labels: Labelled texts that targets are resolved against as well.

    Returns:
        What `guardrail.check.Checker` and `guardrail.decide` need. Where targets were resolved
        the content hash covers the thresholds, since they are what decides.

    Raises:
        PolicyError: The data cannot support a target.
        BundleError: A target asks for data that the model does not come with.
        DataError: The policy's own labels cannot be read.
    """
    classifier = for_policy(policy, model, store=store)
    if all(rule.resolved for rule in policy.rules):
        return Prepared(policy, classifier)
    data = _Data(policy, model, classifier, labels)
    found: list[Resolved] = []
    unsure: list[Abstention] = []
    rules = []
    for rule in policy.rules:
        resolved = _resolve(rule, data, policy)
        found += resolved
        settled = _with(rule, resolved, policy)
        abstains = _abstention(rule, data, policy)
        if abstains is not None:
            unsure.append(abstains)
            settled = with_abstention(settled, abstains.abstain)
        rules.append(settled)
    ends = [end for one in unsure for end in (one.low, one.high)]
    digest = "".join([policy.content_hash, *(f"{r.level}{r.threshold!r}" for r in (*found, *ends))])
    ready = replace(
        policy,
        rules=tuple(rules),
        content_hash=hashlib.sha256(digest.encode("utf-8")).hexdigest(),
    )
    return Prepared(ready, classifier, tuple(found), abstentions=tuple(unsure))


def _resolve(rule: Rule, data: _Data, policy: Policy) -> list[Resolved]:
    levels = (("flag", rule.flag_target), ("block", rule.block_target))
    try:
        return [
            resolve(rule.category, level, target, data.of(rule))
            for level, target in levels
            if target is not None
        ]
    except Unsupported as refusal:
        raise PolicyError(f"'{rule.category}': {refusal}", file=policy.file) from refusal


def _abstention(rule: Rule, data: _Data, policy: Policy) -> Abstention | None:
    if rule.abstain is None or rule.abstain.resolved:
        return None
    try:
        return abstention(rule.category, rule.abstain, data.of(rule))
    except Unsupported as refusal:
        text = f"'{rule.category}': to abstain at confidence {rule.abstain.confidence:g}: {refusal}"
        raise PolicyError(text, file=policy.file) from refusal


def _with(rule: Rule, resolved: Iterable[Resolved], policy: Policy) -> Rule:
    settled = replace(rule, **{r.level: r.threshold for r in resolved})  # type: ignore[arg-type]
    if settled.flag is not None and settled.block is not None and settled.flag > settled.block:
        raise PolicyError(
            f"'{rule.category}': its targets make it flag from {settled.flag:.4f} and block from "
            f"{settled.block:.4f}, so it would never flag; ask for less of 'flag:' or more of "
            "'block:'",
            file=policy.file,
        )
    return settled


class _Data:
    """Labelled probabilities of each category, scored once."""

    def __init__(
        self,
        policy: Policy,
        model: Classifier,
        classifier: Classifier,
        labels: Sequence[Labelled] = (),
    ) -> None:
        self._model = model
        self._classifier = classifier
        self._rows = list(labels)
        self._source = f"{len(labels):,} labels" if labels else ""
        self._alone = policy.calibration is not None
        if policy.calibration is not None:
            folder = Path(policy.file).parent if policy.file else Path()
            self._rows += read_labels(folder / policy.calibration)
            self._source = " and ".join(filter(None, [policy.calibration, self._source]))
        self._chances: list[dict[str, float]] | None = None
        self._kept: Mapping[str, Scored] | None = None

    def of(self, rule: Rule) -> Scored:
        """Return the author's labels where there are any, else what comes with the model."""
        if self._alone:
            return self._own(rule.category)
        if rule.rubric:  # labels of it are examples by now
            return self._examples(rule)
        if self._kept is None:
            self._kept = kept_scores(self._model)
        empty = Scored(np.zeros(0), np.zeros(0), "no data")
        kept = self._kept.get(rule.category, empty)
        return _joined(kept, self._own(rule.category)) if self._rows else kept

    def _own(self, category: str) -> Scored:
        if self._chances is None:
            samples = [row.sample for row in self._rows]
            parts = (samples[n : n + BATCH] for n in range(0, len(samples), BATCH))
            self._chances = [
                dict(s.categories) for part in parts for s in self._classifier.score(part)
            ]
        sides: dict[bool, list[float]] = {True: [], False: []}
        for row, chances in zip(self._rows, self._chances, strict=True):
            if row.category in (category, None) and category in chances:
                sides[row.violates].append(chances[category])
        return Scored(np.array(sides[True]), np.array(sides[False]), self._source)

    def _examples(self, rule: Rule) -> Scored:
        """Return leave-one-out probabilities of a rubric's own examples."""
        if not isinstance(self._model, Embedder):
            return Scored(np.zeros(0), np.zeros(0), "no data")
        fit = fit_head(rule, self._model, Backdrop.of(self._model))
        return Scored(fit.violates, fit.allowed, "the policy's own examples, each left out once")


def kept_scores(model: Classifier) -> Mapping[str, Scored]:
    """Return the labelled probabilities that come with a model, by category.

    Of a recalibrated one those of the operator's own labels; of a model without a bundle none.

    Raises:
        BundleError: The bundle has none.
    """
    if isinstance(model, RecalibratedClassifier):
        return model.recalibration.scores
    bundle = getattr(model, "bundle", None)
    return read_scores(bundle.folder) if bundle is not None else {}


def _joined(one: Scored, other: Scored) -> Scored:
    if not len(other.positive) + len(other.negative):
        return one
    return Scored(
        np.concatenate([one.positive, other.positive]),
        np.concatenate([one.negative, other.negative]),
        f"{one.source} and {other.source}",
    )


class PreparedPolicies:
    """The policies that one model serves, each prepared once. Safe to call from any thread.

    Policies that ask for nothing beyond the model share one classifier, so that texts of
    different policies are scored in one batch.

    Args:
        model: The model behind all of them.
        guards: Where their guards come from.
    """

    MOST: Final = 64
    """Policies that are remembered; one that was forgotten is prepared again."""

    def __init__(self, model: Classifier, guards: Guards | None = None) -> None:
        self._model = model
        self._guards = guards or Guards()
        self._normalising = NormalisingClassifier(model)
        self._known: OrderedDict[str, Prepared | Exception] = OrderedDict()
        self._lock = threading.RLock()

    def known(self, policy: Policy) -> Prepared | None:
        """Return a policy that is ready or takes no time to be; None for one that does.

        Raises:
            Exception: Preparing it has failed before.
        """
        if not _is_plain(policy):
            found = self._known.get(policy.content_hash)  # no lock: an event loop may ask
            if isinstance(found, Exception):
                raise found
            return found
        return Prepared(policy, self._normalising if policy.normalise else self._model)

    def get(self, policy: Policy, *, probe: bool = True, again: bool = False) -> Prepared:
        """Return a policy, prepared now if it was not before.

        Args:
            policy: The policy as loaded.
            probe: Whether its guards are asked once, where they are new.
            again: Whether it is prepared anew though it was before: its labels, or what kept it
                from being used, may have changed where its own text has not.

        Raises:
            GuardrailError: See `prepare`; the same at every later call but one for it again.
        """
        with self._lock:
            ready = None if again and not _is_plain(policy) else self.known(policy)
            if ready is None:
                try:
                    ready = prepare(policy, self._model)
                    ready = replace(ready, guards=self._guards.of(ready.policy, probe=probe))
                except Exception as error:
                    # What is in force stays usable while its successor is not.
                    if not isinstance(self._known.get(policy.content_hash), Prepared):
                        self._keep(policy.content_hash, error)
                    raise
                self._keep(policy.content_hash, ready)
                self._keep(ready.policy.content_hash, ready)
            return ready

    def _keep(self, key: str, value: Prepared | Exception) -> None:
        self._known[key] = value
        while len(self._known) > self.MOST:
            self._known.popitem(last=False)


def _is_plain(policy: Policy) -> bool:
    return not any(r.rubric or r.matchers or r.escalate or not r.resolved for r in policy.rules)
