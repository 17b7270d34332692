"""The train command fits, writes a bundle and shows its measures."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("onnx")

from guardrail.classifier.bundle import Bundle
from guardrail.cli.train import train_command
from tests.train import toys


def test_one_command_leads_from_rows_to_a_described_bundle(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    data = toys.data(tmp_path / "d.jsonl", 120)
    arguments = ["--data", str(data), "--out", str(out), "--steps", "3", "--gauge", str(data)]
    arguments += ["--base", str(toys.base(tmp_path / "base")), "--threads", "2"]
    arguments += ["--corpus", str(toys.corpus(tmp_path / "corpus"))]
    result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "| overall |" in result.output
    assert Bundle.open(out).manifest["training"]["steps"] == 3
    card = (out / "MODEL_CARD.md").read_text()
    assert "## Measures on other sources" in card
    assert "## What int8 cost" in card
