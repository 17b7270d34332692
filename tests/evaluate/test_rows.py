"""Rows of labelled text are read, or refused with their file."""

from __future__ import annotations

import gzip

import pytest

from guardrail.errors import DataError
from guardrail.evaluate.rows import read_rows

ROW = b'{"text": "a", "unsafe": 1}\n'


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
