"""Draws training examples: sources balanced by temperature, corpus twins, wrapped requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from guardrail.train.corpus import BENIGN, Line, Wrapper, corpus_example, fill, wrap
from guardrail.train.rows import INDEX, Example
from guardrail.types import UNSAFE

__all__ = ["Mixture", "Shares"]

TEMPERATURE = 0.5
"""Exponent of a group's size: 1 draws rows evenly, 0 draws groups evenly."""

# By how much a source is worth more or less than its size says: measured or judged quality of
# its labels, and nearness to what is asked of the model.
EMPHASIS = {
    "wildguardmix_train": 3.0,
    "aegis_train": 1.5,
    "surge_toxicity": 1.5,
    "pyrit_seeds": 1.5,
    "toxigen_prompts": 1.5,
    "advbench": 1.3,
    "cyberseceval_frr": 1.3,
    "davidson_hate_offensive": 0.7,
    "paradetox": 0.7,
    "paradetox_cannot_rewrite": 0.6,
    "gptfuzz_responses": 0.7,
    "diasafety": 0.7,
    "identity_templates": 0.35,
    "sms_spam": 0.4,
    "gpteacher_codegen": 0.6,
    "cyberseceval_interpreter": 0.6,
    "tensor_trust": 0.7,
}

CORE_CHARS = 250
"""Longest request that is put into a wrapper."""

SLOT = "[INSERT PROMPT HERE]"
_SLOT_BEFORE_CHARS, _SLOT_AFTER_CHARS = 700, 400


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the drawn examples; what is left comes from the data files.

    Args:
        corpus: Violating and allowed twins, straight.
        benign: Lines of the benign file.
        wrapped: Requests inside a wrapper or a jailbreak template.
    """

    corpus: float = 0.25
    benign: float = 0.09
    wrapped: float = 0.08


class _Cycle:
    """Draws without replacement, and starts over when all were drawn."""

    def __init__(self, items: Sequence[int], rng: Random) -> None:
        self.items = list(items)
        self._rng = rng
        self._next = len(self.items)

    def draw(self) -> int:
        if self._next >= len(self.items):
            self._rng.shuffle(self.items)
            self._next = 0
        self._next += 1
        return self.items[self._next - 1]


class Mixture:
    """An endless stream of examples.

    Args:
        examples: Labelled rows of the training split.
        lines: Corpus lines of the training families.
        wrappers: Wrappers of the training families.
        seed: Seed of every draw.
        shares: How much of what.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        lines: Sequence[Line],
        wrappers: Sequence[Wrapper],
        seed: int,
        shares: Shares | None = None,
    ) -> None:
        self._rng = Random(seed)  # noqa: S311
        self._examples = examples
        self._lines = lines
        self._wrappers = wrappers
        self._shares = shares or Shares()
        self._groups, self._group_weights = self._group(examples)
        self._twins = self._by_side(lines)
        # A template is worth several lines: each reading fills it anew.
        benign = [
            n
            for n, line in enumerate(lines)
            if line.key == BENIGN
            for _ in range(4 if line.slots else 1)
        ]
        self._benign = _Cycle(benign, self._rng)
        self._cores = self._find_cores()
        self._templates = [e.text for e in examples if SLOT in e.text]

    def _group(self, examples: Sequence[Example]) -> tuple[list[_Cycle], list[float]]:
        members: dict[str, list[int]] = defaultdict(list)
        for number, example in enumerate(examples):
            if example.weights.any():
                members[example.group].append(number)
        weights = [
            len(items) ** TEMPERATURE * EMPHASIS.get(name.split("/")[0], 1.0)
            for name, items in members.items()
        ]
        return [_Cycle(items, self._rng) for items in members.values()], weights

    def _by_side(self, lines: Sequence[Line]) -> list[_Cycle]:
        members: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for number, line in enumerate(lines):
            if line.key != BENIGN:
                members[line.key, line.violates].append(number)
        return [_Cycle(items, self._rng) for items in members.values()]

    def _find_cores(self) -> dict[bool, list[Example | Line]]:
        cores: dict[bool, list[Example | Line]] = {True: [], False: []}
        for example in self._examples:
            short = example.role == "user" and len(example.text) < CORE_CHARS
            if short and SLOT not in example.text and example.weights[INDEX[UNSAFE]] == 1.0:
                cores[bool(example.targets[INDEX[UNSAFE]] > 0.5)].append(example)
        for line in self._lines:
            if line.role == "user" and len(line.text) < CORE_CHARS and line.key not in _ATTACKS:
                # Three times: twins tell more than rows do.
                cores[line.violates].extend([line] * 3)
        return cores

    def _draw_core(self) -> Example:
        harmful = self._rng.random() < 0.5
        pool = self._cores[harmful] or self._cores[not harmful]
        core = self._rng.choice(pool)
        return corpus_example(core, *fill(core, self._rng)) if isinstance(core, Line) else core

    def _wrapped(self) -> Example:
        core = self._draw_core()
        harmful = bool(core.targets[INDEX[UNSAFE]] > 0.5)
        if self._templates and self._rng.random() < 0.2:
            before, _, after = self._rng.choice(self._templates).partition(SLOT)
            text = before[-_SLOT_BEFORE_CHARS:] + core.text + after[:_SLOT_AFTER_CHARS]
            return _wrapped_example(core, text, adversarial=True, harmful=harmful)
        wrapper = self._rng.choice(self._wrappers)
        text = wrap(wrapper, core.text, self._rng)
        return _wrapped_example(core, text, adversarial=wrapper.adversarial, harmful=harmful)

    def draw(self) -> Example:
        """Draw one example."""
        at = self._rng.random()
        shares = self._shares
        can_wrap = self._wrappers and (self._cores[True] or self._cores[False])
        if can_wrap and at < shares.wrapped:
            return self._wrapped()
        if self._twins and at < shares.wrapped + shares.corpus:
            line = self._lines[self._rng.choice(self._twins).draw()]
            return corpus_example(line, *fill(line, self._rng))
        if self._benign.items and at < shares.wrapped + shares.corpus + shares.benign:
            line = self._lines[self._benign.draw()]
            return corpus_example(line, *fill(line, self._rng))
        (cycle,) = self._rng.choices(self._groups, self._group_weights)
        return self._examples[cycle.draw()]

    def __iter__(self) -> Iterator[Example]:
        while True:
            yield self.draw()


_ATTACKS = frozenset(("prompt_injection", "jailbreak"))


def _wrapped_example(core: Example, text: str, *, adversarial: bool, harmful: bool) -> Example:
    """Give a wrapped text its core's labels; the wrapper decides about jailbreak only."""
    targets, weights = core.targets.copy(), core.weights.copy()
    for key in _ATTACKS:
        weights[INDEX[key]] = 0.0
    if adversarial and harmful:
        targets[INDEX["jailbreak"]] = weights[INDEX["jailbreak"]] = 1.0
    elif not adversarial:
        targets[INDEX["jailbreak"]], weights[INDEX["jailbreak"]] = 0.0, 0.7
    return replace(
        core, text=text, role="user", targets=targets, weights=weights, group="wrapped/user"
    )
