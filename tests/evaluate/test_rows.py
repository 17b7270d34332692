"""Rows of labelled text are read, or refused with their file."""

from __future__ import annotations

import gzip
import json

import pytest

from guardrail.errors import DataError
from guardrail.evaluate.rows import read_rows

ROW = b'{"text": "a", "unsafe": 1}\n'


@pytest.mark.parametrize("names", ["hate", [["hate"]], {"hate": 1}, 3])
@pytest.mark.parametrize("field", ["categories", "categories_known", "weak_categories"])
def test_names_are_a_list_or_the_line_is_refused(tmp_path, field: str, names) -> None:
    line = json.dumps({"text": "a", "unsafe": 1, field: names})
    (tmp_path / "r.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=rf"r\.jsonl:1: .*{field} must be a list"):
        list(read_rows(tmp_path / "r.jsonl"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("r.jsonl", ROW + b"[" * 100_000),
        ("r.jsonl", ROW + b"\xff"),
        ("r.jsonl.gz", gzip.compress(ROW * 9)[:-9]),
    ],
    ids=["too deep", "not UTF-8", "cut short"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=name):
        list(read_rows(tmp_path / name))
