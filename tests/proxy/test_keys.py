"""What keys of the proxy promise: who may come in, by which policy, and that none is forwarded."""

from __future__ import annotations

import asyncio
import hashlib
import logging

import pytest
from yarl import URL

from guardrail.errors import PolicyError, SettingsError
from guardrail.policy import load_policy
from guardrail.proxy.keys import read_keys

from .conftest import completion

FLAG = "version: 1\nname: lenient\ncategories: {unsafe: {flag: 0.5}}"


def entry(name: str, key: str, **more: str) -> str:
    lines = [f'name = "{name}"', f'sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"']
    return "\n".join(["[[keys]]", *lines, *(f'{k} = "{v}"' for k, v in more.items()), ""])


@pytest.fixture
async def bench(start, tmp_path):
    (tmp_path / "lenient.yaml").write_text(FLAG)
    file = tmp_path / "keys.toml"
    file.write_text(entry("a", "key-a") + entry("b", "key-b", policy="lenient.yaml"))
    made = await start(keys=file, reload_s=0.02)
    made.upstream.answers(completion("fine"))
    made.file = file
    return made


async def ask(bench, key: str | None, text: str = "hi", header: str = "Authorization"):
    value = f"Bearer {key}" if header == "Authorization" else key
    headers = {header: value} if key is not None else {}
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    async with bench.client.post(
        f"{bench.url}/v1/chat/completions", json=body, headers=headers
    ) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key", "x-guardrail-key"])
async def test_a_known_key_lets_in_and_does_not_reach_the_upstream(bench, header) -> None:
    assert (await ask(bench, "key-a", header=header))[0] == 200
    _, _, headers, _ = bench.upstream.requests[0]
    assert "key-a" not in str(headers)


async def test_the_client_s_own_key_travels_beside_the_proxy_s(bench) -> None:
    headers = {"x-guardrail-key": "key-a", "Authorization": "Bearer sk-own"}
    async with bench.client.get(f"{bench.url}/v1/models", headers=headers) as answer:
        assert answer.status == 200
    sent = bench.upstream.requests[0][2]
    assert sent["Authorization"] == "Bearer sk-own"
    assert "x-guardrail-key" not in sent


@pytest.mark.parametrize("key", [None, "", "key-", "key-aa", "\xff", "key-a\u00e9"])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/models", "/metrics", "/v1/moderations"]
)
async def test_any_other_key_is_401_on_every_path_in_the_client_s_protocol(
    bench, key, path
) -> None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with bench.client.post(f"{bench.url}{path}", json={}, headers=headers) as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["type"] == "authentication_error"
    assert not bench.upstream.requests


async def test_health_needs_no_key(bench) -> None:
    for path in ("/health/live", "/health/ready"):
        async with bench.client.get(bench.url + path) as answer:
            assert answer.status == 200


async def test_a_key_has_a_policy_of_its_own(bench) -> None:
    assert (await ask(bench, "key-a", "BAD"))[0] == 400
    assert (await ask(bench, "key-b", "BAD"))[0] == 200


async def test_a_key_that_is_taken_out_stops_working_and_a_broken_file_changes_nothing(
    bench, caplog
) -> None:
    bench.file.write_text("keys = 1")
    async with asyncio.timeout(20):
        while "stays in force" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (await ask(bench, "key-b"))[0] == 200
    bench.file.write_text(entry("a", "key-a"))
    async with asyncio.timeout(20):
        while (await ask(bench, "key-b"))[0] == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (await ask(bench, "key-a"))[0] == 200


async def test_no_key_is_logged(bench, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    await ask(bench, "key-a")
    await ask(bench, "wrong-key")
    assert "key-a" not in caplog.text
    assert "wrong-key" not in caplog.text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "has no"),
        ("keys = 3", "has no"),
        ("[[keys]]\nname = 'a'\nsha256 = 'secret'", "64 hex digits"),
        ("[[keys]]\nname = 'a b'\nsha256 = 'x'", "name must be"),
        ("[[keys]]\nname = 'a'\nkey = 'x'", "unknown 'key'"),
        ("[[keys", "not TOML"),
        (entry("a", "x") * 2, "same name"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_fix(tmp_path, text, word) -> None:
    file = tmp_path / "k.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=word) as caught:
        read_keys(file)
    assert "k.toml" in str(caught.value)


def test_a_file_that_is_missing_or_huge_is_refused(tmp_path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_keys(tmp_path / "none.toml")
    huge = tmp_path / "huge.toml"
    huge.write_text("#" * 1_100_000)
    with pytest.raises(SettingsError, match="1 MiB"):
        read_keys(huge)


async def test_only_health_itself_is_open_and_nothing_of_it_reaches_the_upstream(bench) -> None:
    for method, path in (
        ("POST", "/health/live"),
        ("GET", "/health%2Flive"),
        ("PUT", "/health/ready"),
    ):
        url = URL(bench.url + path, encoded=True)
        async with bench.client.request(method, url) as answer:
            assert answer.status == 401, (method, path)
    assert not bench.upstream.requests


async def test_a_second_credential_does_not_change_whose_policy_it_is(start, tmp_path) -> None:
    digest = hashlib.sha256(b"key-a").hexdigest()
    (tmp_path / "closed.yaml").write_text(
        "version: 1\nname: closed\ncategories: {unsafe: {block: 0.5}}"
    )
    policy = tmp_path / "open.yaml"
    policy.write_text(
        "version: 1\nname: open\ncategories: {unsafe: {flag: 0.5}}\n"
        f"select:\n  - {{when: {{key_sha256: '{digest}'}}, use: closed.yaml}}\n"
    )
    keys = tmp_path / "keys.toml"
    keys.write_text(entry("a", "key-a"))
    bench = await start(load_policy(policy), keys=keys)
    bench.upstream.answers(completion("fine"))
    body = {"model": "m", "messages": [{"role": "user", "content": "BAD"}]}
    for header in ("x-guardrail-key", "x-api-key", "api-key"):
        headers = {header: "key-a", "Authorization": "Bearer of-no-account"}
        async with bench.client.post(
            f"{bench.url}/v1/chat/completions", json=body, headers=headers
        ) as answer:
            assert answer.status == 400, header


async def test_a_surprise_does_not_end_the_watch_over_keys(tmp_path, marker, monkeypatch) -> None:
    from guardrail.check import Checker
    from guardrail.proxy import keys as module
    from guardrail.proxy.metrics import Metrics

    file = tmp_path / "keys.toml"
    line = '[[keys]]\nname = "{}"\nsha256 = "' + "0" * 64 + '"\n'
    file.write_text(line.format("one"))
    async with Checker(marker) as checker:
        ring = module.KeyRing(file, checker, Metrics(), None, 0.02)
        await ring.start()
        right = module.read_keys
        asked = asyncio.Event()

        def surprise(_: object) -> object:
            loop.call_soon_threadsafe(asked.set)
            raise RuntimeError("surprise")

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(module, "read_keys", surprise)
        file.write_text(line.format("two") + "\n")
        await asyncio.wait_for(asked.wait(), 20)
        monkeypatch.setattr(module, "read_keys", right)
        file.write_text(line.format("three"))
        async with asyncio.timeout(20):
            while ring._entries[0].name != "three":  # noqa: ASYNC110  (polls a file)
                await asyncio.sleep(0.01)
        await ring.close()


async def test_a_policy_that_cannot_be_used_leaves_no_watch_over_the_others_behind(
    tmp_path, marker
) -> None:
    from guardrail.check import Checker
    from guardrail.proxy.keys import KeyRing
    from guardrail.proxy.metrics import Metrics

    (tmp_path / "a.yaml").write_text(FLAG)
    (tmp_path / "b.yaml").write_text("version: 1\nname: broken\ncategories: {unsaef: {flag: 0.5}}")
    file = tmp_path / "keys.toml"
    file.write_text(entry("a", "key-a", policy="a.yaml") + entry("b", "key-b", policy="b.yaml"))
    before = asyncio.all_tasks()
    async with Checker(marker) as checker:
        ring = KeyRing(file, checker, Metrics(), None, 0.02)
        for _ in range(2):
            with pytest.raises(PolicyError, match="unsaef"):
                await ring.start()
            assert asyncio.all_tasks() == before
