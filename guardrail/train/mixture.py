"""Draws training examples: balanced sources, corpus twins, wrapped requests, injected documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from guardrail.train.corpus import BENIGN, Line, Wrapper, corpus_example, fill, wrap
from guardrail.train.inject import Injector
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
    "paradetox": 0.7,
    "paradetox_cannot_rewrite": 0.6,
    "gptfuzz_responses": 0.7,
    "diasafety": 0.7,
    "identity_templates": 0.35,
    "sms_spam": 0.4,
    "gpteacher_codegen": 0.6,
    "cyberseceval_interpreter": 0.6,
    "tensor_trust": 0.7,
    "deepset_prompt_injections": 2.0,
    "bastioncorpus": 1.5,
    "bipia_train": 1.5,
}

# How much more often a key's lines are drawn than their number says: the keys that the rows say
# next to nothing of, and that came out worst.
KEY_EMPHASIS = {
    "intellectual_property": 1.8,
    "self_harm": 2.2,
    "defamation": 1.8,
    "hate": 1.5,
    "harassment": 1.5,
    "misinformation": 2.0,
    "indiscriminate_weapons": 1.4,
    "prompt_injection": 5.0,
    "jailbreak": 1.2,
    "sexual_content": 1.4,
    "violence_graphic": 1.3,
    "privacy": 1.3,
    "elections": 1.3,
    "specialized_advice": 1.3,
    "fraud_scam": 1.2,
    "profanity_toxicity": 0.7,
}

FOCUS_TIMES = 3
"""How often a line of a family in focus is there for each other line."""

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
        injected: Documents with an order to the model, or a harmless aside, put in.
    """

    corpus: float = 0.36
    benign: float = 0.08
    wrapped: float = 0.09
    injected: float = 0.12


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
        focus: Families, by key and name, that the model gets wrong: drawn more often.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        lines: Sequence[Line],
        wrappers: Sequence[Wrapper],
        seed: int,
        shares: Shares | None = None,
        focus: Collection[tuple[str, str]] = (),
    ) -> None:
        self._rng = Random(seed)  # noqa: S311
        self._examples = examples
        self._lines = lines
        self._wrappers = wrappers
        self._shares = shares or Shares()
        self._groups, self._group_weights = self._group(examples)
        self._twins, self._twin_weights = self._by_side(lines, focus)
        self._injector = Injector(examples, lines)
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
        self._ways = self._find_ways()

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

    def _by_side(
        self, lines: Sequence[Line], focus: Collection[tuple[str, str]]
    ) -> tuple[list[_Cycle], list[float]]:
        members: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for number, line in enumerate(lines):
            if line.key != BENIGN:
                times = FOCUS_TIMES if (line.key, line.family) in focus else 1
                members[line.key, line.violates].extend([number] * times)
        weights = [
            len(items) ** TEMPERATURE * KEY_EMPHASIS.get(key, 1.0)
            for (key, _), items in members.items()
        ]
        return [_Cycle(items, self._rng) for items in members.values()], weights

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
        for share, draw in self._ways:
            if at < share:
                return draw()
            at -= share
        return self._row()

    def _find_ways(self) -> list[tuple[float, Callable[[], Example]]]:
        """Ways to draw that the data allows, each with its share."""
        s = self._shares
        can_wrap = self._wrappers and (self._cores[True] or self._cores[False])
        return [
            (share, draw)
            for share, draw, possible in (
                (s.wrapped, self._wrapped, can_wrap),
                (s.corpus, self._twin, self._twins),
                (s.benign, self._harmless, self._benign.items),
                (s.injected, partial(self._injector.draw, self._rng), self._injector.ready),
            )
            if possible
        ]

    def _twin(self) -> Example:
        (cycle,) = self._rng.choices(self._twins, self._twin_weights)
        line = self._lines[cycle.draw()]
        return corpus_example(line, *fill(line, self._rng))

    def _harmless(self) -> Example:
        line = self._lines[self._benign.draw()]
        return corpus_example(line, *fill(line, self._rng))

    def _row(self) -> Example:
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
