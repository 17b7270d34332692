"""Scoring a file keeps order, resumes exactly, and names what is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from guardrail.errors import DataError
from guardrail.evaluate import scoring
from guardrail.evaluate.scoring import read_items, score_file
from guardrail.types import Role
from tests.evaluate.fakes import Telling


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "in.jsonl", [{"id": f"r{n}", "text": f"0.{n}"} for n in range(10)])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK_ROWS", 3)


def test_output_has_one_line_for_each_input_line_in_order(data: Path, tmp_path: Path) -> None:
    summary = score_file(Telling(), data, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"r{n}" for n in range(10)]
    assert lines[4] == {"id": "r4", "unsafe": 0.4, "categories": {"hate": 0.2, "privacy": 0.0}}
    assert (summary.scored, summary.tokens) == (10, 30)


@pytest.mark.parametrize("cut", [0, 1, 30, 70, 71, 200, 10**6])
def test_a_run_cut_at_any_byte_ends_like_a_whole_one(data: Path, tmp_path: Path, cut: int) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    score_file(Telling(), data, whole)
    out.write_bytes(whole.read_bytes()[:cut])
    classifier = Telling()
    summary = score_file(classifier, data, out)
    assert out.read_bytes() == whole.read_bytes()
    assert summary.scored + summary.resumed == 10
    assert len(classifier.seen) == summary.scored


def test_a_run_that_dies_can_go_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(RuntimeError, match="killed"):
        score_file(Telling(fail_after=7), data, out)
    summary = score_file(Telling(), data, out)
    assert (summary.resumed, summary.scored) == (6, 4)


def test_another_files_scores_are_not_continued(data: Path, tmp_path: Path) -> None:
    out = write(tmp_path / "out.jsonl", [{"id": "r0"}, {"id": "other"}])
    with pytest.raises(DataError, match=r"out\.jsonl:2: id is 'other'.*--restart"):
        score_file(Telling(), data, out)
    assert score_file(Telling(), data, out, restart=True).scored == 10


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("name", ["in.jsonl", "../{folder}/in.jsonl", "link.jsonl"])
def test_the_input_is_never_written_over(
    data: Path, tmp_path: Path, name: str, restart: bool
) -> None:
    (tmp_path / "link.jsonl").symlink_to(data)
    before = data.read_bytes()
    with pytest.raises(DataError, match="is the input; name another --out"):
        score_file(Telling(), data, tmp_path / name.format(folder=tmp_path.name), restart=restart)
    assert data.read_bytes() == before


@pytest.mark.parametrize("text", ["a letter", '{"a": 1}', '{"id": "r0"}\na letter'])
def test_a_file_that_is_no_output_is_left_as_it_is(data: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "letter.txt"
    out.write_text(text)
    with pytest.raises(DataError, match="not an output line; pass --restart"):
        score_file(Telling(), data, out)
    assert out.read_text() == text


def test_more_scores_than_input_are_refused(data: Path, tmp_path: Path) -> None:
    out = write(tmp_path / "out.jsonl", [{"id": f"r{n}"} for n in range(11)])
    with pytest.raises(DataError, match="the input has no such line"):
        score_file(Telling(), data, out)


def test_the_role_follows_from_the_prompt_unless_given(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "text": "a"},
        {"id": 2, "text": "a", "prompt": "b"},
        {"id": 3, "text": "a", "role": "user"},
        {"id": 4, "text": "a", "prompt": None},
    ]
    items = list(read_items(write(tmp_path / "in.jsonl", rows)))
    assert [item.sample.role for item in items] == [
        Role.TEXT,
        Role.ASSISTANT,
        Role.USER,
        Role.TEXT,
    ]
    assert items[1].sample.prompt == "b"


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        "3",
        '{"text": "a"}',
        '{"id": 1}',
        '{"id": true, "text": "a"}',
        '{"id": 1, "text": 2}',
        '{"id": 1, "text": "a", "role": "king"}',
        '{"id": 1, "text": "a", "prompt": 5}',
        "[" * 100_000,
        "\x00",
    ],
)
def test_a_bad_line_is_named_or_skipped_and_counted(tmp_path: Path, bad: str) -> None:
    data = tmp_path / "in.jsonl"
    good = json.dumps({"id": "g", "text": "0.5"})
    data.write_text(f"{good}\n\n{bad}\n{good}\n")
    with pytest.raises(DataError, match=r"in\.jsonl:3: .*--skip-bad"):
        list(read_items(data))
    summary = score_file(Telling(), data, tmp_path / "out.jsonl", skip_bad=True)
    assert (summary.scored, summary.bad) == (2, 1)


def test_lone_surrogates_are_scored_and_their_id_kept(tmp_path: Path) -> None:
    data = tmp_path / "in.jsonl"
    data.write_text('{"id": "\\ud800", "text": "\\udfff"}\n')
    out = tmp_path / "out.jsonl"
    assert score_file(Telling(), data, out).scored == 1
    assert json.loads(out.read_text())["id"] == "\ud800"
    assert score_file(Telling(), data, out).resumed == 1


def test_gzipped_input_is_read_and_a_torn_one_is_named(data: Path, tmp_path: Path) -> None:
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(data.read_bytes()))
    assert len(list(read_items(packed))) == 10
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"in\.jsonl\.gz"):
        list(read_items(packed))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: No such file"):
        list(read_items(tmp_path / "none.jsonl"))


def test_progress_adds_up_to_the_size_of_the_file(data: Path, tmp_path: Path) -> None:
    read: list[int] = []
    score_file(Telling(), data, tmp_path / "out.jsonl", on_bytes=read.append)
    assert sum(read) == data.stat().st_size
