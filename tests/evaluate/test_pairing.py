"""What scoring by both models promises."""

from __future__ import annotations

import json

import numpy as np
import pytest

from guardrail.classifier.base import Sample
from guardrail.classifier.cascade import Guard
from guardrail.errors import CheckError, DataError
from guardrail.evaluate.pairing import Case, pair_up, read_cases
from guardrail.policy import GuardKind, GuardSpec
from guardrail.types import Role, Scores


class Big:
    model_id = "big@1"
    categories = ()

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    def score(self, samples):
        return self.ask(samples, ())

    def ask(self, samples, categories):
        if self.down:
            raise CheckError("down", reason="unavailable")
        self.asked += [s.text for s in samples]
        return [Scores(dict.fromkeys(categories, 0.9 if "BAD" in s.text else 0.2)) for s in samples]


CASES = [Case(Sample(f"{'BAD' if n % 4 == 0 else 'fine'} {n}"), n % 4 == 0) for n in range(100)]


def guard(big: Big) -> Guard:
    return Guard(GuardSpec("g", GuardKind.LOCAL, model="x", cache=0), big)


def test_both_numbers_stand_beside_the_label(marker) -> None:
    done: list[int] = []
    found = pair_up(CASES, "unsafe", marker, guard(Big()), on_done=done.append)
    assert found.pairs.labels.sum() == 25
    assert np.allclose(found.pairs.small[found.pairs.labels == 1], 0.99)
    assert np.allclose(found.pairs.big[found.pairs.labels == 0], 0.2)
    assert (sum(done), found.failed) == (100, 0)
    assert found.seconds_small > 0


def test_a_run_goes_on_where_it_stopped_and_the_file_holds_no_text(marker, tmp_path) -> None:
    path, big = tmp_path / "s.jsonl", Big()
    pair_up(CASES[:40], "unsafe", marker, guard(big), path)
    with path.open("a") as out:
        out.write('{"id": "cut off')
    pair_up(CASES, "unsafe", marker, guard(big), path)
    assert len(big.asked) == 100
    lines = path.read_text().splitlines()
    assert len(lines) == 101
    assert all(json.loads(line) for line in lines)
    assert "fine" not in path.read_text()
    again = pair_up(CASES, "unsafe", marker, guard(big), path)
    assert (len(big.asked), len(again.pairs)) == (100, 100)


def test_the_scores_of_another_model_or_garbage_are_refused(marker, tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    pair_up(CASES, "unsafe", marker, guard(Big()), path)
    with pytest.raises(DataError, match="another model, guard or category"):
        pair_up(CASES, "hate", marker, guard(Big()), path)
    path.write_text(path.read_text().replace('"big"', '"bog"'))
    with pytest.raises(DataError, match=r"s\.jsonl:2"):
        pair_up(CASES, "unsafe", marker, guard(Big()), path)


def test_a_guard_that_fails_too_often_ends_the_run(marker) -> None:
    big = Big()
    big.down = True
    with pytest.raises(DataError, match="fails too often"):
        pair_up(CASES, "unsafe", marker, guard(big))


def test_labels_and_training_rows_are_read_alike(tmp_path) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text(
        '{"text": "a", "violates": true, "category": "hate"}\n'
        '{"text": "b", "violates": false}\n'
        '{"text": "c", "violates": true, "category": "drugs", "role": "assistant", "prompt": "p"}\n'
    )
    assert [c.violates for c in read_cases(labels, "hate")] == [True, False]
    assert read_cases(labels, "unsafe")[2] == Case(Sample("c", Role.ASSISTANT, "p"), True)
    rows = tmp_path / "rows.jsonl"
    plain = {"id": "1", "source": "s", "role": "user", "text": "a", "unsafe": 1}
    more = [
        {**plain, "categories": ["hate"]},
        {**plain, "text": "b", "unsafe": 0, "split": "dev"},
        {**plain, "text": "c", "unsafe": None, "categories_known": ["drugs"]},
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in more))
    assert [(c.sample.text, c.violates) for c in read_cases(rows, "hate")] == [
        ("a", True),
        ("b", False),
    ]
    assert [c.sample.text for c in read_cases(rows, "drugs")] == ["c"]
    assert [c.violates for c in read_cases(rows, "unsafe")] == [True, False]
    assert len(read_cases(rows, "unsafe", split="dev")) == 1
    assert len(read_cases(rows, "unsafe", limit=1)) == 1
    with pytest.raises(DataError, match="no text has a label for 'privacy'"):
        read_cases(rows, "privacy", split="train")
    with pytest.raises(DataError, match="cannot be read"):
        read_cases(tmp_path / "none.jsonl", "hate")
