"""Redaction through the proxy: what the model gets, and what the client gets."""

from __future__ import annotations

import json
import threading

import pytest

from guardrail.redact import Redactor
from guardrail.wire import WIRES
from tests.proxy.dialects import PATHS, REQUESTS, STREAMS, WHOLES
from tests.proxy.test_leaks import said
from tests.proxy.test_matrix import body_for
from tests.test_redact import CARD, CLEAN, KEYS, MAIL, TEXT

RULES = "personal: {detectors: [email, payment_card], action: redact}"
POLICY = (
    "version: 1\nname: r\nmessage: no way\ninput: {roles: [system, user, assistant, tool]}\n"
    f"categories:\n  unsafe: {{block: 0.9}}\n  {RULES}\n"
)


@pytest.mark.parametrize("key", list(REQUESTS), ids=lambda k: f"{k[0]}-{k[1]}")
async def test_requests_are_redacted_in_their_place_and_nothing_else_changes(start, key) -> None:
    bench = await start(POLICY)
    bench.upstream.answers(WHOLES.get((key[0], "text"), lambda _: {"data": []})("fine"))
    body = {**REQUESTS[key](TEXT), "temperature": 0.5, "x_unknown": [1e-7, None]}
    async with bench.client.post(bench.url + PATHS[key[0]], json=body) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["x-guardrail-redacted"] == "email=1,payment_card=1"
        assert answer.headers["x-guardrail-action"] == "redact"
    assert json.loads(bench.upstream.requests[0][3]) == json.loads(
        json.dumps(body).replace(MAIL, "[REDACTED:email]").replace(CARD, "[REDACTED:payment_card]")
    )
    assert 'guardrail_redactions_total{direction="input",kind="email"} 1.0' in await bench.metrics()


async def test_a_request_without_a_place_is_sent_byte_for_byte(start) -> None:
    bench = await start(POLICY)
    bench.upstream.answers(WHOLES["openai.chat", "text"]("fine"))
    body = b'{"model":"m",   "messages":[{"role":"user","content":"hello"}]}'
    async with bench.client.post(bench.url + PATHS["openai.chat"], data=body) as answer:
        assert "x-guardrail-redacted" not in answer.headers
    assert bench.upstream.requests[0][3] == body


async def test_earlier_turns_are_redacted_too(start) -> None:
    bench = await start(POLICY)
    bench.upstream.answers(WHOLES["openai.chat", "text"]("fine"))
    turns = [(r, f"I am {MAIL}") for r in ("user", "assistant", "user")]
    messages = [{"role": role, "content": text} for role, text in turns]
    async with bench.client.post(
        bench.url + PATHS["openai.chat"], json={"model": "m", "messages": messages}
    ) as answer:
        assert answer.status == 200
    assert MAIL.encode() not in bench.upstream.requests[0][3]


async def test_what_is_blocked_is_not_redacted_but_refused(start) -> None:
    bench = await start(POLICY)
    async with bench.chat(f"BAD {MAIL}") as answer:
        assert answer.status == 400
        assert answer.headers["x-guardrail-action"] == "block"
    assert bench.upstream.requests == []


async def test_a_document_is_redacted_beside_its_title(start) -> None:
    bench = await start(POLICY)
    bench.upstream.answers(WHOLES["anthropic.messages", "text"]("fine"))
    source = {"type": "text", "media_type": "text/plain", "data": f"mail {MAIL} now"}
    block = {"type": "document", "title": "some notes", "source": source}
    messages = [{"role": "user", "content": [block]}]
    body = {"model": "m", "max_tokens": 9, "messages": messages}
    async with bench.client.post(bench.url + PATHS["anthropic.messages"], json=body) as answer:
        assert answer.status == 200
    sent = json.loads(bench.upstream.requests[0][3])["messages"][0]["content"][0]
    assert sent == {**block, "source": {**source, "data": "mail [REDACTED:email] now"}}


async def test_what_cannot_be_taken_out_of_a_request_is_refused(start) -> None:
    bench = await start(POLICY)
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {MAIL: 1}}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [call]}]
    body = {"model": "m", "max_tokens": 9, "messages": messages}
    async with bench.client.post(bench.url + PATHS["anthropic.messages"], json=body) as answer:
        assert answer.status == 400
    assert bench.upstream.requests == []


@pytest.mark.parametrize("mode", ["hold", "trail"])
@KEYS
async def test_streamed_answers_are_redacted_on_the_wire_in_every_mode(start, key, mode) -> None:
    bench = await start(f"{POLICY}stream: {{mode: {mode}}}\n")
    for size in (1, 6):
        pieces = [TEXT[n : n + size] for n in range(0, len(TEXT), size)]
        data, text = await said(bench, key, STREAMS[key](pieces))
        assert text == CLEAN
        assert b"builder" not in data
        assert b"1111" not in data
    metrics = await bench.metrics()
    assert 'guardrail_redactions_total{direction="output",kind="payment_card"} 2.0' in metrics


@pytest.mark.parametrize("key", list(WHOLES), ids=lambda k: f"{k[0]}-{k[1]}")
async def test_whole_answers_are_redacted(start, key) -> None:
    bench = await start(POLICY)
    bench.upstream.answers(WHOLES[key](TEXT))
    async with bench.client.post(bench.url + PATHS[key[0]], json=body_for(key[0], False)) as answer:
        assert await answer.json() == WHOLES[key](CLEAN)
        assert answer.headers["x-guardrail-action"] == "redact"


async def test_a_policy_that_only_monitors_changes_nothing(start) -> None:
    bench = await start(f"{POLICY}mode: monitor\n")
    bench.upstream.answers(WHOLES["openai.chat", "text"](TEXT))
    async with bench.chat(TEXT) as answer:
        assert (await answer.json())["choices"][0]["message"]["content"] == TEXT
    assert MAIL.encode() in bench.upstream.requests[0][3]


async def test_litellm_gets_the_texts_as_they_may_pass(start) -> None:
    bench = await start(POLICY)
    url = f"{bench.url}/beta/litellm_basic_guardrail_api"
    for kind in ("request", "response"):
        async with bench.client.post(
            url, json={"input_type": kind, "texts": ["fine", TEXT]}
        ) as answer:
            assert await answer.json() == {
                "action": "GUARDRAIL_INTERVENED",
                "texts": ["fine", CLEAN],
            }
    async with bench.client.post(url, json={"input_type": "request", "texts": ["x"]}) as answer:
        assert await answer.json() == {"action": "NONE"}


async def test_litellm_s_large_texts_are_redacted_beside_the_loop(start, monkeypatch) -> None:
    bench = await start(POLICY)
    threads: set[int] = set()
    real = Redactor.text

    def text(self, *args, **options):
        threads.add(threading.get_ident())
        return real(self, *args, **options)

    monkeypatch.setattr(Redactor, "text", text)
    url = f"{bench.url}/beta/litellm_basic_guardrail_api"
    long = f"{TEXT}{'and so on. ' * 2_000}"
    async with bench.client.post(url, json={"input_type": "response", "texts": [long]}) as answer:
        assert (await answer.json())["texts"][0].startswith(CLEAN)
    assert threads
    assert threading.get_ident() not in threads


def test_the_dialects_of_this_test_are_all_there_are() -> None:
    assert {dialect for dialect, _ in REQUESTS} == set(WIRES)
