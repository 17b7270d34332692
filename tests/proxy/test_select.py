"""What per-request policies promise at the proxy: the policy that fits is in force, end to end."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from guardrail.policy import load_policy
from guardrail.proxy.notices import languages

from .conftest import completion

OPEN = "version: 1\nname: open\ncategories: {}\n"
CLOSED = "version: 1\nname: closed\nmessage: closed says no\ncategories: {unsafe: {block: 0.5}}\n"
KEY = hashlib.sha256(b"sk-child").hexdigest()


async def gate(start, tmp_path, select: str):
    (tmp_path / "closed.yaml").write_text(CLOSED)
    file = tmp_path / "open.yaml"
    file.write_text(f"{OPEN}select:\n{select}")
    bench = await start(load_policy(file))
    bench.upstream.answers(completion("BAD answer"))
    return bench


async def ask(bench, model: str = "m", **headers: str) -> tuple[int, str]:
    body = {"model": model, "messages": [{"role": "user", "content": "BAD"}]}
    url = f"{bench.url}/v1/chat/completions"
    async with bench.client.post(url, json=body, headers=headers) as answer:
        return answer.status, answer.headers.get("x-guardrail-policy", "").split("@")[0]


async def test_model_header_and_key_choose_the_policy(start, tmp_path) -> None:
    bench = await gate(
        start,
        tmp_path,
        "  - {when: {model: 'big-*'}, use: closed.yaml}\n"
        "  - {when: {header: {x-tenant: kids}}, use: closed.yaml}\n"
        f"  - {{when: {{key_sha256: '{KEY}'}}, use: closed.yaml}}\n",
    )
    assert (await ask(bench))[0] == 200
    assert await ask(bench, "big-1") == (400, "closed")
    assert await ask(bench, **{"X-Tenant": "kids"}) == (400, "closed")
    assert await ask(bench, **{"X-Tenant": "adults"}) == (200, "")
    assert await ask(bench, Authorization="Bearer sk-child") == (400, "closed")
    assert await ask(bench, **{"x-api-key": "sk-child"}) == (400, "closed")
    assert (await ask(bench, Authorization="Bearer sk-other"))[0] == 200


async def test_the_route_chooses_and_the_answer_is_judged_by_the_same_policy(
    start, tmp_path
) -> None:
    bench = await gate(start, tmp_path, "  - {when: {route: '/v1/chat/*'}, use: closed.yaml}\n")
    async with bench.chat("hello") as answer:
        assert answer.status == 200
        body = await answer.json()
    assert body["choices"][0]["message"]["content"] != "BAD answer"
    assert body["choices"][0]["finish_reason"] == "content_filter"


async def test_another_spelling_of_the_path_is_no_way_around(start, tmp_path) -> None:
    bench = await gate(start, tmp_path, "  - {when: {route: '/v1/chat/*'}, use: closed.yaml}\n")
    body = {"model": "m", "messages": [{"role": "user", "content": "BAD"}]}
    for path in ("//v1//chat/completions", "/v1/x/../chat/completions/"):
        async with bench.client.post(bench.url + path, json=body) as answer:
            assert answer.status == 400, path


async def test_the_message_is_in_the_client_s_language(start) -> None:
    bench = await start(
        "version: 1\nname: t\nmessage: {en: No, de: Nein}\ncategories: {unsafe: {block: 0.5}}"
    )
    for accepts, message in (("de-AT,de;q=0.9,en;q=0.5", "Nein"), ("fr", "No"), ("", "No")):
        body = {"model": "m", "messages": [{"role": "user", "content": "BAD"}]}
        headers = {"Accept-Language": accepts}
        url = f"{bench.url}/v1/chat/completions"
        async with bench.client.post(url, json=body, headers=headers) as answer:
            assert message in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [
        ("en", ("en",)),
        ("fr;q=0.5, de-CH, en;q=0.7", ("de-ch", "en", "fr")),
        ("de;q=0, en;q=x, ,;q=1", ()),
        ("," * 10_000, ()),
    ],
)
def test_languages_are_sorted_by_weight_and_nonsense_is_skipped(accepts, expected) -> None:
    assert languages(accepts) == expected


async def test_a_policy_on_trial_is_counted(start, tmp_path) -> None:
    (tmp_path / "closed.yaml").write_text(CLOSED)
    file = tmp_path / "live.yaml"
    file.write_text(
        "version: 1\nname: live\nshadow: closed.yaml\n"
        "categories: {unsafe: {flag: 0.5, direction: input}}\n"
    )
    bench = await start(load_policy(file))
    bench.upstream.answers(completion("fine"))
    assert await ask(bench) == (200, "live")
    line = 'shadow_verdicts_total{direction="input",live="flag",shadow="block"} 1.0'
    text = ""
    async with asyncio.timeout(20):
        while line not in text:
            async with bench.client.get(f"{bench.url}/metrics") as answer:
                text = await answer.text()
