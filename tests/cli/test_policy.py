"""What the tools for policy authors promise, on the embedded model."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from click.testing import CliRunner

from guardrail.classifier.attribution import attribution, pieces
from guardrail.cli.policy import policy_group
from guardrail.errors import PolicyError
from guardrail.policy import load_policy


def test_a_new_policy_is_one_whatever_its_file_is_called(tmp_path) -> None:
    for name in ("Übung 1.yaml", "ноль.yaml", "-.yaml", f"{'a' * 90}.yaml"):
        done = CliRunner().invoke(policy_group, ["new", "--", str(tmp_path / name)])
        assert done.exit_code == 0, done.exception
        assert load_policy(tmp_path / name).rules


def test_a_new_policy_in_no_folder_is_refused_with_the_fix(tmp_path) -> None:
    done = CliRunner().invoke(policy_group, ["new", str(tmp_path / "none" / "p.yaml")])
    assert isinstance(done.exception, PolicyError)
    assert "No such file or directory" in str(done.exception)


FRUIT = """version: 1
name: fruit
categories:
  fruit:
    rubric: Asks for a recipe with fruit.
    flag: 0.5
    examples:
      violates:
        - How do I make apple pie?
        - Give me a recipe for strawberry jam.
        - What can I bake with plums and pears?
        - A smoothie with mango and banana, please.
      allowed:
        - How do I fix a flat tyre?
        - Give me directions to the station.
        - What can I wear in Norway in May?
        - A poem about the sea, please.
  rivals: {flag: 0.5, words: [acme]}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fruit.yaml").write_text(FRUIT, encoding="utf-8")

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(policy_group, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    return call


def test_a_new_policy_is_valid_and_is_not_written_over(run, tmp_path) -> None:
    run("new", "my policy.yaml")
    assert "my-policy@" in run("validate", "my policy.yaml")
    assert json.loads((tmp_path / "my policy.schema.json").read_text())["title"]
    assert "there already" in run("new", "my policy.yaml", code=2)


def test_validate_names_place_and_fix(run, tmp_path) -> None:
    (tmp_path / "bad.yaml").write_text("version: 1\nname: t\ncategories: {hatte: {flag: 1}}")
    assert "bad.yaml:3:14: unknown category 'hatte'" in run("validate", "bad.yaml", code=4)


def test_lint_says_what_is_odd_by_exit_code(run, tmp_path) -> None:
    assert "0 remarks" in run("lint", "fruit.yaml")
    (tmp_path / "odd.yaml").write_text("version: 1\nname: t\ncategories: {hate: {flag: 0}}")
    assert "categories.hate: 'flag: 0'" in run("lint", "odd.yaml", code=1)


def test_show_lists_what_was_overridden(run, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "version: 1\nname: mine\nextends: default\ncategories: {hate: {block: 0.7}, drugs: null}"
    )
    shown = run("show", "mine.yaml")
    assert "categories.hate.block: 0.8 -> 0.7" in shown
    assert "categories.drugs" in shown
    assert "removed" in shown


def test_fit_reports_intervals_and_keeps_the_head(run, tmp_path) -> None:
    said = run("fit", "fruit.yaml")
    assert "4 violating and 4 allowed examples" in said
    assert "recall" in said
    assert "[" in said
    assert [p.suffix for p in (tmp_path / ".guardrail").iterdir()] == [".json"]


def test_fit_learns_from_labels_and_writes_a_policy_that_builds_on_the_first(run, tmp_path) -> None:
    rows = [
        {"text": 'Mangos: the best "fruit"?\nBake', "category": "fruit", "violates": True},
        {"text": "How tall is the tower?", "category": "fruit", "violates": False},
        {"text": "I hate them all", "category": "hate", "violates": True},
    ]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = run("fit", "fruit.yaml", "--labels", "labels.jsonl", "--write", "new.yaml")
    assert "5 violating and 5 allowed examples" in said
    assert "fruit: 1 of 2 violate" in said
    assert "tell nothing of texts outside" in said
    before, after = load_policy(tmp_path / "fruit.yaml"), load_policy(tmp_path / "new.yaml")
    old, new = before.rule("fruit"), after.rule("fruit")
    assert old is not None
    assert new is not None
    assert new.examples.violates == (*old.examples.violates, rows[0]["text"])
    assert new.examples.allowed == (*old.examples.allowed, rows[1]["text"])
    assert after.rule("rivals") == before.rule("rivals")


def test_labels_join_the_models_data_where_targets_are_resolved(run, tmp_path) -> None:
    (tmp_path / "t.yaml").write_text(
        "version: 1\nname: t\ncategories: {hate: {flag: {fpr: 0.05}}, drugs: {flag: 0.5}}"
    )
    row = {"text": "You are all fine people", "category": "hate", "violates": False}
    (tmp_path / "labels.jsonl").write_text(json.dumps(row))
    plain = run("fit", "t.yaml")
    said = run("fit", "t.yaml", "--labels", "labels.jsonl", "--write", "new.yaml")
    counts = [
        int(re.search(rf"([\d,]+) other texts \({of}\)", text)[1].replace(",", ""))
        for text, of in (
            (plain, "the model's calibration data"),
            (said, "the model's calibration data and 1 labels"),
        )
    ]
    assert counts[1] == counts[0] + 1 > 1000
    found = load_policy(tmp_path / "new.yaml").rule("hate")
    assert found is not None
    assert isinstance(found.flag, float)


def test_a_target_that_cannot_be_met_is_refused(run, tmp_path) -> None:
    from guardrail.errors import PolicyError

    (tmp_path / "p.yaml").write_text(FRUIT.replace("flag: 0.5", "flag: {fpr: 0.01}", 1))
    with pytest.raises(PolicyError, match="needs at least 299"):
        run("fit", "p.yaml")


def test_test_runs_examples_and_files_and_fails_by_exit_code(run, tmp_path) -> None:
    rows = [
        {"text": "Acme is great", "category": "rivals", "violates": True},
        {"text": "Nothing of the kind", "category": "rivals", "violates": False},
        {"text": "not in this policy", "category": "hate", "violates": True},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = run("test", "fruit.yaml", "-d", "t.jsonl", "--recall", "0.5", "--false-alarms", "0.5")
    assert "rivals" in said
    assert "10 texts as expected" in said or "of 10 texts" in said
    rows[1]["violates"] = True
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = run("test", "fruit.yaml", "-d", "t.jsonl", code=1)
    assert "below the mark" in said
    assert "t.jsonl:2 rivals: should be caught" in said


def test_explain_shows_threshold_reason_and_words(run) -> None:
    said = run("explain", "fruit.yaml", "I saw it at Acme yesterday")
    assert said.startswith("FLAG")
    assert "rivals: word word list at 12: 'Acme'" in said
    assert "-> flag by word" in said
    assert "+1.000  Acme" in said


def test_explain_without_text_says_what_the_categories_mean(run) -> None:
    assert "Asks for a recipe with fruit." in run("explain", "fruit.yaml")
    assert "S" not in run("explain", "default").split("\n")[0][:1]


def test_diff_shows_which_verdicts_change(run, tmp_path) -> None:
    (tmp_path / "other.yaml").write_text(FRUIT.replace("acme", "globex"))
    (tmp_path / "d.jsonl").write_text(
        '{"text": "Acme here"}\n{"text": "Globex here"}\n{"text": "x"}'
    )
    said = run("diff", "fruit.yaml", "other.yaml", "-d", "d.jsonl", code=1)
    assert "2 of 3 verdicts change" in said
    assert 'flag -> pass (rivals): "Acme here"' in said
    assert "0 of 3" in run("diff", "fruit.yaml", "fruit.yaml", "-d", "d.jsonl")


def test_attribution_covers_the_text_in_bounded_pieces(marker) -> None:
    from guardrail.classifier.base import Sample

    text = "  one two\n three " * 100
    cuts = pieces(text, 10)
    assert len(cuts) <= 10
    assert cuts[-1][1] == len(text)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(cuts))
    assert pieces("") == []
    sample = Sample("this is BAD really")
    falls = attribution(marker, sample, 0.99, "hate", pieces(sample.text))
    assert max(falls) == falls[2] == pytest.approx(0.98)
