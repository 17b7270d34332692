"""What votes over LiteLLM promise; LiteLLM itself runs in a process of its own."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from guardrail.classifier.base import Judge, Sample
from guardrail.classifier.endpoint import EndpointError
from guardrail.classifier.votes import VoteJudge
from guardrail.errors import SettingsError
from tests.guard_server import guard_server

RUBRICS = {"own": "Sells fish.", "unsafe": "Harms."}


class FakeLiteLLM(SimpleNamespace):
    """Answers with words in turn; an exception among them is raised."""

    def completion(self, **call):
        self.calls.append(call)
        word = next(self.words)
        if isinstance(word, Exception):
            raise word
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=word))])


@pytest.fixture
def judge(monkeypatch):
    def make(*words, **kw):
        fake = FakeLiteLLM(words=itertools.cycle(words), calls=[])
        monkeypatch.setattr(importlib, "import_module", lambda _: fake)
        return VoteJudge("x/some-model", RUBRICS, **kw), fake

    return make


def test_the_share_of_yes_is_the_probability(judge) -> None:
    one, fake = judge("Yes.", "no", "Yes", "YES, it does", "I cannot say", key="k", votes=5)
    assert isinstance(one, Judge)
    found = one.ask([Sample("x<|im_end|>")], ["own"])[0]
    assert found.categories == {"own": (3 + 0.5) / (4 + 1)}
    assert "<|im_end|>" not in str(fake.calls)
    assert len(fake.calls) == 5
    assert {c["temperature"] for c in fake.calls} == {1.0}
    assert {c["api_key"] for c in fake.calls} == {"k"}
    assert all("api_base" not in c for c in fake.calls)
    assert set(one.score([Sample("x")])[0].categories) == set(RUBRICS)


def test_words_that_are_neither_yes_nor_no_are_garbage(judge) -> None:
    one, _ = judge("As a model, I", None, "Yes")
    with pytest.raises(EndpointError, match="fewer than half") as caught:
        one.ask([Sample("x")], ["own"])
    assert caught.value.reason == "garbage"


def test_only_the_whole_word_is_a_vote(judge) -> None:
    one, _ = judge("Not allowed.", "**Yes**", "Nothing good", "Yesterday", "No", votes=5)
    with pytest.raises(EndpointError, match="fewer than half"):
        one.ask([Sample("x")], ["own"])
    one, _ = judge("Not allowed.", "**Yes**", "yes", "No, it", '"No"', votes=5)
    assert one.ask([Sample("x")], ["own"])[0].categories == {"own": (2 + 0.5) / (4 + 1)}


def test_a_failure_is_named_without_key_or_text(judge) -> None:
    class RateLimitError(Exception):
        pass

    one, _ = judge(RateLimitError("sk-secret TEXT"), key="sk-secret")
    with pytest.raises(EndpointError) as caught:
        one.ask([Sample("TEXT")], ["own"])
    assert caught.value.reason == "rate_limited"
    assert "secret" not in str(caught.value)
    assert "TEXT" not in str(caught.value)


def test_without_litellm_the_install_line_is_given(monkeypatch) -> None:
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SettingsError, match=r"pip install 'guardrail\[litellm\]'"):
        VoteJudge("x/some-model", RUBRICS)


CODE = """
import json, sys
from guardrail.classifier.base import Sample
from guardrail.classifier.votes import VoteJudge
from guardrail.errors import CheckError
for name, url, votes in json.loads(sys.argv[1]):
    judge = VoteJudge(name, {"own": "Sells fish."}, votes=votes, key="sk-secret", url=url,
                      timeout_s=120, retries=0)
    try:
        said = judge.ask([Sample("I sell fish TEXT.")], ["own"])[0].categories["own"]
    except CheckError as error:
        said = f"{error.reason}: {error}"
    print("said", json.dumps(said), flush=True)
"""


@pytest.mark.real
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    importlib.util.find_spec("litellm") is None, reason="needs guardrail[integrations]"
)
def test_litellm_itself_reaches_a_real_model_and_names_its_faults(llama_url) -> None:
    body = {"error": {"message": "sk-secret TEXT", "type": "x", "code": "x"}}
    with guard_server(lambda path, _: (int(path.split("/")[2]), body, {})) as server:
        cases = [["openai/m", f"{server.url}/{status}", 1] for status in (429, 401, 503)]
        cases.append(["openai/smollm2", f"{llama_url}/v1", 2])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CODE, json.dumps(cases)],
            capture_output=True,
            text=True,
            check=True,
            timeout=360,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    lines = done.stdout.splitlines()
    assert all(line.startswith("said ") for line in lines), "LiteLLM prints nothing of its own"
    limited, refused, gone, real = (json.loads(line[5:]) for line in lines)
    assert limited.startswith("rate_limited: ")
    assert refused.startswith("failure: ")
    assert gone.startswith("unavailable: ")
    # 135 million parameters do not always begin with Yes or No.
    assert str(real).startswith("garbage: ") or 0 < real < 1
    assert "secret" not in done.stdout
    assert "TEXT" not in done.stdout
