"""What hot reload promises: the new policy in force, a bad one refused, no request lost."""

from __future__ import annotations

import asyncio
import os

import pytest

from guardrail.check import Checker
from guardrail.errors import PolicyError
from guardrail.policy import load_policy, parse_policy

from .conftest import completion

HEAD = "version: 1\nname: t\n"
BLOCKS = HEAD + "categories: {unsafe: {block: 0.5}}"
FLAGS = HEAD + "categories: {unsafe: {flag: 0.5}}"
THIRD = HEAD + "categories: {unsafe: {flag: 0.25, block: 0.75}}"


def write(path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


async def identity(bench) -> str:
    async with bench.client.get(f"{bench.url}/health/ready") as answer:
        return (await answer.json())["policy"]


async def until(bench, wanted: str) -> None:
    async with asyncio.timeout(30):
        while await identity(bench) != wanted:  # noqa: ASYNC110  (polls as a client would)
            await asyncio.sleep(0.02)


@pytest.fixture
async def running(start, tmp_path):
    file = tmp_path / "p.yaml"
    write(file, BLOCKS)
    bench = await start(load_policy(file), reload_s=0.02)
    bench.upstream.answers(completion("fine"))
    return bench, file


async def test_a_changed_file_is_in_force_soon(running) -> None:
    bench, file = running
    async with bench.chat("BAD") as answer:
        assert answer.status == 400
    write(file, FLAGS)
    await until(bench, parse_policy(FLAGS).identity)
    async with bench.chat("BAD") as answer:
        assert answer.status == 200
        assert answer.headers["x-guardrail-policy"] == parse_policy(FLAGS).identity


async def test_a_policy_that_does_not_validate_is_refused_and_the_old_one_stays(
    running, caplog
) -> None:
    bench, file = running
    write(file, BLOCKS.replace("unsafe", "unsaef"))
    async with asyncio.timeout(30):
        while "did you mean 'unsafe'" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert "stays in force" in caplog.text
    async with bench.chat("BAD") as answer:
        assert answer.status == 400
    async with bench.client.get(f"{bench.url}/metrics") as answer:
        assert 'guardrail_policy_reloads_total{result="refused"} 1.0' in await answer.text()
    write(file, FLAGS)
    await until(bench, parse_policy(FLAGS).identity)


async def test_a_file_that_is_gone_leaves_the_old_policy_in_force(running) -> None:
    bench, file = running
    file.unlink()
    await asyncio.sleep(0.2)
    assert await identity(bench) == parse_policy(BLOCKS).identity
    write(file, FLAGS)
    await until(bench, parse_policy(FLAGS).identity)


async def test_a_change_of_an_extended_policy_counts(start, tmp_path) -> None:
    base, file = tmp_path / "base.yaml", tmp_path / "p.yaml"
    write(base, BLOCKS)
    write(file, HEAD + "extends: base.yaml")
    bench = await start(load_policy(file), reload_s=0.02)
    write(base, FLAGS)
    await until(bench, parse_policy(FLAGS).identity)


async def test_no_request_fails_while_policies_change(running) -> None:
    bench, file = running
    stop = asyncio.Event()
    seen: set[tuple[int, str]] = set()

    async def client(text: str) -> int:
        count = 0
        while not stop.is_set():
            async with bench.chat(text) as answer:
                await answer.read()
                seen.add((answer.status, answer.headers["x-guardrail-policy"]))
            count += 1
        return count

    clients = [asyncio.create_task(client(text)) for text in ("hello", "BAD") * 4]
    for n in range(10):
        text = (FLAGS, BLOCKS)[n % 2]
        write(file, text)
        await until(bench, parse_policy(text).identity)
        await asyncio.sleep(0.03)
    stop.set()
    counts = await asyncio.gather(*clients)
    assert min(counts) > 5
    flags, blocks = parse_policy(FLAGS).identity, parse_policy(BLOCKS).identity
    assert seen <= {(200, flags), (200, blocks), (400, blocks)}
    assert len({policy for _, policy in seen}) == 2


async def test_a_first_policy_that_cannot_be_used_stops_the_start(start) -> None:
    policy = parse_policy(HEAD + "categories: {own: {rubric: Sells fish, block: 0.5}}")
    with pytest.raises(PolicyError, match="no embeddings"):
        await start(policy)


async def test_a_signal_reloads_at_once(start, tmp_path) -> None:
    file = tmp_path / "p.yaml"
    write(file, BLOCKS)
    bench = await start(load_policy(file), reload_s=0)
    state = file.stat()
    write(file, FLAGS)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    await asyncio.sleep(0.1)
    assert await identity(bench) == parse_policy(BLOCKS).identity
    bench.reloader.request()
    await until(bench, parse_policy(FLAGS).identity)


def save_meanwhile(monkeypatch, path, text: str) -> None:
    """Save a file once, while the next policy is being prepared."""
    right = Checker.adopt
    left = [text]

    def adopt(checker, policy):
        if left:
            write(path, left.pop())
        return right(checker, policy)

    monkeypatch.setattr(Checker, "adopt", adopt)


async def test_what_is_saved_while_the_last_version_is_prepared_is_not_lost(
    running, monkeypatch
) -> None:
    bench, file = running
    save_meanwhile(monkeypatch, file, THIRD)
    write(file, FLAGS)
    await until(bench, parse_policy(THIRD).identity)


async def test_nor_is_it_in_a_file_that_the_version_before_did_not_name(
    running, monkeypatch, tmp_path
) -> None:
    bench, file = running
    base = tmp_path / "base.yaml"
    write(base, FLAGS)
    save_meanwhile(monkeypatch, base, THIRD)
    write(file, HEAD + "extends: base.yaml")
    await until(bench, parse_policy(THIRD).identity)


async def test_what_is_saved_between_the_first_load_and_the_start_counts(start, tmp_path) -> None:
    file = tmp_path / "p.yaml"
    write(file, BLOCKS)
    loaded = load_policy(file)
    write(file, FLAGS)
    bench = await start(loaded, reload_s=0)
    assert await identity(bench) == parse_policy(FLAGS).identity


async def test_what_is_saved_while_the_first_policy_is_prepared_is_not_lost(
    start, tmp_path, monkeypatch
) -> None:
    file = tmp_path / "p.yaml"
    write(file, BLOCKS)
    save_meanwhile(monkeypatch, file, FLAGS)
    bench = await start(load_policy(file), reload_s=0.02)
    await until(bench, parse_policy(FLAGS).identity)
