"""Labelled texts are read, or refused with their line."""

from __future__ import annotations

import pytest

from guardrail.classifier.labels import read_labels
from guardrail.errors import DataError

ROW = '{"text": "a", "violates": true, "category": "hate", "role": %s}'


@pytest.mark.parametrize("line", [ROW % "[]", ROW % "{}", ROW % "3", "[" * 100_000])
def test_a_line_of_any_other_shape_is_named(tmp_path, line: str) -> None:
    (tmp_path / "l.jsonl").write_text(ROW % '"user"' + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"l\.jsonl:2: "):
        read_labels(tmp_path / "l.jsonl")
