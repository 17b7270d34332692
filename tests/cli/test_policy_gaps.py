"""Known gaps: shown, counted as missed, no failure; their marks follow the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from guardrail.cli.policy import policy_group
from guardrail.errors import DataError

WORDS = """version: 1
name: {name}
tests: [t.jsonl]
categories: {{rivals: {{flag: 0.5, words: [{word}]}}}}
"""
SHOWN = """version: 1
name: shown
tests: [t.jsonl]
categories:
  rivals:
    flag: 0.5
    words: [acme]
    examples: {violates: [Acme, The a-word], allowed: [Nothing]}
"""


def row(text: str, violates: bool, **more: object) -> str:
    return json.dumps({"text": text, "category": "rivals", "violates": violates} | more)


def passing(n: int) -> list[str]:
    return [row(f"Acme {i}", True) for i in range(n)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(WORDS.format(name="a", word="acme"))
    (tmp_path / "b.yaml").write_text(WORDS.format(name="b", word="globex"))

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(policy_group, ["test", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    return call


def write(*rows: str) -> Path:
    file = Path("t.jsonl")
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def test_a_known_gap_is_shown_and_counted_and_does_not_fail_the_run(run) -> None:
    write(row("Acme is great", True), row("The a-word", True, known_gap="said in other words"))
    said = run("a.yaml")
    assert "known gap (said in other words); should be caught" in said
    assert "1 of 2 texts as expected, 1 known gap" in said
    line = next(line.split() for line in said.splitlines() if line.startswith("rivals"))
    assert (line[1], line[-1]) == ("1/2", "1")  # a gap counts as missed
    write(row("The a-word", True))
    assert "below the mark: rivals" in run("a.yaml", code=1)


def test_a_gap_that_is_none_any_longer_fails_under_strict_only(run) -> None:
    write(row("Acme is great", True, known_gap="was missed"))
    for arguments, code in (((), 0), (("--strict",), 1)):
        said = run("a.yaml", "-q", *arguments, code=code)
        assert "t.jsonl:1 rivals: no longer a gap: remove the mark" in said
        assert "no longer a gap: 1 texts" in said


def test_a_gap_may_hold_for_some_policies_only(run) -> None:
    write(row("Globex", True, known_gap="no word of ours", gap_in=["a"]), *passing(1))
    assert "known gap" in run("a.yaml")
    assert "Acme 0" in run("b.yaml", code=1)


def test_json_carries_gaps_and_one_object_for_each_policy(run) -> None:
    write(row("The a-word", True, known_gap="in other words"), row("none", False))
    one, two = (json.loads(line) for line in run("a.yaml", "b.yaml", "--json").splitlines())
    assert one["policy"].startswith("a@")
    assert two["policy"].startswith("b@")
    assert one["passed"] is True
    assert one["counts"] == {"passed": 1, "failed": 0, "known_gap": 1, "closed_gap": 0}
    assert one["categories"]["rivals"]["known_gaps"] == 1
    [case] = one["cases"]
    assert (case["outcome"], case["known_gap"], case["line"]) == ("known gap", "in other words", 1)


def test_marks_follow_the_verdicts_and_nothing_else_in_the_file_changes(run) -> None:
    untouched = '{"violates":true,   "text":"Acme ü", "category":"rivals"}'
    file = write(
        untouched,
        '{"text":"Grüße","category":"rivals","violates":true}',
        row("Acme at last", True, known_gap="was missed"),
        row("The a-word", True, known_gap="only hinted at"),
        "",
        *passing(20),
    )
    said = run("a.yaml", "--mark-gaps")
    lines = file.read_text(encoding="utf-8").split("\n")
    assert lines[0] == untouched
    why = json.loads(lines[1])["known_gap"]
    assert why.endswith("reads rivals at 0.00")
    assert lines[1] == (
        f'{{"text":"Grüße","category":"rivals","violates":true,"known_gap":"{why}","gap_in":["a"]}}'
    )
    assert lines[2] == row("Acme at last", True)
    assert lines[3] == row("The a-word", True, known_gap="only hinted at")  # a person's words
    assert lines[4:] == ["", *passing(20), ""]
    assert '-{"text": "Acme at last"' in said
    assert "22 of 24 texts as expected, 2 known gaps" in said
    before = file.read_bytes()
    run("a.yaml", "--mark-gaps")
    assert file.read_bytes() == before
    run("a.yaml", "--strict")


def test_marks_of_policies_that_were_not_run_are_kept(run) -> None:
    file = write(row("Acme", True, known_gap="x@0123456789ab reads rivals at 0.10",
                     gap_in=["a", "b"]), *passing(9))  # fmt: skip
    run("a.yaml", "--mark-gaps")
    assert json.loads(file.read_text().split("\n")[0])["gap_in"] == ["b"]


def test_more_than_a_tenth_is_not_marked(run) -> None:
    file = write(row("One", True), row("Two", True), *passing(17))
    before = file.read_bytes()
    said = run("a.yaml", "--mark-gaps", code=1)
    assert "a: 2 of 19 texts would be marked, more than 10%: nothing was written" in said
    assert file.read_bytes() == before


def test_an_example_that_fails_gets_a_row_of_its_own_and_loses_it_again(run, tmp_path) -> None:
    (tmp_path / "s.yaml").write_text(SHOWN)
    file = write(*passing(12))
    said = run("s.yaml", "--mark-gaps")
    assert "t.jsonl" in said
    assert "14 of 15 texts as expected, 1 known gap" in said
    added = json.loads(file.read_text().splitlines()[-1])
    assert added.pop("known_gap")
    assert added == json.loads(row("The a-word", True, gap_in=["shown"]))
    assert "14 of 15 texts as expected, 1 known gap" in run("s.yaml", "--strict")  # counted once
    (tmp_path / "s.yaml").write_text(SHOWN.replace("[acme]", "[acme, a-word]"))
    run("s.yaml", "--mark-gaps")
    assert file.read_text().splitlines() == passing(12)


def test_an_example_without_a_file_for_its_mark_is_named(run, tmp_path) -> None:
    (tmp_path / "s.yaml").write_text(SHOWN)
    write(*(row(f"text {n}", False, category=None) for n in range(12)))
    with pytest.raises(DataError, match="an example of 'rivals' fails and has no place"):
        run("s.yaml", "--mark-gaps")


def test_a_row_of_the_authors_own_that_is_an_example_is_kept(run, tmp_path) -> None:
    (tmp_path / "s.yaml").write_text(SHOWN.replace("[acme]", "[acme, a-word]"))
    file = write(*passing(12), row("The a-word", True, known_gap="only hinted at"))
    run("s.yaml", "--mark-gaps")
    assert file.read_text().splitlines()[12] == row("The a-word", True)


def test_a_new_line_ends_as_the_others_do(run, tmp_path) -> None:
    (tmp_path / "s.yaml").write_text(SHOWN)
    file = Path("t.jsonl")
    file.write_bytes("\r\n".join([*passing(12), ""]).encode())
    run("s.yaml", "--mark-gaps")
    assert file.read_bytes().count(b"\r\n") == file.read_bytes().count(b"\n") == 13


def test_a_file_that_was_edited_in_between_is_not_marked(run, monkeypatch) -> None:
    from guardrail.cli import policy_suite

    file = write(row("The a-word", True), *passing(12))
    judge = policy_suite.judge

    def slow(*arguments):
        yield from judge(*arguments)
        write(*passing(1), row("The a-word", True), *passing(12))

    monkeypatch.setattr(policy_suite, "judge", slow)
    with pytest.raises(DataError, match=r"t\.jsonl:1: changed while it was judged"):
        run("a.yaml", "--mark-gaps")
    assert "known_gap" not in file.read_text()
