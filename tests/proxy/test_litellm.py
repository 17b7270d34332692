"""What the server for LiteLLM's Generic Guardrail API promises."""

from __future__ import annotations

import pytest

PATH = "/beta/litellm_basic_guardrail_api"


@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize(
    ("text", "action"), [("fine", "NONE"), ("MEH", "NONE"), ("BAD", "BLOCKED")]
)
async def test_a_question_is_answered_by_the_policy(start, kind, text, action) -> None:
    bench = await start()
    body = {"input_type": kind, "texts": ["fine", text]}
    async with bench.client.post(bench.url + PATH, json=body) as response:
        made = await response.json()
    assert (response.status, made["action"]) == (200, action)
    assert made.get("blocked_reason") == (None if action == "NONE" else "no way")
    assert not bench.upstream.requests


async def test_a_check_that_fails_blocks_by_the_failure_mode(start) -> None:
    bench = await start()
    body = {"input_type": "request", "texts": ["BOOM"]}
    async with bench.client.post(bench.url + PATH, json=body) as response:
        assert (await response.json())["action"] == "BLOCKED"


async def test_a_bad_question_is_a_clear_error(start) -> None:
    bench = await start()
    for body in (b"{", b"{}", b'{"input_type": "request", "texts": 5}'):
        async with bench.client.post(bench.url + PATH, data=body) as response:
            assert response.status == 400
