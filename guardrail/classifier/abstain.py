"""Turns ``abstain:`` into a band of probabilities, with a finite-sample guarantee.

A conformal set (Vovk et al. 2005) holds the answers that cannot be ruled out: "violates" from a
probability on that all but ``1 - confidence`` of the violating texts reach, "safe" below one that
all but as many of the others stay under. Where both are in it, the model abstains. Both ends are
those of `guardrail.classifier.targets`, so that each bound holds with 95 % confidence over the draw
of the calibration data (Vovk 2012, training-conditional validity; Bates et al. 2021), and not only
on average over such draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from guardrail.classifier.targets import Resolved, Scored, resolve
from guardrail.policy import Abstain, Escalate, Measure, OnAbstain, Review, Rule, Target

__all__ = ["Abstention", "abstention", "with_abstention"]

DRAW_CONFIDENCE: Final = 0.95
"""Probability, over the draw of the calibration data, that each bound holds."""


@dataclass(frozen=True, slots=True)
class Abstention:
    """A resolved ``abstain:``.

    Args:
        category: Category key.
        abstain: What was asked for, with its band.
        low: How the lower end was found: a recall.
        high: How the upper end was found: a false-positive rate.
        violating: Share of the violating calibration texts on which the model abstains.
        others: The same of the other texts.
    """

    category: str
    abstain: Abstain
    low: Resolved
    high: Resolved
    violating: float
    others: float


def abstention(category: str, asked: Abstain, scored: Scored) -> Abstention:
    """Find the band in which the model abstains.

    Args:
        category: Category key.
        asked: The ``abstain:`` of its rule.
        scored: Labelled probabilities.

    Returns:
        The band and what it rests on.

    Raises:
        Unsupported: There are too few labelled texts of either kind.
    """
    recall = Target(Measure.RECALL, asked.confidence, DRAW_CONFIDENCE)
    alarms = Target(Measure.FPR, round(1 - asked.confidence, 12), DRAW_CONFIDENCE)
    low, high = (resolve(category, "abstain", target, scored) for target in (recall, alarms))
    found = replace(asked, low=low.threshold, high=high.threshold)
    held = [
        float(((side >= low.threshold) & (side < high.threshold)).mean())
        for side in (scored.positive, scored.negative)
    ]
    return Abstention(category, found, low, high, *held)


def with_abstention(rule: Rule, found: Abstain) -> Rule:
    """Say in a rule's own terms what abstaining means.

    ``block`` and ``flag`` reach down to the band; ``flag`` and ``pass`` leave what is more severe
    to probabilities above it.

    Args:
        rule: The rule, its thresholds resolved.
        found: Its ``abstain:``, resolved.

    Returns:
        The rule as it decides.
    """
    rule = replace(rule, abstain=found)
    low, high = found.low, found.high
    if low is None or high is None or low >= high:
        return rule
    flag, block = rule.flag, rule.block
    if found.action is OnAbstain.REVIEW:
        return replace(rule, review=Review(low, high))
    if found.action is OnAbstain.ESCALATE:
        return replace(rule, escalate=Escalate(low, high, found.guard))
    if found.action is OnAbstain.BLOCK:
        block = low if block is None else min(block, low)
        return replace(rule, block=block, flag=None if flag is None else min(flag, low))
    block = None if block is None else max(block, high)
    if found.action is OnAbstain.FLAG:
        return replace(rule, block=block, flag=low if flag is None else min(flag, low))
    return replace(rule, block=block, flag=None if flag is None else max(flag, high))
