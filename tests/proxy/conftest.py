"""A proxy on a real socket in front of a scripted upstream, both in the test's own loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from guardrail.policy import Policy, parse_policy
from guardrail.proxy import Settings, make_app
from guardrail.proxy.app import Proxy
from guardrail.proxy.reload import Reloader
from guardrail.proxy.server import PROXY, listen

POLICY = "version: 1\nname: t\nmessage: no way\ncategories: {unsafe: {flag: 0.5, block: 0.9}}"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> bytes:
    """One chat-completion chunk as an SSE event."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**body, 'choices': [choice], **more})}\n\n".encode()


def stream_of(*texts: str) -> list[bytes]:
    return [*(chunk(t) for t in texts), chunk(finish="stop"), b"data: [DONE]\n\n"]


def completion(text: str) -> dict[str, object]:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


@dataclass
class FakeUpstream:
    """An upstream that does what a test scripts."""

    handler: Handler | None = None
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.method, request.raw_path, dict(request.headers), body))
        assert self.handler is not None
        try:
            return await self.handler(request)
        except (asyncio.CancelledError, ConnectionResetError):
            self.disconnected.set()
            raise

    def answers(self, payload: object, status: int = 200, **headers: str) -> None:
        async def handler(_: web.Request) -> web.StreamResponse:
            return web.json_response(payload, status=status, headers=headers)

        self.handler = handler

    def streams(self, chunks: list[bytes], pause_s: float = 0.0, cut: bool = False) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for data in chunks:
                await response.write(data)
                await asyncio.sleep(pause_s)
            if cut:
                assert request.transport is not None
                request.transport.abort()
            return response

        self.handler = handler


@dataclass
class Bench:
    """A running proxy, its upstream and a client."""

    upstream: FakeUpstream
    client: aiohttp.ClientSession
    url: str
    proxy: Proxy

    @property
    def reloader(self) -> Reloader:
        return self.proxy.reloader

    async def metrics(self) -> str:
        async with self.client.get(f"{self.url}/metrics") as answer:
            return await answer.text()

    def chat(self, text: str = "hi", **more: object):
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
        return self.client.post(f"{self.url}/v1/chat/completions", json=body)


async def _run(app: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def _run_proxy(app: web.Application) -> tuple[web.AppRunner, asyncio.Server, str]:
    """Run a proxy as `guardrail serve` does, within its limits."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    server, _ = await listen(runner, app[PROXY].settings)
    return runner, server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


Start = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def start(marker) -> AsyncIterator[Start]:
    """Start a proxy: ``await start(policy=..., **settings)``."""
    runners: list[web.AppRunner] = []
    sessions: list[aiohttp.ClientSession] = []
    servers: list[asyncio.Server] = []

    async def make(policy: str | Policy = POLICY, *, url: str | None = None, **settings: object):
        fake = FakeUpstream()
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", fake.handle)
        runner, fake.url = await _run(app)
        runners.append(runner)
        loaded = parse_policy(policy) if isinstance(policy, str) else policy
        settings = {"port": 0, **settings}
        made = make_app(Settings(url or fake.url, **settings), loaded, marker)  # type: ignore[arg-type]
        runner, server, proxy_url = await _run_proxy(made)
        servers.append(server)
        runners.insert(0, runner)
        sessions.append(aiohttp.ClientSession())
        return Bench(fake, sessions[-1], proxy_url, made[PROXY])

    yield make
    for session in sessions:
        await session.close()
    for server in servers:
        server.close()
    for runner in runners:
        await runner.cleanup()
