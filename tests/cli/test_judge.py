"""`guardrail judge` and `guardrail rank`: one text, files, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from guardrail.cli import cli
from guardrail.errors import DataError, SettingsError
from tests.classifier.tiny import tiny_llama

BAD, GOOD = "I will kill you and your family.", "A walk in the park would be nice."


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_one_text_is_judged_by_the_embedded_model() -> None:
    shown = run("judge", "--prompt", "Any plans?", BAD)
    assert "safety" in shown.output
    found = json.loads(run("judge", "--json", "-r", "violent_crimes", BAD).output)
    assert found["model"].startswith("guardrail-")
    assert 0 < found["rubrics"]["violent_crimes"]["probability"] <= 1


def test_the_harmless_candidate_comes_first() -> None:
    shown = run("rank", "--prompt", "Any plans?", BAD, GOOD)
    assert shown.output.index("A walk") < shown.output.index("I will")
    assert json.loads(run("rank", "--json", BAD, GOOD).output)["best"] == 1


def test_pairs_give_a_report(tmp_path: Path) -> None:
    data, out, report = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "report.json"))
    rows = [
        {"id": n, "prompt": "Any plans?", "chosen": GOOD, "rejected": BAD if n else GOOD}
        for n in range(3)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = run("judge", "--pairs", str(data), "--out", str(out), "--report", str(report))
    assert "right on 0.833 of 3 pairs" in shown.output
    assert json.loads(report.read_text())["ties"] == 1
    again = run("judge", "--pairs", str(data), "--out", str(out))
    assert "0 judged, 3 kept from before" in again.output


def test_candidates_of_a_file_are_ranked(tmp_path: Path) -> None:
    data, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    data.write_text(json.dumps({"id": "a", "candidates": [BAD, GOOD]}) + "\n")
    run("rank", "--data", str(data), "--out", str(out))
    assert json.loads(out.read_text())["best"] == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_calibration_is_fitted_saved_and_used(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs guardrail[guards]")
    model = f"hf:{tiny_llama(tmp_path / 'model')}"
    data, out, fit = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "fit.json"
    rows = [{"id": n, "text": f"word {n} " * (n % 5), "label": n % 2} for n in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ("-m", model, "--device", "cpu", "-r", "tone")
    shown = run("judge", *common, "--data", str(data), "--out", str(out), "--fit", str(fit))
    assert "tone: 20 labelled, 10 match" in shown.output
    assert json.loads(fit.read_text())["rubrics"]["tone"]["method"] == "temperature"
    found = json.loads(run("judge", *common, "--calibration", str(fit), "--json", "hello").output)
    assert 0 < found["rubrics"]["tone"]["probability"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one of TEXT, --data FILE and --pairs FILE"),
        (("x", "--data", "y"), "give one of TEXT"),
        (("--data", "y"), "name the file to write with --out"),
        (("x", "--fit", "f"), "--fit takes --data"),
    ],
)
def test_wrong_usage_says_what_is_missing(arguments: tuple[str, ...], message: str) -> None:
    shown = run("judge", *arguments)
    assert shown.exit_code == 2
    assert message in shown.output


def test_wrong_usage_of_rank_says_what_is_missing() -> None:
    assert "give either CANDIDATES or --data" in run("rank").output
    assert "name the file to write" in run("rank", "--data", "x").output


def test_what_cannot_be_used_is_an_error_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no rubric is called 'niceness'"):
        run("judge", "-r", "niceness", "x")
    with pytest.raises(SettingsError, match="name a language model with --model"):
        run("judge", "-r", "tone", "x")
    with pytest.raises(DataError, match="no such file"):
        run("judge", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "o"))
    data = tmp_path / "in.jsonl"
    data.write_text('{"id": 1, "text": "a"}\n')
    with pytest.raises(DataError, match="no line has a label"):
        run(
            *("judge", "--data", str(data), "--out", str(tmp_path / "o")),
            *("--fit", str(tmp_path / "f")),
        )


def test_a_report_is_json_where_there_is_nothing_to_measure(tmp_path: Path) -> None:
    data, out, report = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "report.json"))
    data.write_text(json.dumps({"id": 1, "chosen": GOOD, "rejected": GOOD}) + "\n")
    options = ("judge", "--pairs", str(data), "--out", str(out), "--report")
    run(*options, str(report))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(report.read_text(), parse_constant=refuse)["ece"] is None
    with pytest.raises(DataError, match="name a writable file"):
        run(*options, str(tmp_path / "missing" / "r.json"))


def test_a_candidate_cannot_command_the_terminal() -> None:
    assert "\x1b" not in run("rank", f"{GOOD} \x1b[2J", BAD).output
