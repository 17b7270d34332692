"""The operator's interface over HTTP: who may ask, what is answered, what is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from guardrail.audit import AuditLog, AuditSettings, Store
from guardrail.audit.record import row_of
from guardrail.audit.seal import Sealer
from guardrail.check import Checker
from guardrail.errors import SettingsError
from guardrail.policy import Policy, parse_policy
from guardrail.proxy import AdminSettings, admin
from guardrail.proxy.admin import admin_site
from guardrail.types import Action, Direction, Finding, Scores, Verdict
from tests.audit.conftest import decision
from tests.guard_server import guard_server, logprobs

TOKEN = "a-token-of-enough-length"
POLICY = parse_policy(
    "version: 1\nname: t\naudit: {text: plain}\n"
    "categories: {unsafe: {flag: 0.5, block: 0.9, review: [0.6, 0.8]}, hate: {flag: 0.5}}"
)


@dataclass
class InForce:
    policy: Policy
    checker: Checker
    audit: AuditLog | None


@dataclass
class Console:
    url: str
    session: aiohttp.ClientSession
    store: Store

    async def get(self, path: str, status: int = 200) -> dict:
        async with self.session.get(f"{self.url}{path}") as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def post(self, path: str, body: object, status: int = 200) -> dict:
        async with self.session.post(f"{self.url}{path}", json=body) as response:
            assert response.status == status, await response.text()
            return await response.json()


def in_band(number: int, text: str = "some text"):
    found = (Finding("unsafe", Action.FLAG, 0.7, 0.5, review=True),)
    verdict = Verdict(Action.FLAG, Direction.INPUT, found, Scores({"unsafe": 0.7, "hate": 0.1}))
    return decision(number, verdict=verdict, policy=POLICY, text=text)


@pytest.fixture
async def console(marker, tmp_path) -> AsyncIterator[Console]:
    settings = AuditSettings(f"sqlite:{tmp_path}/audit.db")
    with Store.open(settings) as store:
        rows = [in_band(1), in_band(2, "<script>alert(1)</script>"), decision(3)]
        store.write([row_of(one, Sealer(None)) for one in rows])
        proxy = InForce(POLICY, Checker(marker), AuditLog(settings))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            admin_site(AdminSettings(0, TOKEN), proxy) as port,
            aiohttp.ClientSession(headers=headers) as session,
        ):
            yield Console(f"http://127.0.0.1:{port}", session, store)
        await proxy.checker.close()


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


TEXTS = (
    ("ink", "paper"), ("ink", "card"), ("soft", "card"), ("soft", "paper"), ("accent", "card"),
    ("accent-ink", "accent"), ("pass-ink", "pass-bg"), ("flag-ink", "flag-bg"),
    ("block", "block-bg"), ("review", "review-bg"), ("ink", "block-bg"), ("ink", "review-bg"),
    ("soft", "review-bg"),
)  # fmt: skip


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_can_be_read_against_its_ground(scheme: int) -> None:
    style = (Path(admin.__file__).parent / "console" / "style.css").read_text(encoding="utf-8")
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    for text, ground in TEXTS:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


PATHS = (
    "/api/state", "/api/summary", "/api/decisions", "/api/decisions/r-1", "/api/calibration/unsafe",
    "/api/nothing",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_is_told_without_the_token(console: Console, path: str) -> None:
    for given in (None, "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", TOKEN[:-1], "Bearer é"):
        headers = {} if given is None else {"Authorization": given}
        async with aiohttp.ClientSession() as session:
            for method in ("GET", "POST", "DELETE"):
                asked = session.request(method, console.url + path, headers=headers)
                async with asked as response:
                    assert response.status == 401
                    assert "r-1" not in await response.text()


async def test_every_answer_carries_the_headers_that_keep_other_pages_out(console) -> None:
    for path in ("/", "/main.js", "/api/state", "/api/nothing", "/../admin.py"):
        async with console.session.get(console.url + path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["X-Frame-Options"] == "DENY"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_only_the_consoles_own_files_are_served(console) -> None:
    for path in ("/admin.py", "/..%2fadmin.py", "/%2e%2e/admin.py", "//etc/passwd", "/index.html"):
        async with console.session.get(console.url + path) as response:
            assert response.status == 404


async def test_the_page_has_no_script_of_its_own_and_none_from_elsewhere(console) -> None:
    async with console.session.get(console.url) as response:
        page = await response.text()
    assert "style=" not in page
    assert " on" not in page.replace(" only", "").split("<body>")[0]
    assert page.count("<script") == 1
    assert "http://" not in page
    assert "https://" not in page


async def test_decisions_are_listed_filtered_and_paged(console: Console) -> None:
    found = await console.get("/api/decisions?limit=2")
    assert [one["id"] for one in found["decisions"]] == ["r-3", "r-2"]
    rest = await console.get(f"/api/decisions?limit=2&before={found['next']}")
    assert [one["id"] for one in rest["decisions"]] == ["r-1"]
    assert rest["next"] is None
    blocked = await console.get("/api/decisions?action=block")
    assert [one["id"] for one in blocked["decisions"]] == ["r-3"]
    assert found["decisions"][1]["snippet"] == "<script>alert(1)</script>"


async def test_one_decision_is_shown_with_everything(console: Console) -> None:
    found = await console.get("/api/decisions/r-1")
    assert found["text"] == "some text"
    assert found["detail"]["scores"]["unsafe"] == [0.7, 0.5, 0.9]
    assert found["labels"] == []
    assert (await console.get("/api/decisions/none", 404))["error"]


async def test_an_answer_is_recorded_and_can_be_taken_back(console: Console) -> None:
    body = {"answer": "overturn", "reviewer": "ada"}
    found = await console.post("/api/decisions/r-1/answer", body)
    assert found["labels"][0]["violates"] is False
    waiting = await console.get("/api/decisions?review=1&labelled=0")
    assert [one["id"] for one in waiting["decisions"]] == ["r-2"]
    async with console.session.delete(f"{console.url}/api/decisions/r-1/answer") as response:
        assert (await response.json())["removed"] == 1


@pytest.mark.parametrize(
    "body",
    [[], {}, {"answer": "maybe", "reviewer": "a"}, {"answer": "approve"},
     {"answer": "approve", "reviewer": ""}, {"answer": "approve", "reviewer": "a", "categories": 1},
     {"answer": "approve", "reviewer": "a", "categories": ["drugs"]}],
)  # fmt: skip
async def test_an_answer_that_is_none_is_refused(console: Console, body: object) -> None:
    assert (await console.post("/api/decisions/r-1/answer", body, 400))["error"]


async def test_an_answer_is_about_the_record_that_was_seen(console: Console) -> None:
    body = {"answer": "approve", "reviewer": "ada"}
    seen = (await console.get("/api/decisions/r-1"))["time"]
    later = replace(in_band(1, "another text"), time=in_band(1).time + 1)
    console.store.write([row_of(later, Sealer(None))])
    path = "/api/decisions/r-1/answer"
    told = await console.post(path, {**body, "seen": seen}, 400)
    assert "changed since" in told["error"]
    seen = (await console.get("/api/decisions/r-1"))["time"]
    assert (await console.post(path, {**body, "seen": seen}))["labels"]
    assert (await console.post(path, {**body, "seen": 3}, 400))["error"]


async def test_counts_are_told(console: Console) -> None:
    found = await console.get("/api/summary?hours=9600&buckets=10")
    assert len(found["series"]["pass"]) == 11


@pytest.mark.parametrize(
    "path",
    ["/api/summary?hours=nan", "/api/summary?buckets=99999999", "/api/decisions?limit=0",
     "/api/decisions?since=yesterday", "/api/decisions?least=x"],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_refused(console: Console, path: str) -> None:
    assert (await console.get(path, 400))["error"]


async def test_a_text_is_scored_and_explained_without_a_record(console: Console) -> None:
    found = await console.post("/api/score", {"text": "BAD thing", "role": "user"})
    assert found["action"] == "block"
    assert found["scores"]["unsafe"] == 0.99
    body = {"text": "a BAD thing", "role": "user", "category": "unsafe"}
    explained = await console.post("/api/explain", body)
    assert [piece[2] for piece in explained["pieces"]] == [0, 0.98, 0]
    assert len((await console.get("/api/decisions"))["decisions"]) == 3
    await console.post("/api/explain", {**body, "category": "nothing"}, 400)
    await console.post("/api/score", {"text": "x" * 9_000}, 400)
    await console.post("/api/score", {"text": "x", "role": "king"}, 400)


@pytest.mark.parametrize(
    "body",
    [
        {"text": "x", "role": []}, {"text": "x", "role": {}}, {"text": "x", "role": None},
        {"text": []}, {"text": "x", "prompt": {}}, [], "x",
    ],
)  # fmt: skip
async def test_a_sample_of_another_shape_is_refused(console: Console, body: object) -> None:
    assert (await console.post("/api/score", body, 400))["error"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"[" * 100_000, "application/json"),
        (b"{", "application/json"),
        (b"\xff", "application/json"),
        (b"{}", "application/json; charset=none"),
    ],
)
async def test_a_body_that_is_no_json_is_refused(console: Console, data: bytes, kind: str) -> None:
    headers = {"Content-Type": kind}
    async with console.session.post(f"{console.url}/api/score", data=data, headers=headers) as said:
        assert said.status == 400, await said.text()


async def test_half_a_pair_of_surrogates_is_scored_as_text(console: Console) -> None:
    assert (await console.post("/api/score", {"text": "a BAD \ud800 thing"}))["action"] == "block"


@pytest.mark.parametrize(("said", "action"), [(0.95, "block"), (0.1, "pass"), (None, "block")])
async def test_the_playground_asks_the_guards_of_a_rule(marker, said, action) -> None:
    def answer(_path, _body):
        return (200, logprobs(said), {}) if said is not None else (500, {}, {})

    with guard_server(answer) as server:
        policy = parse_policy(
            "version: 1\nname: g\nnormalise: false\n"
            f"guards: {{big: {{kind: openai_logprobs, url: '{server.url}', model: m,"
            " retries: 0}}\n"
            "categories: {unsafe: {block: 0.6, escalate: {band: [0.5, 0.9], guard: big}}}"
        )
        proxy = InForce(policy, Checker(marker), None)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            admin_site(AdminSettings(0, TOKEN), proxy) as port,
            aiohttp.ClientSession(headers=headers) as session,
        ):
            console = Console(f"http://127.0.0.1:{port}", session, None)
            found = await console.post("/api/score", {"text": "MEH thing", "role": "user"})
        await proxy.checker.close()
    [[category, guard, before, after, reason]] = found["asked"]
    assert (category, guard, before) == ("unsafe", "big", 0.7)
    assert found["action"] == action
    assert after == (pytest.approx(said) if said is not None else None)
    assert bool(reason) == (said is None)
    assert found["scores"]["unsafe"] == pytest.approx(before if said is None else said)


async def test_state_says_what_is_in_force(console: Console) -> None:
    found = await console.get("/api/state")
    assert found["policy"] == POLICY.identity
    assert found["rules"][0]["review"] == [0.6, 0.8]
    assert found["audit"]["degraded"] is None
    await console.get("/api/calibration/unsafe", 404)


async def test_without_an_audit_the_rest_still_works(marker) -> None:
    proxy = InForce(POLICY, Checker(marker), None)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        admin_site(AdminSettings(0, TOKEN), proxy) as port,
        aiohttp.ClientSession(headers=headers) as session,
    ):
        async with session.get(f"http://127.0.0.1:{port}/api/decisions") as response:
            assert response.status == 404
            assert "--audit none" in (await response.json())["error"]
        async with session.get(f"http://127.0.0.1:{port}/api/state") as response:
            assert (await response.json())["audit"] is None
    await proxy.checker.close()


async def test_a_database_that_is_gone_is_told_as_such(console: Console, tmp_path) -> None:
    console.store.close()
    for file in tmp_path.glob("audit.db*"):
        file.unlink()
    (tmp_path / "audit.db").mkdir()
    assert "cannot be read" in (await console.get("/api/decisions", 503))["error"]


def test_a_short_token_is_refused_and_none_is_shown() -> None:
    with pytest.raises(SettingsError, match="16"):
        AdminSettings(0, "short")
    assert TOKEN not in repr(AdminSettings(0, TOKEN))


async def test_a_port_in_use_is_one_clear_error(console: Console, marker) -> None:
    port = int(console.url.rpartition(":")[2])
    with pytest.raises(SettingsError, match="--admin-port"):
        async with (
            asyncio.timeout(20),
            admin_site(AdminSettings(port, TOKEN), InForce(POLICY, Checker(marker), None)),
        ):
            pass


async def test_a_token_of_odd_bytes_is_401(console) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(console.url.rsplit(":", 1)[1]))
    writer.write(b"GET /api/state HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
    assert b" 401 " in await reader.readline()
    writer.close()
