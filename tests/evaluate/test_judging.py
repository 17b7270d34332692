"""Files are judged in order, go on where they stopped, and are measured honestly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardrail.classifier.judge import Judgement
from guardrail.classifier.questions import RUBRICS, Exchange, Rubric
from guardrail.classifier.scaling import Method
from guardrail.errors import DataError
from guardrail.evaluate import judging
from guardrail.evaluate.judging import judge_file, pairs_file, rank_file, read_cases
from guardrail.evaluate.preferences import labelled, preferences, read_lines, words
from guardrail.types import Role

TONE = [RUBRICS["tone"]]


class ByNumber:
    """Reads its logit from the text."""

    model_id = "number@0"

    def __init__(self, fail_after: int = 10**9) -> None:
        self.seen: list[Exchange] = []
        self.fail_after = fail_after

    def judge(
        self, exchanges: Sequence[Exchange], rubrics: Sequence[Rubric]
    ) -> list[list[Judgement]]:
        self.seen += exchanges
        if len(self.seen) > self.fail_after:
            raise RuntimeError("stopped")
        return [[self._one(e, r) for r in rubrics] for e in exchanges]

    def _one(self, exchange: Exchange, rubric: Rubric) -> Judgement:
        z = float(exchange.text)
        return Judgement(rubric.key, 1 / (1 + np.exp(-z)), z, 1.0)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "CHUNK", 3)


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_gets_its_judgement_in_order(tmp_path: Path) -> None:
    rows = [{"id": n, "text": str(n), "label": n % 2, "prompt": "p"} for n in range(7)]
    done = judge_file(ByNumber(), TONE, write(tmp_path / "a", rows), tmp_path / "b")
    assert (done.judged, done.resumed, done.bad) == (7, 0, 0)
    out = lines(tmp_path / "b")
    assert [o["id"] for o in out] == list(range(7))
    assert out[3]["rubrics"]["tone"] == {
        "probability": pytest.approx(0.952574),
        "logit": 3.0,
        "answered": 1.0,
        "truncated": False,
    }
    assert out[3]["label"] == 1


def test_a_stopped_run_ends_like_a_whole_one(tmp_path: Path) -> None:
    data = write(tmp_path / "a", [{"id": n, "text": str(n)} for n in range(10)])
    judge_file(ByNumber(), TONE, data, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="stopped"):
        judge_file(ByNumber(fail_after=7), TONE, data, tmp_path / "b")
    judge = ByNumber()
    done = judge_file(judge, TONE, data, tmp_path / "b")
    assert (done.judged, done.resumed) == (4, 6)
    assert len(judge.seen) == 4
    assert (tmp_path / "b").read_bytes() == (tmp_path / "whole").read_bytes()


def test_the_role_is_the_assistants_where_there_is_a_prompt(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "text": "a"},
        {"id": 2, "text": "a", "prompt": "b", "context": "c", "reference": "d"},
        {"id": 3, "text": "a", "role": "user", "label": None},
    ]
    cases = list(read_cases(write(tmp_path / "a", rows)))
    assert [c.exchange.role for c in cases] == [Role.TEXT, Role.ASSISTANT, Role.USER]
    assert (cases[1].exchange.context, cases[1].exchange.reference) == ("c", "d")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "id must be"),
        ({"id": 1}, "text must be a string"),
        ({"id": 1, "text": "a", "prompt": 3}, "prompt must be a string"),
        ({"id": 1, "text": "a", "label": 2}, "label must be 0, 1"),
        ({"id": 1, "text": "a", "role": "king"}, "king"),
        ([], "not an object"),
    ],
)
def test_a_wrong_line_is_named_or_skipped(tmp_path: Path, row: Any, message: str) -> None:
    data = write(tmp_path / "a", [{"id": 0, "text": "0"}, row])
    with pytest.raises(DataError, match=f":2: .*{message}"):
        judge_file(ByNumber(), TONE, data, tmp_path / "b")
    done = judge_file(ByNumber(), TONE, data, tmp_path / "c", skip_bad=True)
    assert (done.judged, done.bad) == (1, 1)


def test_candidates_are_ranked_best_first(tmp_path: Path) -> None:
    data = write(tmp_path / "a", [{"id": "x", "candidates": ["1", "3", "2"], "prompt": "p"}])
    rank_file(ByNumber(), TONE, data, tmp_path / "b")
    (out,) = lines(tmp_path / "b")
    assert (out["best"], out["order"]) == (1, [1, 2, 0])
    assert out["scores"] == pytest.approx([1, 3, 2], abs=1e-4)


@pytest.mark.parametrize("candidates", [[], "a", [1], ["a"] * 65])
def test_wrong_candidates_are_refused(tmp_path: Path, candidates: Any) -> None:
    data = write(tmp_path / "a", [{"id": "x", "candidates": candidates}])
    with pytest.raises(DataError, match="candidates must be"):
        rank_file(ByNumber(), TONE, data, tmp_path / "b")


def test_a_harmful_rubric_turns_the_margin_of_a_pair(tmp_path: Path) -> None:
    data = write(tmp_path / "a", [{"id": 1, "prompt": "p", "chosen": "1", "rejected": "3"}])
    pairs_file(ByNumber(), TONE, data, tmp_path / "b")
    pairs_file(ByNumber(), [RUBRICS["safety"]], data, tmp_path / "c")
    assert lines(tmp_path / "b")[0]["margin"] == pytest.approx(-2, abs=1e-4)
    assert lines(tmp_path / "c")[0]["margin"] == pytest.approx(2, abs=1e-4)


def test_a_limit_ends_a_run_early(tmp_path: Path) -> None:
    data = write(tmp_path / "a", [{"id": n, "text": "0"} for n in range(9)])
    assert judge_file(ByNumber(), TONE, data, tmp_path / "b", limit=4).judged == 4


def test_pairs_are_measured_with_an_interval_and_ties_count_half() -> None:
    found = preferences([{"margin": m} for m in (1.0, 2.0, -1.0, 0.0)])
    assert (found.pairs, found.ties) == (4, 1)
    assert found.right == pytest.approx(0.625)
    assert found.low < found.right < found.high
    assert "right on 0.625 of 4 pairs" in words(found)


def test_an_overconfident_judge_is_cooled_by_other_folds() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(0, 1, 4000)
    side = np.where(rng.random(4000) < 1 / (1 + np.exp(-true)), 1, -1)
    found = preferences([{"margin": float(m)} for m in 5 * true * side])
    assert found.temperature == pytest.approx(0.2, abs=0.03)
    assert found.ece > 0.2
    assert found.ece_fitted < 0.03


def test_labels_are_measured_out_of_the_fold_that_fitted() -> None:
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(400):
        z = float(rng.normal(0, 2))
        rows.append(
            {
                "label": int(rng.random() < 1 / (1 + np.exp(-z))),
                "rubrics": {
                    "tone": {"logit": 4 * z - 3, "probability": 1 / (1 + np.exp(3 - 4 * z))}
                },
            }
        )
    found = labelled(rows, "tone")
    assert found is not None
    measured, scaling = found
    assert measured.method is scaling.method is Method.PLATT
    assert scaling.slope == pytest.approx(0.25, abs=0.05)
    assert measured.ece_fitted < measured.ece
    assert measured.brier_fitted < measured.brier
    assert measured.auroc > 0.8


def test_where_no_line_has_a_label_there_is_nothing_to_measure() -> None:
    assert labelled([{"rubrics": {"tone": {"logit": 0, "probability": 0.5}}}], "tone") is None


def test_lines_of_another_model_are_not_gone_on_with(tmp_path: Path) -> None:
    data = write(tmp_path / "a", [{"id": n, "text": str(n)} for n in range(4)])
    judge_file(ByNumber(), TONE, data, tmp_path / "b")
    other = ByNumber()
    other.model_id = "other@1"  # type: ignore[misc]
    with pytest.raises(DataError, match="written by number@0, and this is other@1; pass --restart"):
        judge_file(other, TONE, data, tmp_path / "b")
    judge_file(other, TONE, data, tmp_path / "b", restart=True)
    assert {line["model"] for line in lines(tmp_path / "b")} == {"other@1"}


def test_lines_of_another_kind_are_not_measured(tmp_path: Path) -> None:
    data = write(tmp_path / "a", [{"id": 1, "text": "1", "chosen": "2", "rejected": "1"}])
    judge_file(ByNumber(), TONE, data, tmp_path / "b")
    pairs_file(ByNumber(), TONE, data, tmp_path / "b")
    with pytest.raises(DataError, match="no 'margin'"):
        read_lines(tmp_path / "b", "margin")
    assert len(read_lines(tmp_path / "b", "rubrics")) == 1
