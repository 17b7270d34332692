"""What the local moderation endpoint promises."""

from __future__ import annotations

import openai
import pytest

from guardrail.taxonomy import OPENAI_MODERATION


async def test_the_official_client_gets_openai_s_shape(start) -> None:
    bench = await start()
    async with openai.AsyncOpenAI(base_url=f"{bench.url}/v1", api_key="k") as client:
        made = await client.moderations.create(input=["hello", "BAD"])
        single = await client.moderations.create(input=[{"type": "text", "text": "BAD"}])
    assert [r.flagged for r in made.results] == [False, True]
    assert single.results[0].flagged
    body = made.results[1].category_scores.model_dump(by_alias=True)
    assert set(OPENAI_MODERATION) <= set(body)
    assert body["S10"] == body["hate"] == pytest.approx(0.99)
    assert made.model == "marker@0"
    assert not bench.upstream.requests


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"input": 5}', b'{"input": [1]}', b"{"])
async def test_a_bad_request_gets_a_clear_error(start, body) -> None:
    bench = await start()
    async with bench.client.post(f"{bench.url}/v1/moderations", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_a_score_that_cannot_be_made_is_not_made_up(start) -> None:
    bench = await start()
    body = {"input": "BOOM"}
    async with bench.client.post(f"{bench.url}/v1/moderations", json=body) as response:
        assert response.status == 503


async def test_a_policy_for_answers_alone_has_scores_too(start) -> None:
    bench = await start(
        "version: 1\nname: t\ncategories: {unsafe: {block: 0.9, direction: output}}"
    )
    async with bench.client.post(f"{bench.url}/v1/moderations", json={"input": "BAD"}) as response:
        [made] = (await response.json())["results"]
    assert made["flagged"]
    assert made["category_scores"]["hate"] == pytest.approx(0.99)
