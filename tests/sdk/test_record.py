"""Decisions made in process are recorded too, where an audit is named."""

from __future__ import annotations

import pickle

import pytest

from guardrail import Guardrail, GuardrailBlocked, guard
from guardrail.audit import AuditLog, AuditSettings, Query, Store
from guardrail.errors import SettingsError
from guardrail.policy import parse_policy
from guardrail.sdk.scope import Options, Scope
from tests.sdk.conftest import REDACTING

POLICY = parse_policy(
    "version: 1\nname: t\naudit: {text: plain}\ncategories: {unsafe: {flag: 0.5, block: 0.9}}"
)


@pytest.fixture
def place(tmp_path) -> str:
    return f"sqlite:{tmp_path}/audit.db"


def rows(rail: Guardrail) -> list[dict]:
    assert rail.audit is not None
    rail.audit.close()
    with Store.open(rail.audit.settings) as store:
        return list(store.every(Query()))


def test_checks_and_streams_are_recorded(marker, place) -> None:
    rail = Guardrail(POLICY, marker, audit=place)
    rail.check("fine")
    rail.check("BAD", direction="output", prompt="why?")
    assert "".join(rail.check_stream(["all ", "is ", "well"])) == "all is well"
    with pytest.raises(GuardrailBlocked):
        list(rail.check_stream(["a long enough beginning of it, ", "then BAD"]))
    found = rows(rail)
    assert [one["source"] for one in found] == ["sdk"] * 4
    assert [one["direction"] for one in found] == ["input", "output", "output", "output"]
    assert [one["action"] for one in found] == ["pass", "block", "pass", "block"]
    assert [one["text"] for one in found][:3] == ["fine", "BAD", "all is well"]
    assert all(one["final"] for one in found)


async def test_async_checks_and_streams_are_recorded(marker, place) -> None:
    rail = Guardrail(POLICY, marker, audit=place)

    async def source():
        yield "all is"
        yield " well"

    await rail.acheck("BAD")
    assert [part async for part in rail.acheck_stream(source())] == ["all is", " well"]
    assert [one["action"] for one in rows(rail)] == ["block", "pass"]


KEY = {"bob@example.com": 1}
"""A place that cannot be taken out: a key of a JSON object."""
CALL = {"type": "tool_use", "id": "t", "name": "n", "input": KEY}
BLOCKS = [
    {"type": "message_start", "message": {"role": "assistant", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": CALL},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_stop"},
]


async def test_what_is_blocked_for_it_cannot_be_redacted_is_on_record(marker, place) -> None:
    rail = Guardrail(REDACTING, marker, audit=place)
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [CALL]}]
    scope = Scope(Options(rail, None, "raise", None))
    with pytest.raises(GuardrailBlocked):
        scope.input({"system": "s", "messages": turns})
    with pytest.raises(GuardrailBlocked):
        scope.output({"type": "message", "role": "assistant", "content": [CALL]})
    with pytest.raises(GuardrailBlocked):
        list(rail.check_stream(BLOCKS))

    async def source():
        for event in BLOCKS:
            yield event

    with pytest.raises(GuardrailBlocked):
        [item async for item in rail.acheck_stream(source())]
    found = [one for one in rows(rail) if one["action"] == "block"]
    assert [one["reason"] for one in found] == ["unredactable"] * 4
    assert [one["direction"] for one in found] == ["input", "output", "output", "output"]


def test_an_answer_that_cannot_be_read_is_on_record(marker, place) -> None:
    rail = Guardrail(POLICY, marker, audit=place)
    opaque = {"object": "chat.completion", "choices": [{"index": 0, "message": "BAD"}]}
    with pytest.raises(GuardrailBlocked):
        Scope(Options(rail, None, "raise", None)).output(opaque)
    with pytest.raises(GuardrailBlocked):
        list(rail.check_stream([opaque]))
    found = [one for one in rows(rail) if one["action"] == "block"]
    assert [one["reason"] for one in found] == ["unreadable"] * 2


def test_a_shared_log_serves_several_and_is_left_running(marker, place) -> None:
    log = AuditLog(AuditSettings(place))
    log.start()
    for _ in range(2):
        Guardrail(POLICY, marker, audit=log).check("fine")
    assert log.close() == 0
    assert log.health.written == 2


def test_a_copy_in_another_process_records_to_the_same_place(place) -> None:
    rail = Guardrail(POLICY, audit=place)
    copy = pickle.loads(pickle.dumps(rail))
    assert copy.audit.settings == rail.audit.settings
    copy.audit.close()
    rail.audit.close()


def test_a_place_that_cannot_be_written_is_refused_at_once(marker) -> None:
    with pytest.raises(SettingsError, match="cannot be opened"):
        Guardrail(POLICY, marker, audit="sqlite:/proc/audit.db")


def test_what_must_be_recorded_and_has_no_room_is_a_failed_check(marker, tmp_path) -> None:
    policy = parse_policy(
        "version: 1\nname: t\naudit: {required: true}\ncategories: {unsafe: {block: 0.9}}"
    )
    rail = Guardrail(
        policy, marker, audit=AuditSettings(f"sqlite:{tmp_path}/a.db", flush_s=60, queue=1)
    )
    assert not rail.check("fine").blocked
    assert rail.check("fine").findings[0].reason == "audit"
    assert rail.check("fine", direction="output").blocked
    rail.audit.close()


def test_a_policy_that_requires_an_audit_is_refused_without_one(marker) -> None:
    policy = parse_policy(
        "version: 1\nname: strictly\naudit: {required: true}\ncategories: {unsafe: {block: 0.9}}"
    )
    for make in (Guardrail, Guardrail.load, lambda p: guard(policy=p)):
        with pytest.raises(SettingsError, match=r"audit\.required.*audit='sqlite:"):
            make(policy)
