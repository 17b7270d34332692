"""A row is left out of training only where two judges contradict its label."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from guardrail.errors import DataError

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from guardrail.train.clean import (
    CleanSettings,
    doubtful_rows,
    linear_chances,
    main,
    read_doubtful,
    summary,
)
from guardrail.train.rows import Row, read_rows
from tests.train import toys


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return list(read_rows(toys.data(tmp_path / "d.jsonl", 200)))


def test_the_linear_judge_contradicts_a_wrong_label_that_it_never_saw(rows: list[Row]) -> None:
    wrong = next(n for n, row in enumerate(rows) if row.unsafe == 1)
    rows[wrong] = replace(rows[wrong], unsafe=0)
    chances = linear_chances(rows, 5)
    assert chances[wrong] > 0.5
    right = [n for n in range(len(rows)) if n != wrong]
    labels = np.array([rows[n].unsafe for n in right])
    assert ((chances[right] > 0.5) == labels).mean() > 0.95


def test_both_judges_must_agree_against_the_label(rows: list[Row]) -> None:
    truth = np.array([float(row.unsafe or 0) for row in rows])
    against = truth.copy()
    against[:2] = 1.0 - against[:2]
    only_first = truth.copy()
    only_first[0] = 1.0 - only_first[0]
    settings = CleanSettings(most=1.0)
    assert doubtful_rows(rows, truth, against, settings) == []
    assert doubtful_rows(rows, against, only_first, settings) == [0]
    assert sorted(doubtful_rows(rows, against, against, settings)) == [0, 1]


def test_no_more_than_a_share_of_a_sources_label_is_left_out(rows: list[Row]) -> None:
    wrong = np.array([1.0 - float(row.unsafe or 0) for row in rows])
    found = doubtful_rows(rows, wrong, wrong, CleanSettings(most=0.1))
    assert 0 < len(found) <= 0.1 * len(rows) + 6  # six sides, each rounded up
    assert "| toy0 | harmless |" in summary(rows, found)


def test_ids_are_read_back_and_a_line_without_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "doubtful.jsonl"
    file.write_text('{"id": "a:1"}\n{"id": "b:2", "unsafe": 1}\n')
    assert read_doubtful(file) == {"a:1", "b:2"}
    file.write_text('{"id": "a:1"}\n{"row": 2}\n')
    with pytest.raises(DataError, match=r"doubtful\.jsonl:2: no id"):
        read_doubtful(file)


def test_the_command_lists_what_the_shipped_bundle_and_words_doubt(tmp_path: Path) -> None:
    data = toys.data(tmp_path / "d.jsonl", 60)
    bundle = Path(__file__).parents[2] / "guardrail/classifier/bundle_data"
    out = tmp_path / "doubtful.jsonl"
    arguments = ["--data", str(data), "--bundle", str(bundle), "--out", str(out)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "| source | label |" in result.output
    assert all("model" in json.loads(line) for line in out.read_text().splitlines())
