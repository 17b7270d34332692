"""A judge is named in one string; whatever stands behind it judges exchanges by rubrics."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from guardrail.classifier.answers import NO, YES, AnswerModel, Prompt
from guardrail.classifier.endpoint import Endpoint
from guardrail.classifier.judge import Judgement, PromptableJudge
from guardrail.classifier.judges import (
    ClassifierJudge,
    Judge,
    JudgeOptions,
    open_judge,
    score_of,
)
from guardrail.classifier.questions import RUBRICS, Exchange, rubric_of
from guardrail.classifier.remote import RemoteModel
from guardrail.errors import BundleError, CheckError, SettingsError
from guardrail.types import Role
from tests.classifier.tiny import tiny_llama

BAD = Exchange("I will kill you and your family.", prompt="Any plans?")
GOOD = Exchange("A walk in the park would be nice.", prompt="Any plans?")


def test_without_a_model_the_embedded_one_judges_safety_and_the_taxonomy() -> None:
    judge = open_judge(None)
    assert isinstance(judge, Judge)
    rubrics = [RUBRICS["safety"], rubric_of("violent_crimes")]
    (bad, good) = judge.judge([BAD, GOOD], rubrics)
    assert [j.rubric for j in bad] == ["safety", "violent_crimes"]
    assert all(b.probability > g.probability for b, g in zip(bad, good, strict=True))
    assert score_of(good, rubrics) > score_of(bad, rubrics)


def test_the_embedded_model_takes_no_rubric_in_words(marker) -> None:
    with pytest.raises(SettingsError, match=r"does not know the rubric 'tone'.*--model"):
        ClassifierJudge(marker).judge([GOOD], [RUBRICS["tone"]])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("smollm", "write hf:PATH, gguf:FILE"),
        ("hf:", "write hf:PATH"),
        ("http://[x#m", "not a URL"),
        ("http:#m", "not a URL"),
        ("http://h:99999/v1#m", "not a URL"),
        ("http://me:hush@h/v1#m", "--key-env"),
        ("guard:llama-guard-3-8b", "guard:NAME=PATH"),
        ("guard:llama=x", "no guard is called 'llama'"),
        ("http://127.0.0.1:9/v1", "name the model behind a #"),
    ],
)
def test_a_name_of_no_kind_is_refused(model: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        open_judge(model)


def test_an_endpoint_that_is_not_there_is_known_at_start_up() -> None:
    with pytest.raises(CheckError, match=r"127\.0\.0\.1:9"):
        open_judge("http://127.0.0.1:9/v1#m", JudgeOptions(timeout_s=2))


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(SettingsError, match="NO_SUCH_KEY is not set"):
        open_judge("http://127.0.0.1:9/v1#m", JudgeOptions(key_env="NO_SUCH_KEY"))


def test_a_calibration_goes_with_a_language_model_only(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has a calibration of its own"):
        open_judge(None, JudgeOptions(calibration=tmp_path / "c.json"))


def test_scores_count_harm_against_and_quality_for() -> None:
    row = [Judgement("safety", 0.9, 0, 1), Judgement("tone", 0.9, 0, 1)]
    assert score_of(row, [RUBRICS["safety"], RUBRICS["tone"]]) == pytest.approx(0.0)
    assert score_of(row[1:], [RUBRICS["tone"]]) == pytest.approx(np.log(9))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_local_model_judges_by_words_and_guards_by_name(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs guardrail[guards]")
    folder = tiny_llama(tmp_path)
    own = [rubric_of("It is short."), RUBRICS["tone"]]
    judge = open_judge(f"hf:{folder}", JudgeOptions(device="cpu"))
    ((short, tone),) = judge.judge([GOOD], own)
    assert 0 < short.probability < 1
    assert short.logit != tone.logit
    guard = open_judge(f"guard:llama-guard-3-1b={folder}", JudgeOptions(device="cpu"))
    ((found,),) = guard.judge([GOOD], [RUBRICS["safety"]])
    assert 0 < found.probability < 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_judge_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs guardrail[guards]")
    with pytest.raises(BundleError, match="has no chat template"):
        open_judge(f"hf:{tiny_llama(tmp_path, chat=None)}")


@pytest.fixture(scope="module")
def served(llama_url: str) -> RemoteModel:
    endpoint = Endpoint(f"{llama_url}/v1", None, timeout_s=60, retries=1, connections=4)
    return RemoteModel(endpoint, "smollm2")


@pytest.mark.real
def test_a_real_server_answers_yes_or_no(served: RemoteModel) -> None:
    assert isinstance(served, AnswerModel)
    prompts = [
        Prompt("The sky is blue. ", f"Is it {c}? Answer yes or no.") for c in ("blue", "red")
    ]
    found = served.answers(prompts, [YES, NO]).logprobs
    assert found.shape == (2, 2)
    assert (np.exp(np.logaddexp.reduce(found, axis=1)) > 0.2).all()
    assert served.answers([], [YES, NO]).logprobs.shape == (0, 2)


@pytest.mark.real
def test_a_real_server_judges(served: RemoteModel) -> None:
    found = PromptableJudge(served).judge([BAD, GOOD], [RUBRICS["safety"], RUBRICS["tone"]])
    assert all(0 < j.probability < 1 for row in found for j in row)


@pytest.mark.real
@pytest.mark.skipif(
    not os.environ.get("GUARDRAIL_SLOW"), reason="takes a minute; set GUARDRAIL_SLOW=1"
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(900)
def test_a_gguf_answers_as_it_does_when_llama_cpp_serves_it(served: RemoteModel) -> None:
    from bench.llama_server import model_path

    local = open_judge(f"gguf:{model_path()}", JudgeOptions(device="cpu"))
    rubrics = [RUBRICS["safety"], RUBRICS["tone"]]
    here, there = (
        [[j.logit for j in row] for row in judge.judge([BAD, GOOD], rubrics)]
        for judge in (local, PromptableJudge(served))
    )
    # llama.cpp multiplies 4-bit blocks, transformers what they stand for.
    assert np.abs(np.array(here) - np.array(there)).max() < 0.5
    assert not local.judge([Exchange("x", Role.USER)], rubrics)[0][0].dropped
