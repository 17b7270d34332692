from __future__ import annotations

import json

import pytest

from guardrail.audit import AuditSettings, Store
from guardrail.audit.record import row_of
from guardrail.audit.review import (
    Answer,
    answer,
    labels_of,
    policy_rows,
    training_rows,
    waiting,
    withdraw,
)
from guardrail.audit.seal import Sealer, new_key
from guardrail.classifier.labels import read_labels
from guardrail.errors import SettingsError
from guardrail.evaluate.rows import read_rows
from guardrail.policy import parse_policy
from guardrail.types import Action, Direction, Finding, Role, Scores, Verdict
from tests.audit.conftest import decision

SEALER = Sealer(new_key())


def policy(form: str):
    return parse_policy(
        f"version: 1\nname: t\naudit: {{text: {form}}}\n"
        "categories: {hate: {flag: 0.5, review: [0.3, 0.7]}, unsafe: {flag: 0.5}}"
    )


def in_band(number: int, action: Action, form: str = "plain", **more: object):
    """A decision with a hate finding in its review band."""
    findings = (Finding("hate", action, 0.6, 0.5, review=True), Finding("unsafe", Action.FLAG, 0.9))
    verdict = Verdict(action, Direction.INPUT, findings, Scores({"hate": 0.6, "unsafe": 0.9}))
    return decision(number, verdict=verdict, policy=policy(form), text=f"text {number}", **more)


@pytest.fixture
def store(settings: AuditSettings):
    with Store.open(settings) as opened:
        yield opened


def fill(store: Store, *decisions) -> None:
    store.write([row_of(one, SEALER) for one in decisions])


def test_what_lies_in_a_band_waits_until_someone_answers(store: Store) -> None:
    fill(store, in_band(1, Action.FLAG), in_band(2, Action.PASS), decision(3))
    assert [one["id"] for one in waiting(store, 10)] == ["r-2", "r-1"]
    answer(store, "r-1", Answer.APPROVE, "ada", 5.0)
    assert [one["id"] for one in waiting(store, 10)] == ["r-2"]
    assert withdraw(store, "r-1") == 1
    assert len(waiting(store, 10)) == 2


@pytest.mark.parametrize(
    ("action", "said", "violates"),
    [
        (Action.FLAG, Answer.APPROVE, True),
        (Action.FLAG, Answer.OVERTURN, False),
        (Action.PASS, Answer.APPROVE, False),
        (Action.PASS, Answer.OVERTURN, True),
    ],
)
def test_an_answer_says_whether_the_text_violates(
    store: Store, action: Action, said: Answer, violates: bool
) -> None:
    fill(store, in_band(1, action))
    [label] = answer(store, "r-1", said, " ada  l ", 5.0, note="because")
    assert label == {
        "category": "hate", "answer": said.value, "violates": violates, "reviewer": "ada l",
        "time": 5.0, "note": "because",
    }  # fmt: skip


def test_the_last_answer_counts(store: Store) -> None:
    fill(store, in_band(1, Action.FLAG))
    answer(store, "r-1", Answer.APPROVE, "ada", 5.0)
    answer(store, "r-1", Answer.OVERTURN, "bob", 6.0)
    [label] = labels_of(store, "r-1")
    assert (label["violates"], label["reviewer"]) == (False, "bob")


def test_an_answer_to_nothing_is_refused(store: Store) -> None:
    fill(store, in_band(1, Action.FLAG))
    for identity, reviewer, categories in (
        ("none", "ada", None), ("r-1", " ", None), ("r-1", "ada", ["drugs"]),
    ):  # fmt: skip
        with pytest.raises(SettingsError):
            answer(store, identity, Answer.APPROVE, reviewer, 1.0, categories=categories)
    assert waiting(store, 10)


def test_an_answer_that_goes_on_is_reviewed_when_it_is_over(store: Store) -> None:
    """A worse window replaces the text of its record; a label would be about the wrong one."""
    going = in_band(1, Action.FLAG, final=False)
    fill(store, going)
    with pytest.raises(SettingsError, match="still goes on"):
        answer(store, "r-1", Answer.APPROVE, "ada", going.time + 60)
    assert labels_of(store, "r-1") == []
    fill(store, in_band(1, Action.FLAG))
    assert answer(store, "r-1", Answer.APPROVE, "ada", going.time + 61)


def test_a_record_that_is_written_again_keeps_its_label(store: Store) -> None:
    going = in_band(1, Action.FLAG, final=False)
    fill(store, going)
    answer(store, "r-1", Answer.APPROVE, "ada", going.time + 4_000)  # cut by a crash, it seems
    fill(store, in_band(1, Action.FLAG))
    assert len(labels_of(store, "r-1")) == 1


def test_labels_are_rows_that_training_and_policies_read(store: Store, tmp_path) -> None:
    pytest.importorskip("cryptography")
    fill(store, in_band(1, Action.FLAG, "encrypted", role=Role.TOOL))
    fill(store, in_band(2, Action.FLAG, role=Role.ASSISTANT, prompt="why?"))
    fill(store, in_band(3, Action.FLAG, "hash"), in_band(4, Action.FLAG, "none"))
    for number, said in ((1, Answer.APPROVE), (2, Answer.OVERTURN), (3, Answer.APPROVE)):
        answer(store, f"r-{number}", said, "ada", 5.0)
    for name, rows in (("train", training_rows), ("policy", policy_rows)):
        lines = [json.dumps(row) for row in rows(store, SEALER)]
        (tmp_path / name).write_text("\n".join(lines))
    one, two = read_rows(tmp_path / "train")
    assert (one.text, one.role, one.unsafe, one.categories) == ("text 1", "text", 1, ("hate",))
    assert (two.role, two.unsafe, two.categories, two.known) == ("assistant", None, (), ("hate",))
    labels = read_labels(tmp_path / "policy")
    assert [(row.text, row.category, row.violates) for row in labels] == [
        ("text 1", "hate", True),
        ("text 2", "hate", False),
    ]
    assert labels[1].prompt == "why?"
    assert not list(training_rows(store, Sealer(None)))[1:], "only the plain one can be read"
