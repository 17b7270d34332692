"""`guardrail calibrate`, and its file in `check`, `score` and `serve`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from guardrail.classifier.bundle import Bundle
from guardrail.cli import cli
from guardrail.errors import BundleError, DataError


def run(*arguments: str):
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def scored(tmp_path: Path, n: int = 120) -> tuple[Path, Path]:
    """Write labels, and scores of a classifier that is far too sure of harm."""
    data, scores = tmp_path / "labels.jsonl", tmp_path / "scores.jsonl"
    with data.open("w") as rows, scores.open("w") as chances:
        for i in range(n):
            p = (i % 10) / 10 + 0.05
            unsafe = int(i % 10 == 9 or (i % 10 > 5 and i % 3 == 0))
            rows.write(json.dumps({"id": i, "text": f"text {i}", "unsafe": unsafe}) + "\n")
            chances.write(json.dumps({"id": i, "unsafe": p}) + "\n")
    return data, scores


def test_labels_become_a_calibration_that_is_measured(tmp_path: Path) -> None:
    data, scores = scored(tmp_path)
    out, plot = tmp_path / "own.json", tmp_path / "own.png"
    done = run(
        "calibrate", "--data", data, "--scores", scores, "--model", "mine@1", "--out", out,
        "--plot", plot, "--rounds", "30",
    )  # fmt: skip
    assert done.exit_code == 0
    assert "| overall | 120 | 24 | platt |" in done.output
    assert "unsafe, as it came" in done.output
    assert "on rows not fitted on" in done.output
    assert "gain more than chance explains" in done.output
    assert json.loads(out.read_text())["model"] == "mine@1"
    assert plot.stat().st_size > 1000 or "no plot" in done.output


def test_a_plot_that_cannot_be_written_costs_no_calibration(tmp_path: Path) -> None:
    data, scores = scored(tmp_path)
    out = tmp_path / "own.json"
    done = run(
        "calibrate", "--data", data, "--scores", scores, "--model", "mine@1", "--out", out,
        "--plot", tmp_path / "missing" / "own.png", "--rounds", "0",
    )  # fmt: skip
    assert done.exit_code == 0
    assert "no plot" in done.output
    assert out.exists()


def test_it_belongs_to_the_model_that_it_was_fitted_on(tmp_path: Path) -> None:
    data, scores = scored(tmp_path)
    out = tmp_path / "own.json"
    run("calibrate", "--data", data, "--scores", scores, "--model", "mine@1", "--out", out,
        "--rounds", "0")  # fmt: skip
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"id": 1, "text": "hello"}\n')
    for command in (
        ("check", "--calibration", out, "hello"),
        ("score", "--calibration", out, "--data", texts, "--out", tmp_path / "s"),
    ):
        with pytest.raises(BundleError, match="fitted on model mine@1, and this is guardrail-"):
            run(*command)


def test_check_and_score_use_it(tmp_path: Path) -> None:
    data, scores = scored(tmp_path)
    out, model = tmp_path / "own.json", Bundle.open().model_id
    run("calibrate", "--data", data, "--scores", scores, "--model", model, "--out", out,
        "--rounds", "0")  # fmt: skip
    text = "I will kill you"
    plain = json.loads(run("check", "--json", text).output)
    own = json.loads(run("check", "--json", "--calibration", out, text).output)
    assert own["probabilities"]["unsafe"] < plain["probabilities"]["unsafe"]
    assert "+calibration@" in own["model"]
    texts, done = tmp_path / "texts.jsonl", tmp_path / "done.jsonl"
    texts.write_text(json.dumps({"id": 1, "text": text, "role": "user"}) + "\n")
    run("score", "--calibration", out, "--data", texts, "--out", done)
    assert json.loads(done.read_text())["unsafe"] == pytest.approx(
        own["probabilities"]["unsafe"], abs=0.02
    )


def test_the_embedded_model_is_calibrated_on_labels_of_ones_own(tmp_path: Path) -> None:
    data, out = tmp_path / "labels.jsonl", tmp_path / "own.json"
    texts = [("how do I murder my boss", True), ("how do I bake bread for my boss", False)]
    with data.open("w") as file:
        for n in range(24):
            text, violates = texts[n % 2]
            row = {"text": f"{text} on day {n}", "violates": violates, "category": "violent_crimes"}
            file.write(json.dumps(row) + "\n")
    done = run("calibrate", "--data", data, "--out", out, "--rounds", "0", "--threads", "1")
    assert "| category:violent_crimes | 24 | 12 | platt |" in done.output
    assert json.loads(out.read_text())["model"] == Bundle.open().model_id


def test_a_policy_is_fitted_and_tested_with_it(tmp_path: Path) -> None:
    data, scores = scored(tmp_path)
    out, model = tmp_path / "own.json", Bundle.open().model_id
    run("calibrate", "--data", data, "--scores", scores, "--model", model, "--out", out,
        "--rounds", "0")  # fmt: skip
    policy = tmp_path / "p.yaml"
    policy.write_text(
        "version: 1\nname: t\ncategories: {unsafe: {flag: {fpr: 0.3}, examples: "
        "{violates: [I will kill you], allowed: [hello]}}}\n"
    )
    fitted = run("policy", "fit", policy, "--calibration", out)
    assert "from 24 violating and 96 other texts (your calibration)" in fitted.output
    for command in (
        ("test", policy), ("explain", policy, "x"), ("diff", policy, policy, "-d", data),
    ):  # fmt: skip
        with pytest.raises(BundleError, match="not a calibration"):
            run("policy", *command, "--calibration", policy)
    explained = run("policy", "explain", policy, "I will kill you", "--calibration", out)
    assert "+calibration@" in explained.output
    changed = run("policy", "diff", policy, policy, "-d", data, "--calibration", out)
    assert "0 of 120 verdicts change" in changed.output


def test_serve_refuses_it_before_it_listens(tmp_path: Path) -> None:
    data, scores = scored(tmp_path)
    out = tmp_path / "own.json"
    run("calibrate", "--data", data, "--scores", scores, "--model", "mine@1", "--out", out,
        "--rounds", "0")  # fmt: skip
    for workers in ("1", "2"):
        with pytest.raises(BundleError, match="fitted on model mine@1"):
            run("serve", "-u", "http://127.0.0.1:9", "--port", "0", "--calibration", out,
                "--workers", workers, "--threads", "1")  # fmt: skip


def test_wrong_use_is_explained(tmp_path: Path) -> None:
    data, scores = scored(tmp_path)
    out = tmp_path / "own.json"
    alone = run("calibrate", "--data", data, "--scores", scores, "--out", out)
    assert alone.exit_code == 2
    assert "--scores and --model go together" in alone.output
    scores.write_text('{"id": 0, "unsafe": 0.5}\n')
    with pytest.raises(DataError, match="no line with id '1' and 118 more"):
        run("calibrate", "--data", data, "--scores", scores, "--model", "m", "--out", out)
    scores.write_text('{"id": 0, "unsafe": 5}\n')
    with pytest.raises(DataError, match=r"scores\.jsonl:1: unsafe is 5, no probability"):
        run("calibrate", "--data", data, "--scores", scores, "--model", "m", "--out", out)


def test_the_installed_command_lists_it() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "guardrail", "--help"],
        capture_output=True, text=True, env=env, check=True,
    )  # fmt: skip
    assert "calibrate" in done.stdout
