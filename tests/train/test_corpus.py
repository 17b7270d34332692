"""The contrast corpus keeps its promises, and reading it names every mistake."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest

from guardrail.errors import DataError
from guardrail.taxonomy import KEYS

pytest.importorskip("torch")

from guardrail.train.corpus import (
    BENIGN,
    TRAIN_ONLY,
    Line,
    Wrapper,
    corpus_example,
    expansions,
    fill,
    read_corpus,
    read_wrappers,
    wrap,
)
from guardrail.train.rows import INDEX

LINES = read_corpus()
WRAPPERS = read_wrappers()
LEAST = 150
"""Lines on each side of each key."""


def of(key: str) -> list[Line]:
    return [line for line in LINES if line.key == key]


@pytest.mark.parametrize("key", KEYS)
def test_each_key_has_enough_lines_on_both_sides(key: str) -> None:
    sides = Counter(line.violates for line in of(key))
    assert sides[True] >= LEAST
    assert sides[False] >= LEAST


@pytest.mark.parametrize("key", KEYS)
def test_violating_lines_have_twins(key: str) -> None:
    sides = defaultdict(set)
    for line in of(key):
        sides[line.family].add(line.violates)
    lonely = [family for family, found in sides.items() if found == {True}]
    assert len(lonely) <= 0.1 * len(sides)


@pytest.mark.parametrize("key", KEYS)
def test_the_label_does_not_show_in_the_length(key: str) -> None:
    words = {
        side: [len(line.text.split()) for line in of(key) if line.violates is side]
        for side in (True, False)
    }
    mean = {side: sum(counts) / len(counts) for side, counts in words.items()}
    assert 0.6 < mean[True] / mean[False] < 1.6


def test_no_text_stands_there_twice_with_different_labels() -> None:
    seen: dict[tuple[str, str, str], Line] = {}
    for line in LINES:
        plain = re.sub(r"\W+", " ", line.text.lower()).strip()
        name = (plain or line.text, line.prompt or "", line.role)
        before = seen.setdefault(name, line)
        assert before is line or before.violates == line.violates or before.key != line.key


def test_families_are_held_out_whole_and_in_fair_share() -> None:
    families: dict[tuple[str, str], set[bool]] = defaultdict(set)
    for line in LINES:
        families[line.key, line.family].add(line.dev)
    assert all(len(held) == 1 for held in families.values())
    mending = [line.family.startswith(TRAIN_ONLY) for line in LINES]
    held = [line.dev for line, only in zip(LINES, mending, strict=True) if not only]
    assert 0.08 < sum(held) / len(held) < 0.16
    assert sum(held) == sum(line.dev for line in LINES)


def test_every_line_fills_without_leftovers() -> None:
    rng = Random(0)
    for line in LINES:
        text, prompt = fill(line, rng)
        for name in line.slots:
            assert f"{{{name}}}" not in text + (prompt or "")


def test_expansions_differ_and_stay_within_the_limit() -> None:
    line = Line("hate", "f", True, "user", "{a} {b}", slots={"a": ("1", "2"), "b": ("3", "4")})
    assert len({text for text, _ in expansions(line, 3)}) == 3
    assert len(list(expansions(line, 99))) == 4


def test_wrappers_hold_a_core_and_come_in_both_kinds() -> None:
    kinds = Counter(wrapper.adversarial for wrapper in WRAPPERS)
    assert min(kinds[True], kinds[False]) >= 50
    rng = Random(0)
    for wrapper in WRAPPERS:
        assert "THE CORE" in wrap(wrapper, "THE CORE", rng)


def test_a_core_that_looks_like_a_slot_is_not_filled() -> None:
    wrapper = Wrapper("w", True, "{a}: {core}", {"a": ("x",)})
    assert wrap(wrapper, "use {a} and {core}", Random(0)) == "x: use {a} and {core}"


def test_allowed_lines_are_negative_for_everything() -> None:
    line = Line("hate", "f", False, "user", "text")
    one = corpus_example(line, "text", None)
    assert not one.targets.any()
    assert (one.weights == 1).all()


def test_violating_lines_are_positive_for_their_keys_and_hardly_negative_for_near_ones() -> None:
    line = Line("hate", "f", True, "user", "text", also=("defamation",))
    one = corpus_example(line, "text", None)
    assert one.targets[INDEX["unsafe"]] == one.weights[INDEX["unsafe"]] == 1
    assert one.targets[INDEX["hate"]] == one.targets[INDEX["defamation"]] == 1
    assert 0 < one.weights[INDEX["harassment"]] < 0.5
    assert one.weights[INDEX["jailbreak"]] == 1
    assert one.targets[INDEX["harassment"]] == one.targets[INDEX["jailbreak"]] == 0


def test_adult_content_is_surely_no_child_exploitation_unless_the_line_says_so() -> None:
    adult = corpus_example(Line("sexual_content", "f", True, "user", "t"), "t", None)
    assert adult.weights[INDEX["child_exploitation"]] == 1
    assert adult.targets[INDEX["child_exploitation"]] == 0
    both = Line("sexual_content", "f", True, "user", "t", also=("child_exploitation",))
    assert corpus_example(both, "t", None).targets[INDEX["child_exploitation"]] == 1


@pytest.mark.parametrize("key", ["prompt_injection", "jailbreak"])
def test_an_attack_alone_says_nothing_of_unsafe(key: str) -> None:
    line = Line(key, "f", True, "user", "text")
    assert corpus_example(line, "text", None).weights[INDEX["unsafe"]] == 0


GOOD = {"family": "f", "label": "violates", "role": "user", "text": "t"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "bad"}, "label is 'bad'; write violates or allowed"),
        ({"role": "king"}, "role is 'king'"),
        ({"also": ["nonsense"]}, "unknown keys"),
        ({"text": "{a}"}, "uses slots"),
        ({"slots": {"a": ["x"]}}, "slots has"),
        ({"extra": 1}, "unknown fields"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    (tmp_path / "hate.jsonl").write_text(json.dumps({**GOOD, **change}) + "\n")
    with pytest.raises(DataError, match=rf"hate\.jsonl:1: .*{message}"):
        read_corpus(tmp_path)


def test_a_file_of_no_category_and_a_wrapper_without_core_are_named(tmp_path: Path) -> None:
    (tmp_path / "wrappers.jsonl").write_text('{"family": "f", "text": "no core"}\n')
    with pytest.raises(DataError, match=r"wrappers\.jsonl:1: .*core"):
        read_wrappers(tmp_path)
    (tmp_path / "nonsense.jsonl").write_text(json.dumps(GOOD) + "\n")
    with pytest.raises(DataError, match="not named after a category"):
        read_corpus(tmp_path)
    assert BENIGN not in KEYS
