"""The loop lists what goes wrong in training families, and measures on held-out ones alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from guardrail.errors import DataError

pytest.importorskip("torch")

from guardrail.classifier.base import Sample
from guardrail.taxonomy import KEYS
from guardrail.train.corpus import Line
from guardrail.train.mixture import Mixture, Shares
from guardrail.train.selftaught import judge, main, read_focus, score_round, table, worklist
from guardrail.types import Coverage, Scores
from tests.train import toys

LINES = [
    Line("drugs", f"f{n}", violates, "user", f"{'sell' if violates else 'buy'} {n}")
    for n in range(80)
    for violates in (True, False)
]
HELD = {line.family for line in LINES if line.dev}
WRONG = next(line.family for line in LINES if not line.dev)


class _Judge:
    """Calls what is sold a drug, and is wrong about one family."""

    model_id = "toy@1"
    categories = KEYS

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        wrong = WRONG.removeprefix("f")
        found = []
        for one in samples:
            sold, number = one.text.split()
            p = 0.9 if (sold == "sell") != (number == wrong) else 0.1
            found.append(Scores(dict.fromkeys((*KEYS, "unsafe"), p), "toy@1", Coverage(1, 1)))
        return found


def test_wrong_training_families_are_listed_and_held_out_ones_never() -> None:
    assert HELD
    chances = judge(_Judge(), LINES)
    (one,) = worklist(LINES, chances, 10)
    assert (one["key"], one["family"]) == ("drugs", WRONG)
    assert {line["label"] for line in one["wrong"]} == {"violates", "allowed"}
    everything_wrong = worklist(LINES, 1.0 - chances, 1000)
    assert not {one["family"] for one in everything_wrong} & HELD


def test_a_round_measures_held_out_families() -> None:
    found = score_round(LINES, judge(_Judge(), LINES), "toy@1")
    (drugs,) = found.keys
    assert drugs.lines == 2 * len(HELD)
    assert drugs.accuracy == drugs.auprc == 1.0
    assert drugs.train_accuracy < 1.0
    assert "| drugs | 1.000 (1.000) |" in table([found])


def test_families_in_focus_are_drawn_more_often(tmp_path: Path) -> None:
    file = tmp_path / "worklist.jsonl"
    file.write_text(json.dumps({"key": "drugs", "family": WRONG}) + "\n")
    twins = Shares(corpus=1.0, benign=0.0, wrapped=0.0, injected=0.0)
    mixture = Mixture([], LINES, [], 1, twins, read_focus(file))
    drawn = [mixture.draw().text.split()[1] for _ in range(3000)]
    assert drawn.count(WRONG.removeprefix("f")) > 2 * len(drawn) / 80


def test_a_worklist_line_without_a_family_is_named(tmp_path: Path) -> None:
    file = tmp_path / "worklist.jsonl"
    file.write_text('{"key": "drugs"}\n')
    with pytest.raises(DataError, match=r"worklist\.jsonl:1: no key and family"):
        read_focus(file)


def test_the_command_adds_a_round_to_those_before(tmp_path: Path) -> None:
    corpus = toys.corpus(tmp_path / "corpus")
    rounds, out = tmp_path / "rounds.json", tmp_path / "worklist.jsonl"
    arguments = ["--corpus", str(corpus), "--out", str(out), "--rounds", str(rounds)]
    for number in (1, 2):
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert len(json.loads(rounds.read_text())) == number
    assert "round 1" in result.output
    assert np.isfinite(json.loads(rounds.read_text())[0]["accuracy"])
