"""What `guardrail audit` promises, and that a killed server loses no more than the window."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from guardrail.audit import AuditSettings, Query, Store
from guardrail.audit.record import row_of
from guardrail.audit.seal import Sealer, new_key
from guardrail.classifier.labels import read_labels
from guardrail.cli import EXIT_BAD_FILE, cli
from guardrail.evaluate.rows import read_rows
from guardrail.policy import parse_policy
from guardrail.types import Action, Direction, Finding, Scores, Verdict
from tests.audit.conftest import decision
from tests.cli.test_serve import Upstream

WINDOW_S = 1.0
SECRET = parse_policy(
    "version: 1\nname: t\naudit: {text: encrypted}\ncategories: {unsafe: {flag: 0.5}}"
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A database with five decisions, and the command on it."""
    pytest.importorskip("cryptography")
    key = new_key()
    monkeypatch.setenv("GUARDRAIL_AUDIT_KEY", key)
    monkeypatch.setenv("GUARDRAIL_AUDIT", f"sqlite:{tmp_path}/audit.db")
    now = time.time()
    rows = [
        decision(n, time=now - 60 * n, policy=SECRET, text=f"text {n}", check_ms=float(n))
        for n in range(5)
    ]
    with Store.open(AuditSettings(f"sqlite:{tmp_path}/audit.db")) as store:
        store.write([row_of(one, Sealer(key)) for one in rows])

    def invoke(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["audit", *args])
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    return invoke


def test_query_shows_the_newest_first_with_texts_that_the_key_opens(run) -> None:
    lines = run("query", "-n", "2").splitlines()
    assert "block" in lines[0]
    assert lines[1].strip() == "text 0"
    assert lines[3].strip() == "text 1"


def test_query_filters_and_writes_json(run) -> None:
    found = [json.loads(line) for line in run("query", "--json", "--since", "90s").splitlines()]
    assert [one["text"] for one in found] == ["text 0", "text 1"]
    assert found[0]["time"].endswith("+00:00")
    assert run("query", "--action", "pass") == ""
    assert run("query", "--category", "hate") == ""


def test_without_the_key_texts_stay_closed(run, monkeypatch) -> None:
    monkeypatch.delenv("GUARDRAIL_AUDIT_KEY")
    assert "text 0" not in run("query", "--json")


def test_a_time_that_is_none_is_explained(run) -> None:
    assert "30m, 2h, 7d" in run("query", "--since", "yesterday", code=2)


def test_tail_shows_what_comes(run, tmp_path) -> None:
    def later() -> None:
        time.sleep(0.3)
        with Store.open(AuditSettings(f"sqlite:{tmp_path}/audit.db")) as store:
            store.write([row_of(decision(9, time=time.time()), Sealer(None))])

    thread = threading.Thread(target=later)
    thread.start()
    shown = run("tail", "--every-s", "0.05", "--for-s", "1.5")
    thread.join()
    assert "r-9" in shown.splitlines()[-1]


def test_tail_shows_what_another_worker_writes_late(run, tmp_path) -> None:
    def later() -> None:
        now = time.time()
        with Store.open(AuditSettings(f"sqlite:{tmp_path}/audit.db")) as store:
            for number, ago in ((8, 0.0), (9, 0.5)):  # judged earlier, written later
                time.sleep(0.3)
                store.write([row_of(decision(number, time=now - ago), Sealer(None))])

    thread = threading.Thread(target=later)
    thread.start()
    shown = run("tail", "--every-s", "0.05", "--for-s", "2.5")
    thread.join()
    assert (shown.count("r-8"), shown.count("r-9")) == (1, 1)
    assert "--every-s" in run("tail", "--every-s", "-1", code=2)


def test_a_reader_that_stops_early_is_no_fault_of_the_database(run, tmp_path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "guardrail", "audit", "query"]
    command += ["--audit", f"sqlite:{tmp_path}/audit.db"]
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_stats_count_what_there_is(run) -> None:
    assert "5 decisions of 1 requests" in run("stats")
    assert json.loads(run("stats", "--json"))["actions"] == {"input block": 5}


def test_export_writes_every_decision_to_jsonl(run, tmp_path) -> None:
    out = tmp_path / "out.jsonl"
    assert "5 decisions" in run("export", "--out", str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["text"] for row in rows] == [f"text {n}" for n in range(4, -1, -1)]


def test_the_audit_is_not_written_over(run, tmp_path) -> None:
    for command in ("export", "labels"):
        with pytest.raises(AssertionError, match="is the audit itself"):
            run(command, "-o", str(tmp_path / "audit.db"))
    assert run("query")


def test_export_writes_parquet_that_others_read(run, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out.parquet"
    run("export", "--out", str(out))
    rows = parquet.read_table(out).to_pylist()
    assert [row["text"] for row in rows] == [f"text {n}" for n in range(4, -1, -1)]
    assert rows[0]["categories"] == ["unsafe"]
    assert rows[0]["time"].year >= 2024
    assert json.loads(rows[0]["detail"])["scores"]["unsafe"][0] == 0.95


def test_prune_removes_what_is_old(run) -> None:
    assert "3 decisions removed" in run("prune", "--rows", "2")
    assert "say --days or --rows" in run("prune", code=2)


def test_review_lists_what_waits_and_its_answers_are_labels(run, tmp_path) -> None:
    in_band = Finding("unsafe", Action.FLAG, 0.6, 0.5, review=True)
    verdict = Verdict(Action.FLAG, Direction.INPUT, (in_band,), Scores({"unsafe": 0.6}))
    plain = parse_policy(
        "version: 1\nname: t\naudit: {text: plain}\ncategories: {unsafe: {flag: 0.5}}"
    )
    with Store.open(AuditSettings(f"sqlite:{tmp_path}/audit.db")) as store:
        rows = [decision(n, "q", verdict=verdict, policy=plain, text=f"maybe {n}") for n in (1, 2)]
        rows.append(decision(3, "q", verdict=verdict))
        store.write([row_of(one, Sealer(None)) for one in rows])
    assert run("review").count("review") == 3
    assert "say --by" in run("review", "--approve", "q-1", code=2)
    said = run("review", "--approve", "q-1", "--overturn", "q-2", "--approve", "q-3", "--by", "ada")
    assert "q-1  approve: violates unsafe" in said
    assert "q-2  overturn: does not violate unsafe" in said
    assert run("review") == ""
    for form, reader in (("policy", read_labels), ("train", read_rows)):
        out = tmp_path / f"{form}.jsonl"
        told = run("labels", "--out", str(out), "--format", form)
        assert "2 rows" in told
        assert "1 reviewed decisions are left out" in told
        assert {row.text for row in reader(out)} == {"maybe 1", "maybe 2"}


def test_a_database_that_is_not_there_is_one_clear_line() -> None:
    command = [sys.executable, "-m", "guardrail", "audit", "query", "--audit", "sqlite:none.db"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == EXIT_BAD_FILE
    assert "there is no none.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_new_key_is_one_that_fernet_takes() -> None:
    fernet = pytest.importorskip("cryptography.fernet")
    fernet.Fernet(CliRunner().invoke(cli, ["audit", "key"]).output.strip())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_server_loses_at_most_the_window_and_a_stopped_one_nothing(
    tmp_path, number
) -> None:
    place = f"sqlite:{tmp_path}/audit.db"
    finished: list[float] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        command = [
            sys.executable, "-u", "-m", "guardrail", "serve", "--port", "0", "--audit", place,
            "-u", f"http://127.0.0.1:{upstream.server_port}",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            head = [process.stdout.readline() for _ in range(4)]
            assert any(place in line for line in head), "the audit is named at the start"
            data = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
            end = time.monotonic() + 2.2 * WINDOW_S
            while time.monotonic() < end:
                request = urllib.request.Request(f"{url}/v1/chat/completions", data)
                request.add_header("Content-Type", "application/json")
                urllib.request.urlopen(request, timeout=20).read()
                finished.append(time.monotonic())
            killed = time.monotonic()
            process.send_signal(number)
            process.wait(20)
        upstream.shutdown()
    with Store.open(AuditSettings(place)) as store:
        kept = len({one["request_id"] for one in store.every(Query())})
    sure = [t for t in finished if number == signal.SIGTERM or t < killed - WINDOW_S]
    assert len(sure) > 3
    assert len(sure) <= kept <= len(finished) + 1


def test_a_text_cannot_command_the_terminal(run, tmp_path) -> None:
    text = "evil \x1b]0;owned\x07 \x1b[2J \x9b31m text"
    with Store.open(AuditSettings(f"sqlite:{tmp_path}/audit.db")) as store:
        key = Sealer(os.environ["GUARDRAIL_AUDIT_KEY"])
        store.write([row_of(decision(9, time=time.time(), policy=SECRET, text=text), key)])
    for command in (["query"], ["query", "--json"], ["tail", "--for-s", "0.1"]):
        shown = run(*command)
        assert "evil" in shown
        assert not set(shown) & {"\x1b", "\x07", "\x9b"}
    assert json.loads(run("query", "-n", "1", "--json"))["text"] == text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["query", "--reason", "\udcff"], "not UTF-8"),
        (["review", "--approve", "r\udcff", "--by", "a"], "not UTF-8"),
        (["review", "--approve", "r", "--by", "\udcff"], "not UTF-8"),
        (["prune", "--rows", "99999999999999999999"], "--rows"),
    ],
)
def test_what_no_database_can_look_for_is_wrong_usage(run, command, words: str) -> None:
    assert words in run(*command, code=2)
