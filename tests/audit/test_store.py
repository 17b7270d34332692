from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from guardrail.audit import AuditSettings, Query, Store
from guardrail.audit.record import row_of
from guardrail.audit.schema import MIGRATIONS, VERSION
from guardrail.audit.seal import Sealer, new_key
from guardrail.audit.stats import series, summary
from guardrail.errors import SettingsError
from guardrail.policy import parse_policy
from guardrail.types import Action, Direction, Finding, Outcome, Scores, Verdict
from tests.audit.conftest import decision

SEALER = Sealer(new_key())


def passed(probability: float = 0.1) -> Verdict:
    return Verdict(Action.PASS, Direction.OUTPUT, (), Scores({"unsafe": probability}, "m@1"), "t@0")


def fill(store: Store, *decisions) -> None:
    store.write([row_of(one, SEALER) for one in decisions])


def test_what_was_written_is_found_again_in_full(settings: AuditSettings) -> None:
    with Store.open(settings) as store:
        fill(store, decision(extra={"skipped": ["turn 0: earlier"]}))
        found = store.get("r-1")
    assert found is not None
    assert found["action"] == "block"
    assert found["categories"] == ["unsafe"]
    assert found["category"] == "unsafe"
    assert (found["probability"], found["threshold"]) == (0.95, 0.9)
    assert found["decided_by"] == "model:m@1"
    assert found["dialect"] == "openai.chat"
    assert found["detail"]["scores"] == {"unsafe": [0.95, 0.5, 0.9]}
    assert found["detail"]["skipped"] == ["turn 0: earlier"]
    assert found["text"] is None


def test_a_later_record_of_one_decision_replaces_the_earlier(settings: AuditSettings) -> None:
    with Store.open(settings) as store:
        fill(store, decision(final=False, checks=1))
        fill(store, decision(final=True, checks=7))
        [found] = store.select(Query(), 10)
    assert (found["final"], found["checks"]) == (True, 7)


def test_text_that_a_database_refuses_is_kept_in_a_form_that_it_takes(
    settings: AuditSettings,
) -> None:
    plain = parse_policy("version: 1\nname: t\naudit: {text: plain}\ncategories: {hate: {flag: 1}}")
    with Store.open(settings) as store:
        fill(store, decision(policy=plain, text="a\x00b\ud800 'c' %s ?", prompt="p\x00"))
        found = store.get("r-1")
    assert found is not None
    assert found["text"] == "a\ufffdb? 'c' %s ?"
    assert found["prompt"] == "p\ufffd"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), "4321"),
        (Query(action="block"), "321"),
        (Query(direction="output"), "4"),
        (Query(since=1_000_002.0), "432"),
        (Query(until=1_000_002.0), "1"),
        (Query(category="unsafe"), "321"),
        (Query(category="unsaf"), ""),
        (Query(category="%"), ""),
        (Query(route="/v1/chat"), "4321"),
        (Query(route="_v1"), ""),
        (Query(request_id="other"), "3"),
        (Query(least=0.5), "321"),
        (Query(review=True), "2"),
        (Query(labelled=True), ""),
        (Query(labelled=False), "4321"),
        (Query(request_id="'; DROP TABLE guardrail_decisions; --"), ""),
    ],
)
def test_decisions_are_found_by_what_they_are(tmp_path: Path, query: Query, expected: str) -> None:
    in_band = Finding("unsafe", Action.BLOCK, 0.95, 0.9, review=True)
    verdict = Verdict(Action.BLOCK, Direction.INPUT, (in_band,), Scores({"unsafe": 0.95}))
    with Store.open(AuditSettings(f"sqlite:{tmp_path}/a.db")) as store:
        fill(store, decision(1), decision(2, verdict=verdict), decision(3, "other"))
        fill(store, decision(4, verdict=passed(), direction=Direction.OUTPUT))
        assert "".join(one["id"][-1] for one in store.select(query, 10)) == expected


def test_pages_neither_repeat_nor_lose_a_decision(settings: AuditSettings) -> None:
    with Store.open(settings) as store:
        fill(store, *(decision(n, time=float(n // 3)) for n in range(20)))
        seen, place = [], None
        while page := store.select(Query(), 6, before=place):
            seen += [one["id"] for one in page]
            place = (page[-1]["time"], page[-1]["id"])
        assert sorted(seen) == sorted(f"r-{n}" for n in range(20))
        assert [one["id"] for one in store.every(Query())] == seen[::-1]


def test_old_decisions_and_too_many_go_with_their_labels(settings: AuditSettings) -> None:
    with Store.open(settings) as store:
        fill(store, *(decision(n, time=float(n)) for n in range(1_200)))
        store.execute(
            "INSERT INTO guardrail_labels VALUES (?, ?, ?, ?, ?, ?, ?)",
            ["r-3", "unsafe", "approve", 1, "me", 1.0, ""],
        )
        store.connection.commit()
        assert store.prune(10.0, 0) == 10
        assert store.execute("SELECT COUNT(*) FROM guardrail_labels").fetchone()[0] == 0
        assert store.prune(float("-inf"), 100) == 1_090
        assert len(store.select(Query(), 1_000)) == 100
        assert store.prune(float("-inf"), 100) == 0


def test_a_database_of_an_older_release_is_brought_up_to_date(settings: AuditSettings) -> None:
    with Store.open(settings) as store:
        cursor = store.connection.cursor()
        for table in ("labels", "decisions", "schema"):
            cursor.execute(f"DROP TABLE guardrail_{table}")
        for statement in MIGRATIONS[0]:  # as the first release made it
            cursor.execute(statement)
        cursor.execute("CREATE TABLE guardrail_schema (version INTEGER NOT NULL)")
        cursor.execute("INSERT INTO guardrail_schema VALUES (1)")
        store.connection.commit()
        fill(store, decision())
    with Store.open(settings) as store:
        assert store.execute("SELECT MAX(version) FROM guardrail_schema").fetchone()[0] == VERSION
        assert store.get("r-1") is not None, "what was recorded is still there"
        assert store.select(Query(labelled=False), 10)


def test_a_database_of_a_newer_release_is_left_alone(settings: AuditSettings) -> None:
    with Store.open(settings) as store:
        store.execute("INSERT INTO guardrail_schema VALUES (?)", [VERSION + 1])
        store.connection.commit()
    with pytest.raises(SettingsError, match="upgrade guardrail"):
        Store.open(settings)


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "audit.db"
    mask = os.umask(0o000)
    try:
        Store.open(AuditSettings(f"sqlite:{path}")).close()
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_counts_and_percentiles_say_what_happened(settings: AuditSettings) -> None:
    with Store.open(settings) as store:
        fill(store, decision(1, check_ms=10.0), decision(2, check_ms=30.0))
        failed = Verdict(Action.PASS, Direction.OUTPUT, outcome=Outcome.FAILED)
        fill(store, decision(3, "s", verdict=failed, direction=Direction.OUTPUT))
        found = summary(store, Query())
        line = series(store, Query(), 1_000_000.0, 1_000_010.0, 10)
    assert (found["decisions"], found["requests"]) == (3, 2)
    assert found["actions"] == {"input block": 2, "output pass": 1}
    assert found["categories"] == {"unsafe": 2}
    assert found["outcomes"] == {"scanned": 2, "failed": 1}
    assert found["check_ms"]["max"] == 30.0
    assert line["block"][:4] == [0, 1, 1, 0]
    assert line["pass"][:4] == [0, 0, 0, 1]
    assert line["mean_ms"][1:3] == [10.0, 30.0]
