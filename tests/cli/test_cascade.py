"""`guardrail cascade tune`, from labelled texts to a policy that works."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from guardrail.check import Checker
from guardrail.classifier import load_classifier
from guardrail.classifier.calibration import Platt
from guardrail.cli.cascade import _report, _write, cascade_group
from guardrail.errors import DataError, PolicyError, SettingsError
from guardrail.evaluate.pairing import Paired
from guardrail.evaluate.tradeoff import Choice, Goal, Pairs
from guardrail.policy import load_policy
from guardrail.types import Direction, Role, Segment, Stage
from tests.guard_server import guard_server, logprobs, text_of

DATA = Path(__file__).parent.parent.parent / "policies" / "tests" / "taxonomy.jsonl"
ROWS = map(json.loads, DATA.read_text(encoding="utf-8").splitlines())
LABELS = {row["text"]: row["violates"] for row in ROWS}
POLICY = """
version: 1
name: mine
normalise: false
timeout_ms: 60000
guards:
  big: {kind: openai_logprobs, url: "%s", model: m, timeout_ms: 20000}
categories:
  unsafe: {flag: 0.5, block: 0.9}
"""


def knowing(_, body):
    """Answer as one who knows the label, but is far too unsure of it."""
    return 200, logprobs(0.6 if LABELS.get(text_of(body)) else 0.4), {}


def run(tmp_path: Path, url: str, *more: str, policy: str = POLICY):
    (tmp_path / "mine.yaml").write_text(policy % url)
    arguments = ["tune", "-p", str(tmp_path / "mine.yaml"), "--data", str(DATA), "--limit", "138"]
    arguments += more
    return CliRunner().invoke(cascade_group, arguments, catch_exceptions=True)


def test_a_tuned_policy_is_written_drawn_and_asks_the_guard(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    out, plot, scores = (tmp_path / name for name in ("tuned.yaml", "t.png", "s.jsonl"))
    with guard_server(knowing) as server:
        options = ["--escalated", "0.5", "--out", str(out), "--plot", str(plot)]
        done = run(tmp_path, server.url, *options, "--scores", str(scores))
        assert done.exit_code == 0, done.output
        assert "target: at most 50.0% escalated" in done.output
        assert plot.read_bytes().startswith(b"\x89PNG")
        asked = len(server.asked)
        again = run(tmp_path, server.url, *options, "--scores", str(scores))
        assert again.exit_code == 0
        assert len(server.asked) == asked + 1, "only the probe"
        tuned = load_policy(out)
        rule = tuned.rule("unsafe")
        assert rule is not None
        assert rule.escalate is not None
        assert tuned.guards["big"].url == server.url
        slope, _ = tuned.guards["big"].platt("unsafe")
        assert slope > 3, "the guard was far too unsure"
        text = _text_in(rule.escalate.low, rule.escalate.high)
        asyncio.run(_ask(tuned, text))


def _text_in(low: float, high: float) -> str:
    from guardrail.classifier.base import Sample

    texts = list(LABELS)
    found = load_classifier(threads=1).score([Sample(t, Role.USER) for t in texts])
    inside = (t for t, s in zip(texts, found, strict=True) if low <= s.categories["unsafe"] < high)
    return next(inside)


async def _ask(policy, text: str) -> None:
    async with Checker(load_classifier(threads=1)) as checker:
        verdict = await checker.check(policy, Direction.INPUT, Segment(text, Role.USER))
    assert verdict.stage is Stage.GUARD
    assert verdict.blocked == LABELS[text]


def test_a_guard_that_brings_nothing_is_said_to(capsys) -> None:
    pairs = Pairs(np.zeros(4), np.zeros(4), np.array([0, 1, 0, 1]))
    chosen = Choice(0.2, 0.4, 0.5, 0.1, 0.6, 0.01)
    paired = Paired(pairs, 0.1, 0.2, 0)
    _report(chosen, replace(chosen, share=0.0, recall=0.7), Goal(escalated=0.1), paired)
    assert "brings nothing" in capsys.readouterr().out
    _report(chosen, replace(chosen, share=0.0, recall=0.5), Goal(escalated=0.1), paired)
    assert "brings nothing" not in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["a #b", "a: b", "- \u00e9 'q' \"", "plain"])
def test_a_policy_is_written_beside_any_path(tmp_path, folder: str) -> None:
    source = tmp_path / folder / "mine.yaml"
    source.parent.mkdir()
    source.write_text(POLICY % "http://127.0.0.1:9/v1")
    policy = load_policy(source)
    guard = SimpleNamespace(name="big", spec=policy.guards["big"])
    rest = (guard, "unsafe", Choice(0.2, 0.4, 0.5, 0.1, 0.6, 0.01), Platt(), str(source), 100)
    _write(tmp_path / "out.yaml", policy, *rest)
    assert load_policy(tmp_path / "out.yaml").guards["big"].model == "m"
    with pytest.raises(SettingsError, match="--out: "):
        _write(tmp_path / "missing" / "out.yaml", policy, *rest)


def test_without_a_target_or_with_two_it_says_so(tmp_path) -> None:
    for more in ((), ("--escalated", "0.1", "--recall", "0.9")):
        done = run(tmp_path, "http://127.0.0.1:9/v1", *more)
        assert done.exit_code == 2
        assert "one target" in done.output


@pytest.mark.parametrize(
    ("more", "policy", "error", "words"),
    [
        (["--guard", "bog"], POLICY, SettingsError, r"guards \(big\)"),
        (["--category", "hate"], POLICY, SettingsError, "no rule for 'hate'"),
        ([], POLICY.replace("kind: openai_logprobs", "kind: x"), PolicyError, "'kind'|kind"),
    ],
)
def test_what_cannot_be_tuned_is_refused(tmp_path, more, policy, error, words) -> None:
    done = run(tmp_path, "http://127.0.0.1:9/v1", "--recall", "0.5", *more, policy=policy)
    assert isinstance(done.exception, error)
    assert re.search(words, str(done.exception))


def test_a_category_that_no_words_describe_is_refused(tmp_path) -> None:
    policy, data = tmp_path / "mine.yaml", tmp_path / "codes.jsonl"
    source = POLICY + "  codes: {words: [swordfish], flag: 0.5}\n"
    policy.write_text(source % "http://127.0.0.1:9/v1")
    data.write_text('{"text": "a", "violates": true, "category": "codes"}\n')
    arguments = ["tune", "-p", str(policy), "--data", str(data), "--category", "codes"]
    done = CliRunner().invoke(cascade_group, [*arguments, "--recall", "0.5"])
    assert isinstance(done.exception, SettingsError)
    assert "'codes' has no rubric" in str(done.exception)


def test_a_guard_that_is_not_there_ends_it_before_any_scoring(tmp_path) -> None:
    done = run(tmp_path, "http://127.0.0.1:9/v1", "--recall", "0.5")
    assert "is it running?" in str(done.exception)


def test_a_recall_out_of_reach_is_refused_with_the_best(tmp_path) -> None:
    with guard_server(lambda *_: (200, logprobs(0.5), {})) as server:
        done = run(tmp_path, server.url, "--recall", "0.999", "--fpr", "0.001")
    assert isinstance(done.exception, DataError)
    assert "no band reaches" in str(done.exception)
