"""What several processes on one port promise, as a real `guardrail serve` with the real model."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from guardrail.classifier.bundle import EMBEDDED
from guardrail.errors import SettingsError
from guardrail.proxy import AdminSettings, Settings, workers
from guardrail.proxy.logs import LogFormat

from .conftest import completion, stream_of

STRICT = "version: 1\nname: strict\ncategories: {unsafe: {block: 0.5}}"
LAX = "version: 1\nname: lax\ncategories: {unsafe: {flag: 0.5}}"
WORDS = "There are many old bridges in this town and people like to look at them. "


@dataclass
class Running:
    """A `guardrail serve` in front of a slow upstream."""

    process: asyncio.subprocess.Process
    url: str
    policy: Path
    client: aiohttp.ClientSession

    def chat(self, **more: object):
        body = {"model": "m", "messages": [{"role": "user", "content": WORDS}], **more}
        return self.client.post(f"{self.url}/v1/chat/completions", json=body)

    async def text(self, path: str) -> str:
        async with self.client.get(self.url + path) as answer:
            return await answer.text()

    def pids(self) -> list[int]:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parts = stat.read_text().rpartition(")")[2].split()
                command = (stat.parent / "cmdline").read_bytes()
            except OSError:
                continue
            if int(parts[1]) == self.process.pid and b"spawn_main" in command:
                found.append(int(stat.parent.name))
        return found


async def upstream() -> tuple[web.AppRunner, str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if not asked.get("stream"):
            return web.json_response(completion(WORDS))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for data in stream_of(*[WORDS] * asked["max_tokens"]):
            await response.write(data)
            await asyncio.sleep(0.1)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{site.port}"


@pytest.fixture
async def serve(tmp_path) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    runner, address = await upstream()
    made: list[Running] = []

    async def make(*options: str) -> Running:
        policy = tmp_path / "p.yaml"
        policy.write_text(STRICT)
        command = [sys.executable, "-u", "-m", "guardrail", "serve", "-u", address, "--port", "0"]
        command += ["-p", str(policy), "--reload-s", "0", "--audit", "none", *options]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line.startswith(b"guardrail listens on"), await process.stderr.read()
        client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        made.append(Running(process, line.split()[-1].decode(), policy, client))
        return made[-1]

    yield make
    for one in made:
        await one.client.close()
        if one.process.returncode is None:
            one.process.kill()
        await one.process.communicate()
    await runner.cleanup()


def running_still(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def until(check: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not await check():  # noqa: ASYNC110  (polls as a balancer would)
            await asyncio.sleep(0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_workers_share_the_port_survive_a_death_reload_and_drain(serve) -> None:
    running = await serve("--workers", "2", "--threads", "1")
    for _ in range(12):
        async with running.chat() as answer:
            assert answer.status == 200
    assert 'guardrail_requests_total{dialect="openai.chat",result="ok"} 12.0' in (
        await running.text("/metrics")
    )
    # A worker that is killed under load takes no more than its own streams with it.
    before = running.pids()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    await asyncio.sleep(0.3)  # connections that its socket had taken are lost with it
    statuses = []
    for _ in range(6):
        async with running.chat() as answer:
            statuses.append(answer.status)
    assert statuses == [200] * 6

    async def restarted() -> bool:
        return "guardrail_worker_restarts_total 1.0" in await running.text("/metrics")

    await until(restarted)
    # One signal to the parent reaches all of them.
    running.policy.write_text(LAX)
    running.process.send_signal(signal.SIGHUP)

    async def reloaded() -> bool:
        seen = {await running.text("/health/ready") for _ in range(8)}
        return all("lax@" in one for one in seen)

    await until(reloaded)
    # What is open when they are asked to stop is finished; nobody is let in any more.
    async with running.chat(stream=True, max_tokens=10) as answer:
        await answer.content.read(20)
        running.process.send_signal(signal.SIGTERM)
        data = await answer.read()
    assert data.endswith(b"data: [DONE]\n\n")
    assert await asyncio.wait_for(running.process.wait(), 20) == 0
    with pytest.raises(aiohttp.ClientError):
        await running.text("/health/live")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_workers_end_when_their_parent_is_killed(serve) -> None:
    running = await serve("--workers", "2", "--threads", "1")
    pids = running.pids()
    running.process.kill()

    async def gone() -> bool:
        return not any(running_still(pid) for pid in pids)

    await until(gone)


async def test_readiness_goes_first_and_the_drain_is_bounded(serve) -> None:
    running = await serve("--drain-delay-s", "1", "--drain-s", "0.3")
    assert '"ready"' in await running.text("/health/ready")
    async with running.chat(stream=True, max_tokens=100) as answer:
        await answer.content.read(20)
        running.process.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            async with running.client.get(f"{running.url}/health/ready") as ready:
                return ready.status == 503 and "draining" in await ready.text()

        await until(draining, 3)
        async with running.chat() as late:  # still served: the balancer may not know yet
            assert late.status == 200
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    assert await asyncio.wait_for(running.process.wait(), 10) == 0


async def test_sighup_loads_the_policy_and_a_broken_one_changes_nothing(serve) -> None:
    running = await serve()
    assert "strict@" in await running.text("/health/ready")
    running.policy.write_text("version: 1\nname: oops\ncategories: {unsaef: {block: 1}}")
    running.process.send_signal(signal.SIGHUP)

    async def refused() -> bool:
        return 'reloads_total{result="refused"} 1.0' in await running.text("/metrics")

    await until(refused)
    assert "strict@" in await running.text("/health/ready")
    running.policy.write_text(LAX)
    running.process.send_signal(signal.SIGHUP)

    async def lax() -> bool:
        return "lax@" in await running.text("/health/ready")

    await until(lax)


async def test_a_model_that_is_damaged_meanwhile_serves_on_and_is_refused_at_the_next_start(
    serve, tmp_path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(EMBEDDED, folder)
    running = await serve("--bundle", str(folder))
    with (folder / "model.onnx").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"damage" * 100)
    running.policy.write_text(LAX)
    running.process.send_signal(signal.SIGHUP)

    async def lax() -> bool:
        return "lax@" in await running.text("/health/ready")

    await until(lax)
    async with running.chat() as answer:
        assert answer.status == 200
    again = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "guardrail", "serve", "-u", "http://h", "--port", "0"),
        *("--bundle", str(folder), "--workers", "2", "--audit", "none"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(again.communicate(), 60)
    assert again.returncode == 4
    assert re.search(rb"model\.onnx.*(changed|hash)", told), told
    assert b"Traceback" not in told


async def test_a_port_in_use_is_one_clear_line_for_workers_too(serve) -> None:
    running = await serve()
    port = running.url.rpartition(":")[2]
    again = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "guardrail", "serve", "-u", "http://h", "--port", port),
        *("--workers", "2", "--audit", "none"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(again.communicate(), 60)
    assert again.returncode == 4
    assert b"cannot listen on" in told


def test_two_consoles_do_not_share_a_port_unawares() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        admin = AdminSettings(other.getsockname()[1], "a-token-of-enough-length")
        settings = Settings("http://h", port=0, admin=admin)
        job = workers.Job(settings, "default", None, 1, LogFormat.TEXT, 30)
        with pytest.raises(SettingsError, match="--admin-port: cannot listen on"):
            workers.Supervisor(job, 2, lambda *_: None, lambda *_: None).run()


def sleep(*_: object) -> None:
    """What a worker does that only a signal ends."""
    time.sleep(60)


@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize("known", [False, True])
def test_a_stop_while_workers_are_started_reaches_all_and_starts_no_more(
    monkeypatch, last: int, known: bool
) -> None:
    started: list[SpawnProcess] = []
    right = SpawnProcess.start

    def start(process: SpawnProcess) -> None:
        started.append(process)
        if known:
            right(process)
        if len(started) == last:
            os.kill(os.getpid(), signal.SIGTERM)  # the handler runs before this returns
        if not known:
            right(process)

    monkeypatch.setattr(workers, "_work", sleep)
    monkeypatch.setattr(SpawnProcess, "start", start)
    job = workers.Job(Settings("http://h", port=0), "default", None, 1, LogFormat.TEXT, 30)
    begun = time.monotonic()
    workers.Supervisor(job, 3, lambda *_: None, lambda *_: None).run()
    assert time.monotonic() - begun < 25
    assert [process.exitcode for process in started] == [-signal.SIGTERM] * last
