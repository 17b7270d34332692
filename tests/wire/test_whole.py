"""Whole answers: every text is seen, and a refused one is an answer that the SDKs read."""

from __future__ import annotations

import json
import time

import anthropic
import openai
import pytest

from guardrail.errors import WireError
from guardrail.types import ChannelKind
from guardrail.wire import WIRES, Notice, RefusalStyle, wire_for
from tests.wire.samples import RECORDINGS, REQUESTS, WHOLE, Recording, name, texts
from tests.wire.sdk import READERS, call

NOTICE = Notice("This was withheld.", ("hate",), "req1", created=1700000000)
MESSAGE = Notice("This was withheld.", ("hate",), "req1", RefusalStyle.MESSAGE_200)
TALKING = [wire for wire in WIRES if wire not in ("openai.embeddings", "openai.conversations")]

each_whole = pytest.mark.parametrize("recording", WHOLE, ids=name)

ROWS: dict[str, set[ChannelKind]] = {
    "openai.chat": {
        ChannelKind.TEXT,
        ChannelKind.REASONING,
        ChannelKind.REFUSAL,
        ChannelKind.TOOL_ARGUMENTS,
    },
    "openai.completions": {ChannelKind.TEXT},
    "openai.responses": set(ChannelKind),
    "openai.embeddings": set(),
    "openai.conversations": {ChannelKind.TEXT, ChannelKind.TOOL_ARGUMENTS, ChannelKind.TOOL_RESULT},
    "anthropic.messages": set(ChannelKind) - {ChannelKind.REFUSAL},
}
"""Kinds of text that each dialect's answers can carry; a new dialect or kind needs its row."""

KINDS_KNOWN = {"text", "reasoning", "refusal", "tool_arguments", "tool_result"}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("kind", ChannelKind)
def test_every_dialect_form_and_kind_has_a_recording(
    wire: str, streamed: bool, kind: ChannelKind
) -> None:
    assert {k.value for k in ChannelKind} == KINDS_KNOWN, "decide which dialects carry the new kind"
    carried = any(kind in r.texts for r in RECORDINGS if (r.wire, r.streamed) == (wire, streamed))
    assert carried == (kind in ROWS[wire] and not (streamed and wire == "openai.conversations"))


@each_whole
def test_a_whole_answer_is_one_frame_with_all_its_text(recording: Recording) -> None:
    frame = recording.dialect().read_response(recording.data)
    assert texts([frame]) == recording.texts
    assert not frame.opaque
    assert frame.raw == recording.data
    assert set(frame.ends) == {span.channel for span in frame.spans}


@each_whole
def test_a_recorded_answer_passes_the_sdk(recording: Recording) -> None:
    from guardrail.wire import Reply

    answer = call(recording.wire, Reply(200, recording.data))
    assert answer.data if recording.wire == "openai.conversations" else answer.model


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"a":\xff}', b"[" * 99999])
def test_an_answer_that_is_no_object_is_an_error(wire: str, body: bytes) -> None:
    with pytest.raises(WireError):
        WIRES[wire].read_response(body)


@pytest.mark.parametrize("wire", WIRES)
def test_text_in_unknown_fields_of_an_answer_is_opaque(wire: str) -> None:
    assert WIRES[wire].read_response(b'{"answer":{"deep":["text"]}}').opaque
    assert not WIRES[wire].read_response(b'{"ready":true,"count":3}').opaque


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        ("openai.chat", {"choices": [{"index": 0, "message": {"content": {"a": "x"}}}]}),
        ("openai.chat", {"choices": [{"index": 999999, "message": {"content": "x"}}]}),
        ("openai.completions", {"choices": [{"index": 0, "words": "x"}]}),
        ("openai.chat", {"choices": [{"index": 0, "logprobs": "text"}]}),
        ("openai.completions", {"choices": [{"index": 0, "logprobs": {"tokens": {"a": "b"}}}]}),
        ("openai.responses", {"output": ["text"]}),
        ("openai.responses", {"output": [{"type": "message", "content": "text"}]}),
        ("openai.responses", {"output": [{"type": "image_generation_call", "result": "iVBO"}]}),
        ("openai.embeddings", {"data": [{"embedding": "a sentence of text"}]}),
        ("openai.embeddings", {"data": [{"embedding": ["text"]}]}),
        ("openai.chat", {"choices": [{"message": {"content": [{"type": ["text"], "text": "a"}]}}]}),
        ("openai.chat", {"choices": [{"message": {"tool_calls": [{"type": {"a": "text"}}]}}]}),
        (
            "openai.responses",
            {"output": [{"type": "message", "content": [{"type": {"a": "text"}, "text": "b"}]}]},
        ),
        ("openai.conversations", {"object": "conversation", "content": "text"}),
        ("openai.conversations", {"type": "message", "content": [{"type": ["text"]}]}),
        ("anthropic.messages", {"type": ["text"], "content": []}),
        ("anthropic.messages", {"content": "text"}),
        ("anthropic.messages", {"content": [{"type": "text", "text": "a", "note": "b"}]}),
    ],
)
def test_text_in_unknown_places_is_opaque(wire: str, body: object) -> None:
    assert WIRES[wire].read_response(json.dumps(body).encode()).opaque


def test_results_of_unknown_server_tools_are_judged_as_text() -> None:
    body = {"content": [{"type": "new_tool_result", "content": {"stdout": "output of it"}}]}
    frame = WIRES["anthropic.messages"].read_response(json.dumps(body).encode())
    assert texts([frame]) == {ChannelKind.TOOL_RESULT: ["output of it"]}
    item = {"type": "new_call", "id": "x", "action": {"query": "what it asks"}}
    frame = WIRES["openai.responses"].read_response(json.dumps({"output": [item]}).encode())
    assert texts([frame]) == {ChannelKind.TOOL_RESULT: ["what it asks"]}


@pytest.mark.parametrize("recording", [r for r in WHOLE if r.wire in TALKING], ids=name)
def test_a_refused_answer_keeps_id_model_and_usage_and_nothing_else(recording: Recording) -> None:
    reply = recording.dialect().output_refusal(recording.request(), recording.data, NOTICE)
    before, after = json.loads(recording.data), json.loads(reply.body)
    assert reply.status == 200
    for field in ("id", "model", "usage"):
        assert after[field] == before[field]
    assert NOTICE.message in reply.body.decode()
    for said in recording.texts.values():
        assert not any(json.dumps(text)[1:-1] in reply.body.decode() for text in said)
    answer = call(recording.wire, reply)
    assert reason(recording.wire, answer) == {REASONS[recording.wire]}


REASONS = {
    "openai.chat": "content_filter",
    "openai.completions": "content_filter",
    "openai.responses": "content_filter",
    "anthropic.messages": "refusal",
}


def reason(wire: str, answer: object) -> set[str]:
    if wire == "openai.responses":
        assert answer.status == "incomplete"
        return {answer.incomplete_details.reason}
    if wire == "anthropic.messages":
        return {answer.stop_reason}
    return {choice.finish_reason for choice in answer.choices}


@pytest.mark.parametrize("wire", TALKING)
def test_a_refused_answer_that_is_not_json_is_still_an_answer(wire: str) -> None:
    dialect = WIRES[wire]
    request = dialect.read_request(REQUESTS[wire])
    answer = call(wire, dialect.output_refusal(request, b"<html>", NOTICE))
    assert reason(wire, answer) == {REASONS[wire]}
    assert answer.model == "m"


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("style", [RefusalStyle.ERROR_400, RefusalStyle.ERROR_403])
def test_a_refused_request_is_an_error_of_the_sdk(wire: str, style: RefusalStyle) -> None:
    dialect = WIRES[wire]
    reply = dialect.input_refusal(None, Notice("Not so", ("hate",), "req1", style))
    kinds = {
        RefusalStyle.ERROR_400: (openai.BadRequestError, anthropic.BadRequestError),
        RefusalStyle.ERROR_403: (openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    }
    with pytest.raises(kinds[style], match="Not so"):
        call(wire, reply)
    error = json.loads(reply.body)["error"]
    if wire == "anthropic.messages":
        assert set(error) == {"type", "message"}
    else:
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == "content_filter"


@pytest.mark.parametrize("wire", TALKING)
def test_a_refused_request_may_be_answered_in_words(wire: str) -> None:
    dialect = WIRES[wire]
    streamed = dialect.read_request(REQUESTS[wire])
    seen = READERS[wire](dialect.input_refusal(streamed, MESSAGE).body)
    assert MESSAGE.message in seen.text
    assert seen.reasons == {0: REASONS[wire]}
    whole = dialect.read_request(REQUESTS[wire].replace(b'"stream":true,', b""))
    reply = dialect.input_refusal(whole, MESSAGE)
    assert reason(wire, call(wire, reply)) == {REASONS[wire]}
    assert MESSAGE.message in reply.body.decode()


@pytest.mark.parametrize("wire", sorted(set(WIRES) - set(TALKING)))
def test_an_answer_without_words_of_the_model_is_never_refused_in_words(wire: str) -> None:
    dialect = WIRES[wire]
    assert dialect.input_refusal(None, MESSAGE).status == 400
    request = dialect.read_request(REQUESTS[wire])
    assert dialect.output_refusal(request, b"{}", MESSAGE).status == 400


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "AuthenticationError"),
        (404, "NotFoundError"),
        (429, "RateLimitError"),
        (502, "InternalServerError"),
        (413, "APIStatusError"),
    ],
)
def test_any_other_error_is_the_sdks_own(wire: str, status: int, kind: str) -> None:
    reply = WIRES[wire].error(status, "it is so", type="server_error", code="x", param="messages")
    package = anthropic if wire == "anthropic.messages" else openai
    with pytest.raises(getattr(package, kind), match="it is so"):
        call(wire, reply)


def test_anthropic_errors_have_a_type_that_the_dialect_knows() -> None:
    wire = WIRES["anthropic.messages"]
    for status, kind in [
        (413, "request_too_large"),
        (502, "api_error"),
        (418, "invalid_request_error"),
    ]:
        body = json.loads(wire.error(status, "m", type="whatever").body)
        assert body["error"]["type"] == kind


@pytest.mark.parametrize("wire", WIRES)
def test_each_path_finds_its_dialect(wire: str) -> None:
    assert WIRES[wire].name == wire
    for path in WIRES[wire].paths:
        assert wire_for(path) is WIRES[wire]
        assert wire_for(f"{path}/") is WIRES[wire]
    assert wire_for("/v1/models") is None


@pytest.mark.parametrize(("sealed", "read"), [("gAAAAA-b_c==", False), ('[{"said":"BAD"}]', True)])
def test_thoughts_that_are_sealed_in_name_only_are_read(sealed: str, read: bool) -> None:
    """LiteLLM writes the thoughts of other providers there, in plain JSON."""
    item = {"type": "reasoning", "role": "assistant", "encrypted_content": sealed}
    frame = WIRES["openai.responses"].read_response(json.dumps({"output": [item]}).encode())
    assert not frame.opaque
    assert texts([frame]) == ({ChannelKind.REASONING: [sealed]} if read else {})


def test_many_calls_are_read_in_linear_time() -> None:
    """What a provider says beside each call is looked for among all texts once."""
    calls = [
        {"index": n, "function": {"name": "f", "arguments": f'{{"a":{n}}}'}} for n in range(8000)
    ]
    answer = {"choices": [{"index": 0, "message": {"tool_calls": calls}}]}
    before = time.process_time()
    WIRES["openai.chat"].read_response(json.dumps(answer).encode())
    assert time.process_time() - before < 5  # 0.1 s; over 20 s when each call looked for itself


def test_what_litellm_keeps_beside_a_call_of_anthropics_is_read() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
    for own, read in (({"signature": "c2VhbA=="}, []), ({"note": "BAD words"}, ["BAD words"])):
        block = {**call, "provider_specific_fields": own}
        message = {"type": "message", "role": "assistant", "content": [block]}
        frame = WIRES["anthropic.messages"].read_response(json.dumps(message).encode())
        assert not frame.opaque
        assert texts([frame]).get(ChannelKind.TEXT, []) == read


@pytest.mark.parametrize(
    ("sealed", "read"), [("toolu__thought__" + "aB3+/=" * 60, 0), ("a BAD id", 1)]
)
def test_an_id_is_read_where_it_is_words_and_not_where_it_is_a_seal(sealed: str, read: int) -> None:
    block = {"type": "tool_use", "id": sealed, "name": "f", "input": {"a": 1}}
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": [block]}]
    asked = {"model": "m", "max_tokens": 1, "messages": turns}
    said = WIRES["anthropic.messages"].read_request(json.dumps(asked).encode()).segments
    assert sum(segment.text == sealed for segment in said) == read
    items = [{"role": "assistant", "id": sealed, "content": "y"}]
    asked = {"model": "m", "input": items}
    said = WIRES["openai.responses"].read_request(json.dumps(asked).encode()).segments
    assert sum(segment.text == sealed for segment in said) == read


@pytest.mark.parametrize(("sealed", "read"), [(["aB3+/=" * 20] * 2, 0), (["a", "BAD", "id"], 1)])
def test_a_list_of_seals_is_no_text_a_list_of_words_is(sealed: list[str], read: int) -> None:
    """LiteLLM gives Gemini's signed thoughts beside the message."""
    own = {"content": "fine", "provider_specific_fields": {"thought_signatures": sealed}}
    answer = {"choices": [{"index": 0, "message": own}]}
    frame = WIRES["openai.chat"].read_response(json.dumps(answer).encode())
    assert not frame.opaque
    assert sum("BAD" in text for text in texts([frame])[ChannelKind.TEXT]) == read
    assert len(texts([frame])[ChannelKind.TEXT]) == 1 + read
