"""What the log promises: one line a record, and no text of a request in it."""

from __future__ import annotations

import json
import logging

import pytest

from guardrail.proxy.logs import FIELDS, JsonFormatter, TextFormatter


def record(**extra: object) -> logging.LogRecord:
    made = logging.LogRecord("guardrail.x", logging.WARNING, "f.py", 1, "a %s", ("b",), None)
    made.__dict__.update(extra)
    return made


def test_a_record_is_one_json_object_on_one_line() -> None:
    line = JsonFormatter().format(record(**{FIELDS: {"ms": 3, "result": "o\nk"}}))
    assert "\n" not in line
    body = json.loads(line)
    assert (body["level"], body["message"], body["ms"]) == ("warning", "a b", 3)
    assert body["time"].endswith("Z")


@pytest.mark.parametrize("style", [TextFormatter(), JsonFormatter()])
def test_an_error_is_logged_by_its_place_and_never_by_its_message(style) -> None:
    words = ["SECRET"]
    try:
        raise ValueError(f"the prompt was: {words}")
    except ValueError as error:
        made = record(exc_info=(type(error), error, error.__traceback__))
    line = style.format(made)
    assert "SECRET" not in line.replace('words = ["SECRET"]', "")
    assert "ValueError" in line
    assert "test_logs.py" in line


def test_the_fields_follow_the_message_in_a_line_for_people() -> None:
    assert TextFormatter().format(record(**{FIELDS: {"ms": 3}})).endswith("guardrail.x: a b ms=3")


@pytest.mark.parametrize("text", ["hello", "BAD thing"])
async def test_a_request_is_one_line_with_its_result(start, caplog, text) -> None:
    caplog.set_level(logging.INFO, logger="guardrail.proxy")
    bench = await start()
    bench.upstream.answers({"choices": []})
    async with bench.chat(text) as answer:
        await answer.read()
    (fields,) = [getattr(r, FIELDS) for r in caplog.records if hasattr(r, FIELDS)]
    assert fields["result"] == ("ok" if text == "hello" else "blocked_input")
    assert fields["dialect"] == "openai.chat"
    assert text not in json.dumps(fields)
