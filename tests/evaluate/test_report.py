"""Reports measure each slice on what is labelled there, and nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from guardrail.evaluate.report import Table, as_json, compare, comparison, markdown, measure
from guardrail.evaluate.rows import HAZARDS, Row, read_rows
from guardrail.evaluate.run import labels_of, score_rows
from tests.evaluate.fakes import Telling

OUTPUTS = ("unsafe", "hate", "privacy")


def row(n: int, unsafe: int | None, text: str, **more: object) -> Row:
    known: dict[str, object] = {"categories": (), "known": (), "weak": ()}
    fields = {"source": "s", "license": "MIT", "role": "user", "split": "dev", "lang": "en"}
    return Row(id=str(n), text=text, prompt=None, unsafe=unsafe, **{**known, **fields, **more})  # type: ignore[arg-type]


def rows(n: int = 60) -> list[Row]:
    half = [row(i, 1, "0.8", categories=("hate",), known=("hate",)) for i in range(n // 2)]
    return half + [row(i, 0, "0.2", role="text") for i in range(n // 2)]


def test_labels_are_known_only_where_the_source_or_a_rule_says_so() -> None:
    assert labels_of(row(0, 1, "", categories=("hate",)), OUTPUTS)[:2] == [1.0, 1.0]
    assert math.isnan(labels_of(row(0, 1, ""), OUTPUTS)[2])
    assert labels_of(row(0, 1, "", known=("privacy",)), OUTPUTS)[2] == 0.0
    assert math.isnan(labels_of(row(0, None, ""), OUTPUTS)[0])


def test_a_harmless_text_is_negative_for_the_fourteen_hazards_only() -> None:
    values = labels_of(row(0, 0, ""), (*HAZARDS, "profanity_toxicity", "jailbreak"))
    assert values[:14] == [0.0] * 14
    assert all(math.isnan(v) for v in values[14:])


def test_a_perfect_model_measures_one_everywhere() -> None:
    measured = {m.slice: m for m in measure(score_rows(Telling(), rows()), rounds=5)}
    assert set(measured) == {"overall", "source:s", "category:hate"}
    assert measured["overall"].auprc.value == measured["category:hate"].auroc.value == 1.0
    assert measured["overall"].rows == 60
    assert measured["overall"].ece.value == pytest.approx(0.2)


def test_every_measure_comes_with_an_interval() -> None:
    table = score_rows(Telling(), rows())
    [overall] = [m for m in measure(table, rounds=100, threshold=0.3) if m.slice == "overall"]
    names = ("auprc", "auroc", "recall_at_1_fpr", "flagged", "f1", "best_f1", "ece", "brier")
    for name in names:
        found = getattr(overall, name)
        assert found.low <= found.value <= found.high
    assert (overall.threshold, overall.f1.value) == (0.3, 1.0)
    assert "flagged at 0.3" in markdown([overall])


def test_lengths_and_languages_are_slices_of_their_own() -> None:
    some = [*rows(), *(row(99 + i, i % 2, "0.5 " + "x" * 100, lang="de") for i in range(30))]
    measured = {m.slice: m for m in measure(score_rows(Telling(), some), rounds=0)}
    assert measured["length:under 80"].rows == measured["language:en"].rows == 60
    assert measured["length:80–319"].rows == measured["language:de"].rows == 30


def test_tests_of_one_class_are_measured_where_asked_for() -> None:
    harmless = [row(i, 0, "0.8" if i < 6 else "0.2", source="xstest:a") for i in range(24)]
    [overall, source] = measure(score_rows(Telling(), harmless), rounds=5, one_class=True)
    assert (overall.slice, source.slice) == ("overall", "source:xstest:a")
    assert source.flagged.value == 0.25
    assert math.isnan(source.auprc.value)
    assert "| – |" in markdown([source])


def test_slices_of_one_class_or_few_rows_are_left_out() -> None:
    few = score_rows(Telling(), rows(10))
    assert measure(few, rounds=0) == []


def test_unknown_labels_do_not_count() -> None:
    table = score_rows(Telling(), [*rows(), row(99, None, "0.99")])
    assert measure(table, rounds=0)[0].rows == 60


def test_comparison_shows_loss_and_flips() -> None:
    table = score_rows(Telling(), rows())
    other = table.probabilities.copy()
    other[:15, 0] = 0.1
    found = {c["slice"]: c for c in compare(table, other)}
    assert found["overall"]["difference"] < 0
    assert found["overall"]["flipped"] == pytest.approx(0.25)
    assert found["category:hate"]["flipped"] == 0.0


def test_a_comparison_has_paired_intervals() -> None:
    table = score_rows(Telling(), rows())
    other = table.probabilities.copy()
    other[:15, 0] = 0.1
    [overall, *_] = compare(table, other, rounds=20)
    assert overall["difference_low"] <= overall["difference"] <= overall["difference_high"] < 0
    assert overall["ece_difference"] > 0
    shown = comparison([overall])
    assert "| overall | 60 | 1.000 |" in shown
    assert " to -" in shown
    assert "difference_low" not in compare(table, other)[0]


def test_reports_write_plain_json_and_a_table() -> None:
    labels = np.array([[1.0, np.nan, np.nan], [0.0, np.nan, np.nan]] * 20)
    table = Table(OUTPUTS, np.full((40, 3), 0.5), labels, ("user",) * 40, ("s",) * 40)
    measured = measure(table, rounds=0)
    assert json.loads(json.dumps(as_json(measured), allow_nan=False))[0]["slice"] == "overall"
    assert markdown(measured).count("\n") == len(measured) + 2


def test_a_broken_data_line_is_named(tmp_path: Path) -> None:
    from guardrail.errors import DataError

    path = tmp_path / "d.jsonl"
    path.write_text('{"id": 1}\n')
    with pytest.raises(DataError, match=r"d\.jsonl:1"):
        list(read_rows(path))
    with pytest.raises(DataError, match="name an existing file"):
        list(read_rows(tmp_path / "none.jsonl"))


def test_plots_are_written_or_the_install_line_is_given(tmp_path: Path) -> None:
    from guardrail.evaluate.plots import draw

    series = {"overall": (np.array([0.0, 1.0, 1.0]), np.array([0.1, 0.6, 0.9]))}
    try:
        draw(series, tmp_path / "p.png")
    except ModuleNotFoundError as error:
        assert "pip install" in str(error)  # noqa: PT017
    else:
        assert (tmp_path / "p.png").stat().st_size > 1000
