"""LiteLLM as the upstream: a real LiteLLM router in front of a scripted or a real model API."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import anthropic
import openai
import pytest
from aiohttp import web

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
pytest.importorskip("litellm", reason="the extra 'integrations' is not installed")

from guardrail.errors import SettingsError
from guardrail.policy import parse_policy
from guardrail.proxy import Settings, make_app
from guardrail.proxy.models import Models, load_models
from guardrail.proxy.settings import LITELLM
from tests.conftest import MarkerClassifier
from tests.proxy.conftest import POLICY, completion, stream_of

ASK = [{"role": "user", "content": "Write a long story of a cat in a big city."}]
KEY = "sk-operator-secret"

pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # of LiteLLM's own making


def models(base: str, **more: object) -> Models:
    deployment = {"model": "openai/smollm2", "api_base": f"{base}/v1", "api_key": KEY, **more}
    return Models({"small": (deployment,)})


@pytest.fixture
async def routed(start):
    """Start a proxy whose alias `small` leads through LiteLLM to a scripted model API."""
    runners = []

    async def make(**more: object):
        bench = await start()  # its scripted upstream is used, its proxy is not
        settings = Settings(LITELLM, models=models(bench.upstream.url, **more))
        app = make_app(settings, parse_policy(POLICY), MarkerClassifier())
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        bench.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return bench

    yield make
    for runner in runners:
        await runner.cleanup()


async def test_a_request_reaches_the_provider_with_the_operators_key(routed) -> None:
    bench = await routed()
    bench.upstream.answers(completion("hello"))
    sent = {"model": "small", "messages": ASK}
    headers = {"Authorization": "Bearer client-key"}
    url = f"{bench.url}/v1/chat/completions"
    async with bench.client.post(url, json=sent, headers=headers) as answer:
        body = await answer.json()
    assert body["choices"][0]["message"]["content"] == "hello"
    _, path, headers, data = bench.upstream.requests[-1]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert json.loads(data)["model"] == "smollm2"


async def test_conversations_are_judged_though_litellm_keeps_none(routed) -> None:
    bench = await routed()
    for text, status, code in ("BAD", 400, "content_filter"), ("hi", 404, None):
        sent = {"items": [{"role": "user", "content": text}]}
        url = f"{bench.url}/v1/conversations/conv_1/items"
        async with bench.client.post(url, json=sent) as answer:
            assert answer.status == status
            assert (await answer.json())["error"]["code"] == code
    assert bench.upstream.requests == []


async def test_a_harmful_request_never_reaches_the_provider(routed) -> None:
    bench = await routed()
    bench.upstream.answers(completion("hello"))
    async with bench.chat("BAD", model="small") as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "content_filter"
    assert bench.upstream.requests == []


async def test_embeddings_are_served_and_their_input_is_judged(routed) -> None:
    bench = await routed()
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    bench.upstream.answers({"object": "list", "data": [vector], "model": "m", "usage": usage})
    async with openai.AsyncOpenAI(base_url=f"{bench.url}/v1", api_key="x") as client:
        made = await client.embeddings.create(model="small", input="hi", encoding_format="float")
        assert made.data[0].embedding == [0.5]
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="small", input="BAD")
    assert len(bench.upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_harmful_answer_does_not_come_through(routed, stream) -> None:
    bench = await routed()
    if stream:
        bench.upstream.streams(stream_of("all is well. ", "then BAD", " and more"))
    else:
        bench.upstream.answers(completion("then BAD"))
    async with bench.chat(model="small", stream=stream) as answer:
        raw = await answer.read()
    assert b"BAD" not in raw
    assert b"content_filter" in raw


THOUGHT = {"type": "thinking", "thinking": "Let me think.", "signature": "EqQBCkYIAx=="}
CITED = {"type": "char_location", "cited_text": "a BAD quote", "document_index": 0}


def claude(*content: dict[str, object]) -> dict[str, object]:
    usage = {"input_tokens": 5, "output_tokens": 5}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5"}
    return {**head, "content": list(content), "stop_reason": "end_turn", "usage": usage}


@pytest.mark.parametrize(("cited", "status"), [(False, "hello"), (True, "no way")])
@pytest.mark.parametrize(
    ("path", "ask"), [("chat/completions", {"messages": ASK}), ("responses", {"input": "hi"})]
)
async def test_thoughts_and_quotations_of_another_provider_are_judged(
    routed, path, ask, cited, status
) -> None:
    bench = await routed(model="anthropic/claude-sonnet-4-5")
    more = {"citations": [CITED]} if cited else {}
    bench.upstream.answers(claude(THOUGHT, {"type": "text", "text": "hello", **more}))
    body = {"model": "small", **ask}
    async with bench.client.post(f"{bench.url}/v1/{path}", json=body) as answer:
        assert answer.status == 200
        raw = await answer.text()
    assert status in raw
    assert "BAD" not in raw


async def test_a_stream_that_passes_is_read_by_the_official_client(routed) -> None:
    bench = await routed()
    bench.upstream.streams(stream_of("Hello", " there"))
    async with openai.AsyncOpenAI(base_url=f"{bench.url}/v1", api_key="x") as client:
        stream = await client.chat.completions.create(model="small", messages=ASK, stream=True)
        text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
    assert text == "Hello there"


@pytest.mark.parametrize(
    "smuggled",
    [
        {"api_base": "http://127.0.0.1:1"},
        {"base_url": "http://127.0.0.1:1"},
        {"api_key": "k"},
        {"custom_llm_provider": "ollama"},
        {"mock_response": "hi"},
        {"fallbacks": ["gpt-4"]},
        {"extra_headers": {"a": "b"}},
        {"litellm_params": {}},
    ],
    ids=lambda s: next(iter(s)),
)
async def test_a_request_cannot_choose_address_key_or_provider(routed, smuggled) -> None:
    bench = await routed()
    bench.upstream.answers(completion("hello"))
    async with bench.chat(model="small", **smuggled) as answer:
        assert answer.status == 400
        assert next(iter(smuggled)) in (await answer.json())["error"]["message"]
    assert bench.upstream.requests == []


@pytest.mark.parametrize("model", ["openai/gpt-4o", "nothing", 7])
async def test_only_an_alias_names_a_model(routed, model) -> None:
    bench = await routed()
    async with bench.chat(model=model) as answer:
        error = (await answer.json())["error"]
    if isinstance(model, str):
        assert answer.status == 404
        assert "there is small" in error["message"]
    else:
        assert answer.status in (400, 404)


@pytest.mark.parametrize(
    ("status", "seen"), [(400, 400), (429, 429), (404, 404), (401, 502), (500, 502), (503, 502)]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_error_has_a_status_the_client_understands(
    routed, status, seen, stream
) -> None:
    bench = await routed()
    bench.upstream.answers({"error": {"message": f"key {KEY} failed"}}, status=status)
    async with bench.chat(model="small", stream=stream) as answer:
        body = await answer.json()
    assert answer.status == seen
    assert body["error"]["message"]
    if seen == 502:  # of the operator's own account nothing is told
        assert KEY not in json.dumps(body)


async def test_a_silent_provider_is_a_gateway_timeout(routed) -> None:
    bench = await routed(timeout=0.3)

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    bench.upstream.handler = silent
    async with bench.chat(model="small") as answer:
        assert answer.status == 504


async def test_aliases_are_listed_and_other_paths_are_not_served(routed) -> None:
    bench = await routed()
    async with openai.AsyncOpenAI(base_url=f"{bench.url}/v1", api_key="x") as client:
        assert [m.id for m in (await client.models.list()).data] == ["small"]
        with pytest.raises(openai.NotFoundError):
            await client.files.list()


@pytest.mark.real
@pytest.mark.timeout(240)
async def test_every_dialect_reaches_a_real_model(start, llama_url) -> None:
    settings = Settings(LITELLM, models=models(llama_url))
    app = make_app(settings, parse_policy(POLICY), MarkerClassifier(r"BAD"))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await _talk(url)
    finally:
        await runner.cleanup()


async def _talk(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        chat = await client.chat.completions.create(model="small", messages=ASK, max_tokens=8)
        assert chat.choices[0].message.content
        stream = await client.chat.completions.create(
            model="small", messages=ASK, max_tokens=8, stream=True
        )
        assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        text = await client.completions.create(model="small", prompt="Once", max_tokens=8)
        assert text.choices[0].text
        answered = await client.responses.create(model="small", input="Hello", max_output_tokens=16)
        assert answered.output_text
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(model="small", input="BAD")
    async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as claude:
        message = await claude.messages.create(model="small", messages=ASK, max_tokens=8)
        assert message.content[0].text
        async with claude.messages.stream(model="small", messages=ASK, max_tokens=8) as spoken:
            assert "".join([t async for t in spoken.text_stream])


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_models_file_may_name_several_providers_for_an_alias(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    path = write(
        tmp_path,
        "models:\n  one: {model: openai/x, api_key: os.environ/A_KEY}\n"
        "  two: [{model: openai/y}, {model: anthropic/z}]\nretries: 2\n",
    )
    read = load_models(path)
    assert [len(read.deployments[a]) for a in ("one", "two")] == [1, 2]
    assert read.retries == 2
    assert KEY not in repr(read)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "write 'models:'"),
        ("models: []", "write 'models:'"),
        ("models: {a: gpt}", ":1: a: write {model"),
        ("models:\n  a: {}\n", ":2: a: write {model"),
        ("models:\n  a: []\n", ":2: a: write {model"),
        ("models:\n  a: {model: openai/x, api_key: os.environ/NO_SUCH}", "NO_SUCH, which is not"),
        ("models: {a: {model: openai/x}}\nretries: 99", "from 0 to 10"),
        ("models: {a: {model: openai/x}}\nkeys: 1", "unknown key 'keys'"),
        ("models: {a: {model: openai/x}, a: {model: openai/y}}", "there twice"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_models_file_is_told_with_its_place(tmp_path, text, told) -> None:
    with pytest.raises(SettingsError, match=r"--models: .*models\.yaml") as caught:
        load_models(write(tmp_path, text))
    assert told in str(caught.value)


def test_a_missing_models_file_is_told(tmp_path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_models(tmp_path / "none.yaml")


def test_litellm_and_models_go_together() -> None:
    with pytest.raises(SettingsError, match="--models FILE goes with"):
        Settings(LITELLM)
    with pytest.raises(SettingsError, match="--models FILE goes with"):
        Settings("http://127.0.0.1:1", models=Models({}))


def test_a_model_that_litellm_refuses_is_told_without_its_key() -> None:
    refused = Models({"a": ({"model": "no-such-provider-anywhere", "api_key": KEY},)})
    with pytest.raises(SettingsError, match="--models") as caught:
        make_app(Settings(LITELLM, models=refused), parse_policy(POLICY), MarkerClassifier())
    assert KEY not in str(caught.value)
