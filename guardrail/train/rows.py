"""Turns the labels of rows into masked targets.

A label is worth what its source says: a key that a source never looked at is unknown, not
absent. Every target therefore has a weight, 0 where nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrail.evaluate.rows import HAZARDS, Row, read_rows
from guardrail.taxonomy import KEYS
from guardrail.types import UNSAFE

__all__ = ["INDEX", "OUTPUTS", "Example", "Row", "example", "near", "read_rows"]

OUTPUTS: tuple[str, ...] = (UNSAFE, *KEYS)
"""Names of the model's outputs, in order."""

INDEX = {name: position for position, name in enumerate(OUTPUTS)}

# Keys that a text judged harmless overall almost surely does not have either; half weight,
# since no annotator was asked. Profanity and the two attack keys are not among them: a harmless
# text may swear, or carry an injection.
IMPLIED = (
    "cybercrime",
    "drugs",
    "fraud_scam",
    "misinformation",
    "violence_graphic",
    "harassment",
)
IMPLIED_WEIGHT = 0.5

# Keys with too few labelled positives: keyword labels help there, at a third of a label's worth.
THIN = frozenset(
    [
        "indiscriminate_weapons",
        "sex_crimes",
        "child_exploitation",
        "self_harm",
        "sexual_content",
        "defamation",
        "intellectual_property",
        "elections",
        "misinformation",
    ]
)
THIN_WEIGHT = 0.3

# Sources whose rows are plain requests, posts or answers by the way they were made, so that the
# attack keys are negative although nobody labelled them.
PLAIN = frozenset(
    [
        "gpteacher_codegen",
        "gpteacher_roleplay",
        "wiki_talk_context_toxicity",
        "sms_spam",
        "aart",
        "harmfulqa",
        "catqa",
        "advbench",
        "davidson_hate_offensive",
        "paradetox",
        "cyberseceval_frr",
        "diasafety",
    ]
)
PLAIN_WEIGHT = 0.3

# Prompts of these sources that are harmless although many are framed like attacks: nothing that a
# model should refuse is asked for, so that blocking them as jailbreaks would be wrong.
FRAMED = frozenset(["wildguardmix_train"])
FRAMED_WEIGHT = 0.5

# Toxic comments without an overall label: moderation rules count most of them, not all.
TOXIC_UNSAFE_WEIGHT = {"paradetox": 0.3, "paradetox_cannot_rewrite": 0.4}

# Keys that a text about another key of the cluster may well have too.
_CLUSTERS = (
    "violent_crimes indiscriminate_weapons violence_graphic hate harassment self_harm "
    "nonviolent_crimes child_exploitation sex_crimes",
    "sex_crimes child_exploitation sexual_content harassment privacy violent_crimes",
    "nonviolent_crimes fraud_scam cybercrime drugs privacy intellectual_property "
    "code_interpreter_abuse indiscriminate_weapons elections specialized_advice",
    "defamation misinformation elections hate harassment specialized_advice privacy fraud_scam",
    "prompt_injection jailbreak code_interpreter_abuse cybercrime privacy fraud_scam",
    "profanity_toxicity harassment hate sexual_content violent_crimes",
    "specialized_advice self_harm drugs misinformation",
)
_NEAR = {
    key: frozenset(k for c in _CLUSTERS if key in c.split() for k in c.split()) for key in KEYS
}

# Sources whose categories come from the topic that a request was written for: other topics are
# negative, surely enough where they are far.
TOPICAL = frozenset(("aart", "catqa", "cyberseceval_interpreter"))
TOPICAL_FAR_WEIGHT, TOPICAL_NEAR_WEIGHT = 0.5, 0.1

# Keys so rare among harmful texts that not being named is evidence of a kind.
RARE = (
    "child_exploitation",
    "indiscriminate_weapons",
    "sex_crimes",
    "elections",
    "defamation",
    "intellectual_property",
)
RARE_WEIGHT = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One text with masked targets.

    Args:
        text: The text to judge.
        role: ``user``, ``assistant`` or ``text``.
        prompt: The user turn before an assistant's reply, or None.
        targets: float32 (outputs,), in [0, 1].
        weights: float32 (outputs,); 0 where the target is unknown.
        group: Source and role, the unit of balancing.
    """

    text: str
    role: str
    prompt: str | None
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    group: str

    @property
    def positive(self) -> bool:
        """Whether any known target is positive."""
        return bool(((self.targets > 0.5) & (self.weights > 0)).any())


def _set(
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
    keys: Iterable[str],
    value: float,
    weight: float,
) -> None:
    for key in keys:
        position = INDEX.get(key)
        if position is not None and weights[position] < weight:
            targets[position], weights[position] = value, weight


def near(*keys: str) -> frozenset[str]:
    """Return the keys that a text of the given keys may well have too, those included."""
    return frozenset().union(*(_NEAR[key] for key in keys if key in _NEAR))


def example(row: Row) -> Example:
    """Turn a row's labels into masked targets.

    Args:
        row: The row.

    Returns:
        The example; stronger evidence wins where two rules speak of one key.
    """
    targets = np.zeros(len(OUTPUTS), dtype=np.float32)
    weights = np.zeros(len(OUTPUTS), dtype=np.float32)
    if row.unsafe is not None:
        _set(targets, weights, (UNSAFE,), float(row.unsafe), 1.0)
    elif "profanity_toxicity" in row.categories and row.source in TOXIC_UNSAFE_WEIGHT:
        _set(targets, weights, (UNSAFE,), 1.0, TOXIC_UNSAFE_WEIGHT[row.source])
    _set(targets, weights, row.categories, 1.0, 1.0)
    _set(targets, weights, (k for k in row.known if k not in row.categories), 0.0, 1.0)
    if row.unsafe == 0:
        _set(targets, weights, HAZARDS, 0.0, 0.99)
        _set(targets, weights, IMPLIED, 0.0, IMPLIED_WEIGHT)
    if row.unsafe == 1:
        _set(targets, weights, (k for k in row.weak if k in THIN), 1.0, THIN_WEIGHT)
        if row.source in TOPICAL and row.categories:
            close = near(*row.categories)
            _set(targets, weights, (k for k in KEYS if k not in close), 0.0, TOPICAL_FAR_WEIGHT)
            _set(targets, weights, KEYS, 0.0, TOPICAL_NEAR_WEIGHT)
        _set(targets, weights, RARE, 0.0, RARE_WEIGHT)
    if row.source in FRAMED and row.unsafe == 0:
        _set(targets, weights, ("jailbreak",), 0.0, FRAMED_WEIGHT)
    if row.source in PLAIN:
        _set(targets, weights, ("prompt_injection", "jailbreak"), 0.0, PLAIN_WEIGHT)
    group = f"{row.source}/{row.role}"
    return Example(row.text, row.role, row.prompt, targets, weights, group)
