"""What holds whatever becomes of the database: serving goes on, and every loss is counted."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guardrail.audit import AuditLog, AuditSettings, Query, Store
from guardrail.errors import SettingsError
from tests.audit.conftest import decision


class Events(Counter[str]):
    def __call__(self, event: str, count: int) -> None:
        self[event] += count


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def count(settings: AuditSettings) -> int:
    with Store.open(settings) as store:
        return int(store.execute("SELECT COUNT(*) FROM guardrail_decisions").fetchone()[0])


def sqlite(tmp_path: Path, **more: object) -> AuditSettings:
    return AuditSettings(f"sqlite:{tmp_path}/audit.db", **{"flush_s": 0.02, "days": 0, **more})  # type: ignore[arg-type]


def test_nothing_is_lost_on_a_clean_stop(settings: AuditSettings) -> None:
    events = Events()
    log = AuditLog(replace(settings, flush_s=60), events)
    log.start()
    for number in range(1_200):
        assert log.add(decision(number))
    assert log.close() == 0
    assert count(settings) == 1_200
    assert events == {"written": 1_200}


def test_decisions_are_in_the_database_within_the_interval(settings: AuditSettings) -> None:
    log = AuditLog(settings)
    log.start()
    try:
        log.add(decision())
        wait_for(lambda: log.health.written == 1)
        assert count(settings) == 1
    finally:
        log.close()


def test_what_does_not_fit_is_dropped_and_counted_and_told_once(tmp_path, caplog) -> None:
    events = Events()
    log = AuditLog(sqlite(tmp_path, queue=3, queue_bytes=2_000), events)
    assert log.add(decision(0, text="x" * 1_500))
    assert not log.add(decision(1, text="x" * 1_500)), "too much text"
    assert log.add(decision(2))
    assert log.accepts
    assert log.add(decision(3))
    assert not log.accepts
    assert not log.add(decision(4)), "too many"
    assert log.health.dropped == events["dropped"] == 2
    assert len([r for r in caplog.records if "dropped" in r.message]) == 1


def test_a_locked_database_is_waited_for(tmp_path, caplog) -> None:
    settings = sqlite(tmp_path)
    events = Events()
    log = AuditLog(settings, events)
    log.start()
    other = sqlite3.connect(f"{tmp_path}/audit.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    log.add(decision())
    wait_for(lambda: log.health.degraded == "locked")
    assert log.add(decision(2)), "it still takes decisions"
    other.execute("ROLLBACK")
    other.close()
    wait_for(lambda: log.health.written == 2 and log.health.degraded is None)
    log.close()
    assert events["error:locked"] >= 1
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1
    assert [r for r in caplog.records if "written again" in r.message]


def test_a_full_disk_is_told_and_waited_for(tmp_path, caplog) -> None:
    settings = sqlite(tmp_path)
    log = AuditLog(settings, events := Events())
    log.start()
    wait_for(lambda: log._store is not None)
    assert log._store is not None
    pages = log._store.connection.execute("PRAGMA page_count").fetchone()[0]
    full = f"PRAGMA max_page_count = {pages}"
    connect = log._backend.connect

    def cramped() -> sqlite3.Connection:
        connection = connect()
        connection.execute(full)
        return connection

    log._backend.connect = cramped  # type: ignore[method-assign]
    log._store.connection.execute(full)
    for number in range(200):
        log.add(decision(number, extra={"skipped": ["x" * 200]}))
    wait_for(lambda: log.health.degraded == "full")
    full = "PRAGMA max_page_count = 100000"  # room again
    wait_for(lambda: log.health.written == 200)
    assert log.close() == 0
    assert events["error:full"] >= 1
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1


def test_a_database_that_is_deleted_is_made_anew(tmp_path) -> None:
    settings = sqlite(tmp_path)
    log = AuditLog(settings)
    log.start()
    log.add(decision(1))
    wait_for(lambda: log.health.written == 1)
    for file in tmp_path.iterdir():
        file.unlink()
    log.add(decision(2))
    wait_for(lambda: log.health.written == 2)
    log.close()
    with Store.open(settings) as store:
        assert [one["id"] for one in store.select(Query(), 10)] == ["r-2"]


def test_a_folder_that_is_gone_degrades_and_recovers(tmp_path) -> None:
    folder = tmp_path / "state"
    settings = AuditSettings(f"sqlite:{folder}/audit.db", flush_s=0.02, days=0)
    log = AuditLog(settings, events := Events())
    log.start()
    folder.rename(tmp_path / "elsewhere")
    folder.write_text("a file in its place")
    log.add(decision())
    wait_for(lambda: log.health.degraded == "gone")
    folder.unlink()
    wait_for(lambda: log.health.written == 1 and log.health.degraded is None)
    log.close()
    assert events["error:gone"] >= 1


def test_a_damaged_file_is_named_at_the_start(tmp_path) -> None:
    (tmp_path / "audit.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(SettingsError, match=r"audit\.db cannot be opened .*--audit none"):
        AuditLog(sqlite(tmp_path)).start()


def test_a_server_that_is_away_is_reached_again(postgres) -> None:
    import psycopg

    settings = AuditSettings(postgres, flush_s=0.02, days=0)
    log = AuditLog(settings, events := Events())
    log.start()
    with psycopg.connect(postgres, autocommit=True) as other:
        other.execute("DELETE FROM guardrail_decisions")
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'guardrail-audit'"
        )
    log.add(decision())
    wait_for(lambda: log.health.written == 1 and log.health.degraded is None)
    log.close()
    assert events["error:gone"] == 1


def test_no_server_at_the_start_is_one_clear_error() -> None:
    pytest.importorskip("psycopg")
    log = AuditLog(AuditSettings("postgresql://me:hush@127.0.0.1:9/x"))
    with pytest.raises(SettingsError, match="cannot be opened") as caught:
        log.start()
    assert "hush" not in str(caught.value)


def test_a_row_that_is_refused_does_not_keep_the_others_back(tmp_path, monkeypatch) -> None:
    log = AuditLog(sqlite(tmp_path), events := Events())
    log.start()
    bad = decision(1)
    object.__setattr__(bad, "channel", None)  # NOT NULL
    for one in (decision(0), bad, decision(2)):
        log.add(one)
    wait_for(lambda: log.health.written == 2)
    log.close()
    assert events["dropped"] == 1


def test_a_fault_of_our_own_does_not_end_the_audit(tmp_path, monkeypatch, caplog) -> None:
    log = AuditLog(sqlite(tmp_path))
    log.start()
    bad = decision(1)
    object.__setattr__(bad, "verdict", None)
    log.add(bad)
    wait_for(lambda: log.health.dropped == 1)
    log.add(decision(2))
    wait_for(lambda: log.health.written == 1)
    log.close()


def test_old_records_are_removed_in_the_background(tmp_path) -> None:
    settings = sqlite(tmp_path, days=1, rows=5)
    log = AuditLog(settings, events := Events(), clock=lambda: 2_000_000.0)
    log.start()
    for number in range(10):
        log.add(decision(number, time=2_000_000.0 - number))
    log.add(decision(11, time=1_000_000.0))
    wait_for(lambda: events["written"] == 11)
    log._next_prune = 0
    wait_for(lambda: count(settings) == 5)
    log.close()
    assert events["pruned"] == 6


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_records_its_own_decisions(tmp_path) -> None:
    settings = sqlite(tmp_path, flush_s=0.05)
    log = AuditLog(settings)
    log.start()
    child = os.fork()
    if child == 0:  # pragma: no cover
        log.add(decision(1, "child"))
        os._exit(log.close())
    assert os.waitpid(child, 0)[1] == 0
    log.add(decision(1, "parent"))
    log.close()
    assert count(settings) == 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_whose_database_is_away_waits_for_it_like_its_parent(tmp_path) -> None:
    folder, aside = tmp_path / "folder", tmp_path / "aside"
    settings = AuditSettings(f"sqlite:{folder}/audit.db", flush_s=0.05)
    log = AuditLog(settings)
    log.start()
    folder.rename(aside)
    folder.write_text("no folder")
    child = os.fork()
    if child == 0:  # pragma: no cover
        lost = 1
        try:
            log.add(decision(1, "child"))
            wait_for(lambda: log.health.degraded == "gone")
            folder.unlink()
            aside.rename(folder)
            lost = log.close()
        finally:
            os._exit(lost)
    assert os.waitpid(child, 0)[1] == 0
    assert count(settings) == 1
    log.close()


def test_a_decision_that_cannot_be_written_costs_no_other(tmp_path) -> None:
    settings, events = sqlite(tmp_path), Events()
    log = AuditLog(settings, events)
    odd = decision(2)
    object.__setattr__(odd, "verdict", None)
    for one in (decision(1), odd, decision(3), decision(4, channel="\ud800"), decision(5)):
        log.add(one)
    log.start()
    assert log.close() == 0
    with Store.open(settings) as store:
        assert {one["id"] for one in store.select(Query(), 10)} == {"r-1", "r-3", "r-5"}
    assert (events["written"], events["dropped"]) == (3, 2)


def test_a_decision_after_the_end_is_counted_as_lost(tmp_path) -> None:
    log = AuditLog(sqlite(tmp_path))
    log.start()
    log.close()
    assert not log.accepts
    assert not log.add(decision())
    assert log.health.dropped == 1


def test_several_processes_may_write_one_file(tmp_path) -> None:
    settings = sqlite(tmp_path)
    logs = [AuditLog(settings) for _ in range(3)]
    for log in logs:
        log.start()
    for number in range(300):
        logs[number % 3].add(decision(number))
    assert [log.close() for log in logs] == [0, 0, 0]
    assert count(settings) == 300


def test_the_log_itself_says_nothing_of_a_text(tmp_path, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    log = AuditLog(sqlite(tmp_path, queue=1))
    log.add(decision(1, text="topsecret"))
    log.add(decision(2, text="topsecret"))
    bad = decision(3, text="topsecret")
    object.__setattr__(bad, "verdict", None)
    log._queue.append(bad)
    log.start()
    wait_for(lambda: not log._queue)
    log.close()
    assert "topsecret" not in caplog.text


def test_no_room_for_text_is_no_room(tmp_path) -> None:
    log = AuditLog(AuditSettings(f"sqlite:{tmp_path}/a.db", queue_bytes=1024))
    assert log.accepts
    assert log.add(decision(1, text="x" * 1024))
    assert not log.accepts
