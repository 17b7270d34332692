"""What the proxy records: every decision of every dialect, and no text unless the policy says."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from aiohttp import web

from guardrail.audit import AuditSettings, Query, Store
from guardrail.errors import SettingsError
from guardrail.policy import load_policy, parse_policy
from guardrail.proxy import Limits
from tests.proxy.conftest import completion, stream_of
from tests.proxy.test_keys import ask, entry
from tests.proxy.test_reload import identity, until, write

PLAIN = (
    "version: 1\nname: t\nmessage: no way\naudit: {text: plain}\n"
    "categories: {unsafe: {flag: 0.5, block: 0.9, review: [0.6, 0.8]}}"
)
REDACTING = "version: 1\nname: t\ncategories: {personal: {detectors: [email], action: redact}}"
REQUIRED = (
    "version: 1\nname: t\nmessage: no way\naudit: {required: true}\n"
    "categories: {unsafe: {block: 0.9}}"
)


@pytest.fixture
def audit(tmp_path) -> AuditSettings:
    return AuditSettings(f"sqlite:{tmp_path}/audit.db", flush_s=0.02)


async def records(settings: AuditSettings, expected: int) -> list[dict]:
    """Wait for the records, the oldest first."""
    found: list[dict] = []
    for _ in range(500):
        with Store.open(settings) as store:
            found = list(store.every(Query()))
        if len(found) >= expected and all(one["final"] for one in found):
            break
        await asyncio.sleep(0.02)
    assert len(found) == expected
    return found


async def test_a_whole_exchange_is_two_decisions_without_text(start, audit) -> None:
    bench = await start(audit=audit)
    bench.upstream.answers(completion("fine"))
    async with bench.chat("hello") as response:
        request_id = response.headers["x-guardrail-request-id"]
    asked, answered = await records(audit, 2)
    for one in (asked, answered):
        assert one["request_id"] == request_id
        assert (one["dialect"], one["route"]) == ("openai.chat", "/v1/chat/completions")
        assert (one["llm"], one["action"], one["outcome"]) == ("m", "pass", "scanned")
        assert one["policy"].startswith("t@")
        assert one["model"] == "marker@0"
        assert one["text"] is None
        assert one["total_ms"] >= one["check_ms"] > 0
        assert one["tokens"] > 0
    assert (asked["direction"], answered["direction"]) == ("input", "output")
    assert (asked["scanned_chars"], answered["scanned_chars"]) == (5, 4)
    assert answered["ended"] == "ok"


async def test_a_block_on_input_is_recorded_with_its_threshold(start, audit) -> None:
    bench = await start(PLAIN, audit=audit)
    async with bench.chat("BAD idea") as response:
        assert response.status == 400
    [found] = await records(audit, 1)
    assert (found["action"], found["category"], found["threshold"]) == ("block", "unsafe", 0.9)
    assert found["text"] == "BAD idea"
    assert found["decided_by"] == "model:marker@0"


@pytest.mark.parametrize("way", ["input", "output"])
async def test_what_is_blocked_for_it_cannot_be_redacted_is_recorded(start, audit, way) -> None:
    bench = await start(REDACTING, audit=audit)
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"bob@example.com": 1}}
    answer = {"type": "message", "role": "assistant", "content": [call], "stop_reason": "tool_use"}
    bench.upstream.answers(answer)
    asked = [{"role": "user", "content": "hi"}]
    if way == "input":
        asked.append({"role": "assistant", "content": [call]})
    body = {"model": "m", "max_tokens": 9, "messages": asked}
    async with bench.client.post(f"{bench.url}/v1/messages", json=body) as response:
        request_id = response.headers["x-guardrail-request-id"]
    found = await records(audit, 3)
    assert {one["request_id"] for one in found} == {request_id}
    [blocked] = [one for one in found if one["action"] == "block"]
    assert (blocked["direction"], blocked["reason"]) == (way, "unredactable")


async def test_a_stream_is_one_decision_however_many_windows_it_has(start, audit) -> None:
    bench = await start(PLAIN, audit=audit)
    words = ["some harmless words, quite a few of them. "] * 20
    bench.upstream.streams(stream_of(*words[:10], "MEH and so on. ", *words[10:]))
    async with bench.chat("hi", stream=True) as response:
        await response.read()
    _, answer = await records(audit, 2)
    assert answer["action"] == "flag"
    assert answer["review"]
    assert answer["checks"] > 3
    assert "MEH" in answer["text"]
    assert answer["prompt"] == "hi"
    assert answer["ended"] == "ok"


async def test_a_cut_stream_says_how_it_ended(start, audit) -> None:
    bench = await start(audit=audit)
    bench.upstream.streams(stream_of("all is well so far, ", "then BAD comes", " and more"))
    async with bench.chat("hi", stream=True) as response:
        await response.read()
    _, answer = await records(audit, 2)
    assert (answer["action"], answer["ended"]) == ("block", "blocked_output")


async def test_an_answer_that_cannot_be_read_is_recorded(start, audit) -> None:
    bench = await start(audit=audit)
    bench.upstream.answers("not a completion")
    async with bench.chat("hi") as response:
        assert response.status == 502
    _, answer = await records(audit, 2)
    assert (answer["outcome"], answer["reason"], answer["action"]) == (
        "failed", "unreadable", "block",
    )  # fmt: skip


async def test_moderations_and_litellms_questions_are_recorded(start, audit) -> None:
    bench = await start(audit=audit)
    body = {"input": ["fine", "BAD"]}
    async with bench.client.post(f"{bench.url}/v1/moderations", json=body) as response:
        assert response.status == 200
    question = {"texts": ["BAD"], "input_type": "request", "request_data": {}}
    path = f"{bench.url}/beta/litellm_basic_guardrail_api"
    async with bench.client.post(path, json=question) as response:
        assert response.status == 200, await response.text()
    found = await records(audit, 3)
    assert [one["dialect"] for one in found] == ["openai.moderations"] * 2 + ["litellm"]
    assert sorted(one["action"] for one in found) == ["block", "block", "pass"]


async def test_a_monitoring_policy_records_what_would_have_happened(start, audit) -> None:
    policy = "version: 1\nname: t\nmode: monitor\ncategories: {unsafe: {block: 0.9}}"
    bench = await start(policy, audit=audit)
    bench.upstream.answers(completion("fine"))
    async with bench.chat("BAD") as response:
        assert response.status == 200
    asked, _ = await records(audit, 2)
    assert (asked["action"], asked["enforced"]) == ("block", False)


async def test_serving_goes_on_without_the_database_and_readiness_says_so(
    start, audit, tmp_path
) -> None:
    bench = await start(audit=audit)
    bench.upstream.answers(completion("fine"))
    other = sqlite3.connect(f"{tmp_path}/audit.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    states = set()
    for _ in range(200):
        async with bench.chat("hello") as response:
            assert response.status == 200
        async with bench.client.get(f"{bench.url}/health/ready") as response:
            state = await response.json()
        states.add((state["status"], state["audit"]))
        if state["status"] == "degraded":
            break
        await asyncio.sleep(0.02)
    assert ("degraded", "locked") in states
    async with bench.client.get(f"{bench.url}/metrics") as response:
        assert 'guardrail_audit_errors_total{kind="locked"}' in await response.text()
    other.execute("ROLLBACK")
    other.close()
    for _ in range(500):
        async with bench.client.get(f"{bench.url}/health/ready") as response:
            if (await response.json())["status"] == "ready":
                return
        await asyncio.sleep(0.02)
    pytest.fail("it stayed degraded")


@pytest.mark.parametrize(("policy", "status"), [(REQUIRED, 400), (PLAIN, 200)])
async def test_a_full_queue_follows_the_policy(start, tmp_path, policy, status) -> None:
    audit = AuditSettings(f"sqlite:{tmp_path}/audit.db", flush_s=60, queue=2)
    bench = await start(policy, audit=audit)
    bench.upstream.answers(completion("fine"))
    async with bench.chat("hello") as response:
        assert response.status == 200
    async with bench.chat("hello") as response:
        assert response.status == status
    async with bench.client.get(f"{bench.url}/metrics") as response:
        dropped = 'guardrail_audit_records_total{result="dropped"} 2.0' in await response.text()
    assert dropped is (status == 200)


async def test_a_policy_whose_texts_cannot_be_kept_stops_the_start(start, audit) -> None:
    with pytest.raises(SettingsError, match="guardrail audit key"):
        await start(PLAIN.replace("plain", "hash"), audit=audit)


async def test_what_of_a_request_cannot_be_read_is_named(start, audit) -> None:
    bench = await start(audit=audit)
    bench.upstream.answers(completion("fine"))
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    path = f"{bench.url}/v1/chat/completions"
    async with bench.client.post(path, json=body) as response:
        assert response.status == 200
    asked, _ = await records(audit, 2)
    assert "image_url: cannot be read" in asked["detail"]["skipped"][0]


async def test_a_request_that_is_turned_away_for_load_is_recorded(start, audit) -> None:
    bench = await start(audit=audit, limits=Limits(concurrency=1))
    asked, gate = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        asked.set()
        await gate.wait()
        return web.json_response(completion("fine"))

    bench.upstream.handler = slow
    first = asyncio.ensure_future(bench.chat("hello").__aenter__())
    await asked.wait()
    async with bench.chat("hello") as response:
        assert response.status == 503
    gate.set()
    (await first).release()
    found = await records(audit, 3)
    shed = [one for one in found if one["reason"] == "overload"]
    assert [(one["outcome"], one["action"]) for one in shed] == [("failed", "block")]


async def test_the_name_of_the_proxys_key_is_recorded(start, audit, tmp_path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(entry("team-a", "the-key"))
    bench = await start(audit=audit, keys=keys)
    bench.upstream.answers(completion("fine"))
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    path = f"{bench.url}/v1/chat/completions"
    headers = {"x-guardrail-key": "the-key"}
    async with bench.client.post(path, json=body, headers=headers) as response:
        assert response.status == 200
    assert {one["client"] for one in await records(audit, 2)} == {"team-a"}


async def test_a_question_of_litellm_that_cannot_be_recorded_is_a_failed_check(
    start, tmp_path
) -> None:
    audit = AuditSettings(f"sqlite:{tmp_path}/audit.db", flush_s=60, queue=1)
    bench = await start(REQUIRED, audit=audit)
    path = f"{bench.url}/beta/litellm_basic_guardrail_api"
    for kind in ("request", "response"):
        question = {"texts": ["fine"], "input_type": kind, "request_data": {}}
        async with bench.client.post(path, json=question) as response:
            action = (await response.json())["action"]
        assert action == ("NONE" if kind == "request" else "BLOCKED")


async def test_a_policy_that_must_be_recorded_does_not_start_without_an_audit(start) -> None:
    with pytest.raises(SettingsError, match="--audit"):
        await start(REQUIRED, audit=None)


HASHED = PLAIN.replace("plain", "hash")
FREE = "version: 1\nname: t\ncategories: {unsafe: {block: 0.8}}"


async def told(caplog, text: str) -> None:
    async with asyncio.timeout(30):
        while text not in caplog.text:  # noqa: ASYNC110  (polls a log)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("policy", "recorded", "word"),
    [
        (REQUIRED, False, "p.yaml: 'audit.required'"),
        (
            f"{FREE}\nselect: [{{when: {{model: m}}, use: q.yaml}}]",
            False,
            "q.yaml: 'audit.required'",
        ),
        (HASHED, True, "p.yaml: 'audit.text'"),
        (PLAIN.replace("plain", "encrypted"), True, "guardrail audit key"),
    ],
)
async def test_a_policy_that_cannot_be_recorded_as_it_says_is_refused_while_running(
    start, audit, tmp_path, caplog, policy, recorded, word
) -> None:
    file = tmp_path / "p.yaml"
    write(tmp_path / "q.yaml", REQUIRED)
    write(file, FREE)
    bench = await start(load_policy(file), audit=audit if recorded else None, reload_s=0.02)
    write(file, policy)
    await told(caplog, word)
    assert "stays in force" in caplog.text
    assert await identity(bench) == parse_policy(FREE).identity
    changed = FREE.replace("0.8", "0.85")
    write(file, changed)
    await until(bench, parse_policy(changed).identity)


async def test_nor_does_it_start_as_one_that_another_selects(start, tmp_path) -> None:
    write(tmp_path / "q.yaml", REQUIRED)
    file = tmp_path / "p.yaml"
    write(file, f"{FREE}\nselect: [{{when: {{model: m}}, use: q.yaml}}]")
    with pytest.raises(SettingsError, match=r"q\.yaml.*--audit"):
        await start(load_policy(file))


@pytest.mark.parametrize(("policy", "recorded"), [(REQUIRED, False), (HASHED, True)])
async def test_nor_as_the_policy_of_a_key(start, audit, tmp_path, policy, recorded) -> None:
    write(tmp_path / "own.yaml", policy)
    keys = tmp_path / "keys.toml"
    keys.write_text(entry("a", "key-a", policy="own.yaml"))
    with pytest.raises(SettingsError, match=r"own\.yaml: 'audit\."):
        await start(keys=keys, audit=audit if recorded else None)


async def test_a_key_s_policy_that_must_be_recorded_is_refused_while_running(
    start, tmp_path, caplog
) -> None:
    own, keys = tmp_path / "own.yaml", tmp_path / "keys.toml"
    write(own, FREE)
    write(tmp_path / "other.yaml", REQUIRED)
    keys.write_text(entry("a", "key-a", policy="own.yaml"))
    bench = await start(keys=keys, reload_s=0.02)
    bench.upstream.answers(completion("fine"))
    write(own, REQUIRED)
    await told(caplog, "own.yaml: 'audit.required'")
    write(keys, entry("a", "key-a") + entry("b", "key-b", policy="other.yaml"))
    await told(caplog, "keys file refused, the last one stays in force")
    assert "other.yaml: 'audit.required'" in caplog.text
    assert (await ask(bench, "key-a"))[0] == 200
    assert (await ask(bench, "key-b"))[0] == 401


async def test_a_call_that_litellm_cannot_redact_is_recorded_as_refused(start, audit) -> None:
    bench = await start(REDACTING, audit=audit)
    call = {"type": "function", "function": {"name": "f", "arguments": '{"to":"a.b@example.org"}'}}
    body = {"input_type": "response", "texts": [], "tool_calls": [call]}
    url = f"{bench.url}/beta/litellm_basic_guardrail_api"
    async with bench.client.post(url, json=body) as response:
        assert (await response.json())["action"] == "BLOCKED"
    found = await records(audit, 2)
    assert [one["action"] for one in found if one["decided_by"] == "failure"] == ["block"]
