"""A real LiteLLM proxy process with our guardrail, in its own process and over HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from aiohttp import web

from guardrail.check import Checker
from guardrail.proxy.litellm import answer_litellm
from guardrail.wire.litellm_api import LITELLM_PATH, read_litellm
from tests.conftest import MarkerClassifier
from tests.sdk.conftest import REDACTING, drain
from tests.test_redact import CLEAN, TEXT

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("litellm") is None
        or importlib.util.find_spec("fastapi_sso") is None,
        reason="needs the extra `integrations`",
    ),
]
KEY = f"sk-{secrets.token_hex(32)}"
ROOT = Path(__file__).parent.parent.parent
ASK = [{"role": "user", "content": "Say hello."}]
EVIL = [{"role": "user", "content": "BAD idea"}]

CONFIG = """
model_list:
  - model_name: smollm2
    litellm_params: {{model: openai/smollm2, api_base: "{llama}/v1", api_key: none}}
  - model_name: evil
    litellm_params:
      model: openai/smollm2
      api_base: "{fake}/v1"
      api_key: none
  - model_name: echo
    litellm_params:
      model: openai/echo
      api_base: "{fake}/v1"
      api_key: none
guardrails:
  - guardrail_name: inside
    litellm_params:
      guardrail: tests.sdk.litellm_plugin.plugin
      mode: [pre_call, post_call]
  - guardrail_name: inside-message
    litellm_params:
      guardrail: tests.sdk.litellm_plugin.plugin
      mode: [pre_call, post_call]
      on_block: message
  - guardrail_name: over-http
    litellm_params:
      guardrail: generic_guardrail_api
      mode: [pre_call, post_call]
      api_base: "{fake}"
"""


class Peer:
    """The Generic Guardrail API, and a model that says what it should not."""

    def __init__(self) -> None:
        self.checker = Checker(MarkerClassifier())
        self.asked: list[str] = []
        self.got: list[str] = []
        self.port = 0

    async def guardrail_api(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append(read_litellm(body).direction.value)
        reply = await answer_litellm(self.checker, REDACTING, body)
        return web.Response(body=reply.body, content_type="application/json")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        words = [f"{w} " for w in ("some quite harmless words come first " * 8).split()] + ["BAD"]
        if body["model"] == "echo":
            self.got.append(body["messages"][-1]["content"])
            words = [TEXT[n : n + 5] for n in range(0, len(TEXT), 5)]
        head = {"id": "c", "created": 1, "model": "m"}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({**head, "object": "chat.completion", "choices": [choice]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for word in [*words, None]:
            delta = {"content": word} if word else {}
            choice = {"index": 0, "delta": delta, "finish_reason": None if word else "stop"}
            data = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            await response.write(f"data: {json.dumps(data)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    def run(self, ready: threading.Event, stop: threading.Event) -> None:
        async def serve() -> None:
            app = web.Application()
            app.router.add_post(LITELLM_PATH, self.guardrail_api)
            app.router.add_post("/v1/chat/completions", self.chat)
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            ready.set()
            await asyncio.to_thread(stop.wait)
            await runner.cleanup()

        asyncio.run(serve())


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    made, ready, stop = Peer(), threading.Event(), threading.Event()
    thread = threading.Thread(target=made.run, args=(ready, stop))
    thread.start()
    ready.wait(10)
    yield made
    stop.set()
    thread.join()


@pytest.fixture(scope="module")
def litellm_url(
    llama_url: str, peer: Peer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("litellm")
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(llama=llama_url, fake=f"http://127.0.0.1:{peer.port}"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = "from litellm.proxy.proxy_cli import run_server; run_server()"
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_MASTER_KEY": KEY,
    }
    args = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", start, *args], env=env, stdout=log, stderr=log
        )
        try:
            yield _ready(process, port, folder / "log.txt")
        finally:
            process.terminate()
            process.wait(30)


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> str:
    url = f"http://127.0.0.1:{port}"
    for _ in range(400):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health/liveliness", timeout=2):
                return url
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text()[-4000:])


@pytest.fixture(scope="module")
def client(litellm_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=litellm_url, api_key=KEY, max_retries=0)


def ask(client: openai.OpenAI, guardrail: str, model: str = "smollm2", **more: object) -> object:
    more = {"messages": ASK, "max_tokens": 8, **more}
    return client.chat.completions.create(
        model=model, extra_body={"guardrails": [guardrail]}, **more
    )  # type: ignore[call-overload]


def text_of(stream: object) -> str:
    return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)  # type: ignore[attr-defined]


@pytest.mark.parametrize("guardrail", ["inside", "over-http"])
def test_a_harmless_call_passes(client: openai.OpenAI, guardrail: str) -> None:
    assert ask(client, guardrail).choices[0].message.content  # type: ignore[attr-defined]
    assert text_of(ask(client, guardrail, stream=True))


@pytest.mark.parametrize("guardrail", ["inside", "over-http"])
def test_a_harmful_request_is_a_400_with_the_policys_message(
    client: openai.OpenAI, guardrail: str
) -> None:
    with pytest.raises(openai.BadRequestError, match="no way"):
        ask(client, guardrail, messages=EVIL)


@pytest.mark.parametrize("guardrail", ["inside", "over-http"])
def test_a_harmful_answer_is_a_400(client: openai.OpenAI, guardrail: str) -> None:
    with pytest.raises(openai.BadRequestError, match="no way"):
        ask(client, guardrail, model="evil")


def test_a_harmful_stream_is_cut_before_the_harm(client: openai.OpenAI) -> None:
    said: list[str] = []
    stream = ask(client, "inside", model="evil", stream=True)
    words = (c.choices[0].delta.content or "" for c in stream if c.choices)  # type: ignore[attr-defined]
    with pytest.raises(openai.APIError, match="no way"):
        drain(words, said)
    assert "harmless words" in "".join(said)
    assert "BAD" not in "".join(said)


def test_a_block_can_be_an_answer_instead(client: openai.OpenAI) -> None:
    whole = ask(client, "inside-message", model="evil")
    assert whole.choices[0].message.content == "no way"  # type: ignore[attr-defined]
    chunks = list(ask(client, "inside-message", model="evil", stream=True))  # type: ignore[call-overload]
    assert "BAD" not in text_of(chunks)
    assert [c.choices[0].delta.refusal for c in chunks if c.choices][-2:] == ["no way", None]
    assert chunks[-1].choices[0].finish_reason == "content_filter"


def test_litellm_asks_over_http_in_both_directions(client: openai.OpenAI, peer: Peer) -> None:
    peer.asked.clear()
    ask(client, "over-http")
    assert peer.asked == ["input", "output"]


@pytest.mark.parametrize("guardrail", ["inside", "over-http"])
def test_what_is_redacted_reaches_neither_the_model_nor_the_client(
    client: openai.OpenAI, peer: Peer, guardrail: str
) -> None:
    peer.got.clear()
    asked = [{"role": "user", "content": TEXT}]
    whole = ask(client, guardrail, model="echo", messages=asked)
    assert peer.got == [CLEAN]
    assert whole.choices[0].message.content == CLEAN  # type: ignore[attr-defined]


def test_a_stream_through_the_plug_in_is_redacted(client: openai.OpenAI) -> None:
    assert text_of(ask(client, "inside", model="echo", stream=True)) == CLEAN
