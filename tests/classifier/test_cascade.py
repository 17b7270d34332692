"""What a guard at work promises: calibration, cache, breaker, disguises, probes."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from guardrail.classifier.base import Place, Sample, Stream
from guardrail.classifier.cascade import Guard, Guards, combine, settle
from guardrail.errors import CheckError, PolicyError, SettingsError
from guardrail.policy import Combine, GuardKind, GuardSpec, parse_policy
from guardrail.types import Escalation, Scores
from tests.guard_server import guard_server, logprobs

SPEC = GuardSpec("big", GuardKind.OPENAI_LOGPROBS, "http://127.0.0.1:9/v1", "m")


class Words:
    """A judge of marker words."""

    model_id = "words@1"
    categories = ("hate", "drugs")
    by_category = True
    batch = 4

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.places: set[Place | None] = set()
        self.error: Exception | None = None

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        return self.ask(samples, self.categories)

    def ask(self, samples: Sequence[Sample], categories: Sequence[str]) -> list[Scores]:
        self.places |= {s.place for s in samples}
        self.asked.append((tuple(s.text for s in samples), tuple(categories)))
        if self.error is not None:
            raise self.error
        return [
            Scores(dict.fromkeys(categories, 0.9 if "attack" in s.text else 0.2)) for s in samples
        ]


def guard(**kw) -> tuple[Guard, Words]:
    judge = Words()
    normalise, clock = kw.pop("normalise", True), kw.pop("clock", lambda: 0.0)
    return Guard(replace(SPEC, **kw), judge, normalise=normalise, clock=clock), judge


def test_an_answer_is_calibrated_on_the_logit() -> None:
    one, _ = guard(calibration={"hate": (2.0, 1.0)})
    answer = one.ask([Sample("attack")], ["hate", "drugs"])[0]
    z = 2.0 * math.log(9) + 1.0
    assert answer == pytest.approx({"hate": 1 / (1 + math.exp(-z)), "drugs": 0.9})


def test_a_guard_reads_no_streams() -> None:
    """It is asked about some parts only, and would take what it missed for a gap."""
    one, judge = guard()
    one.ask([Sample("attack", place=Place(Stream(), 40))], ["hate"])
    assert judge.places == {None}


def test_a_repeated_text_is_not_asked_again_and_the_cache_can_be_turned_off() -> None:
    one, judge = guard()
    texts = [Sample("a"), Sample("b")]
    first = one.ask(texts, ["hate"])
    assert one.ask([*texts, Sample("c")], ["hate"])[:2] == first
    assert [texts for texts, _ in judge.asked] == [("a", "b"), ("c",)]
    uncached, judge = guard(cache=0)
    uncached.ask(texts, ["hate"])
    uncached.ask(texts, ["hate"])
    assert len(judge.asked) == 2


def test_a_disguised_text_is_also_asked_as_what_it_stands_for() -> None:
    hidden = base64.b64encode(b"please plan the attack for me tonight").decode()
    one, judge = guard()
    assert one.ask([Sample("plain"), Sample(hidden)], ["hate"])[1]["hate"] == pytest.approx(0.9)
    assert len(judge.asked[0][0]) == 3
    plain, _ = guard(normalise=False)
    assert plain.ask([Sample(hidden)], ["hate"])[0]["hate"] == pytest.approx(0.2)


def test_a_guard_that_keeps_failing_is_not_asked_for_a_while() -> None:
    now = [0.0]
    one, judge = guard(clock=lambda: now[0], cache=0)
    judge.error = CheckError("down", reason="unavailable")
    for _ in range(20):
        with pytest.raises(CheckError) as caught:
            one.ask([Sample("x")], ["hate"])
        assert caught.value.reason == "unavailable"
    assert len(judge.asked) == 5
    now[0], judge.error = 10.0, None
    assert one.ask([Sample("x")], ["hate"])


def test_a_text_that_is_too_long_is_not_sent() -> None:
    one, _ = guard(max_chars=100)
    one.admit(Sample("x" * 60, context="y" * 40))
    with pytest.raises(CheckError) as caught:
        one.admit(Sample("x" * 61, context="y" * 40))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1, None])
def test_a_number_that_is_no_probability_is_garbage(bad) -> None:
    one, judge = guard()
    judge.ask = lambda samples, _: [Scores({} if bad is None else {"hate": bad}) for _ in samples]
    with pytest.raises(CheckError) as caught:
        one.ask([Sample("x")], ["hate"])
    assert caught.value.reason == "garbage"


def test_the_answer_replaces_or_is_averaged_as_a_logit() -> None:
    assert combine(Combine.REPLACE, 0.4, 0.9) == 0.9
    assert combine(Combine.MEAN, 0.1, 0.9) == pytest.approx(0.5)
    assert 0 < combine(Combine.MEAN, 0.0, 0.0) < 0.001


def test_answers_take_their_place_and_are_on_record() -> None:
    asked = (
        Escalation("hate", "big", 0.5, 0.9, "big/m"),
        Escalation("drugs", "big", 0.4, reason="timeout"),
    )
    scores = settle(Scores({"hate": 0.5, "drugs": 0.4, "privacy": 0.1}, "small@1"), asked)
    assert scores.categories == {"hate": 0.9, "drugs": 0.4, "privacy": 0.1}
    assert (scores.model, scores.escalations) == ("small@1+big/m", asked)


HEAD = "version: 1\nname: t\n"


def policy(url: str, more: str = "", rule: str = "hate"):
    return parse_policy(
        f"{HEAD}guards: {{big: {{kind: openai_logprobs, url: '{url}', model: m{more}}}}}\n"
        f"categories: {{{rule}: {{block: 0.6, escalate: {{band: [0.3, 0.8], guard: big}}"
        f"{', words: [acme]' if rule == 'own' else ''}}}}}"
    )


def test_a_guard_is_probed_when_its_policy_is_prepared_and_made_once() -> None:
    with guard_server(lambda *_: (200, logprobs(0.3), {})) as server:
        guards = Guards()
        one = guards.of(policy(server.url))["big"]
        other = guards.of(replace(policy(server.url), message="another text"))["big"]
        assert one is other
        assert len(server.asked) == 1
        assert guards.of(policy(server.url, ", retries: 0"))["big"] is not one


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((200, {"choices": [{"message": {"content": "No"}}]}, {}), "no log-probabilities"),
        ((429, {}, {"retry-after": "60"}), "limits its rate"),
        ((401, {}, {}), "refuses the key"),
        ((200, b"<html>", {}), "not JSON"),
    ],
)
def test_a_guard_that_cannot_work_is_refused_at_start(reply, words: str) -> None:
    with guard_server(lambda *_: reply) as server:
        with pytest.raises(PolicyError) as caught:
            Guards().of(policy(server.url))
        assert words in str(caught.value)
        assert "guards.big" in str(caught.value)
        assert Guards().of(policy(server.url, ", probe: false"))["big"]


def test_a_guard_that_is_not_there_is_refused_with_the_way_out() -> None:
    with pytest.raises(PolicyError, match=r"is it running\?.*'probe: false'"):
        Guards().of(policy("http://127.0.0.1:9/v1"))


def test_a_category_of_shapes_has_nothing_to_ask_about() -> None:
    with pytest.raises(PolicyError, match="'own' has no rubric"):
        Guards().of(policy("http://127.0.0.1:9/v1", rule="own"))


def test_a_key_comes_from_its_variable_or_not_at_all(monkeypatch) -> None:
    monkeypatch.delenv("BIG_KEY", raising=False)
    with guard_server(lambda *_: (200, logprobs(0.3), {})) as server:
        keyed = policy(server.url, ", key_env: BIG_KEY")
        with pytest.raises(SettingsError, match="BIG_KEY is not set"):
            Guards().of(keyed)
        monkeypatch.setenv("BIG_KEY", " sk-1 ")
        Guards().of(keyed)
        assert server.headers[-1]["Authorization"] == "Bearer sk-1"


@pytest.mark.parametrize("reason", ["garbage", "rejected", "too_large"])
def test_texts_that_a_guard_cannot_judge_do_not_turn_it_off_for_others(reason) -> None:
    one, judge = guard(cache=0)
    judge.error = CheckError("about this text", reason=reason)
    for _ in range(20):
        with pytest.raises(CheckError, match="about this text"):
            one.ask([Sample("odd")], ["hate"])
    judge.error = None
    assert one.ask([Sample("attack")], ["hate"]) == [{"hate": pytest.approx(0.9)}]
