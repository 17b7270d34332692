"""Content parts: whatever a server may show to the model as text is read, media are noted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardrail.types import Role
from guardrail.wire import WIRES, WireRequest
from guardrail.wire.parts import spoken

BLOB = "iVBORw0KGgo" * 3_000 + "=="


def chat(part: Any, role: str = "user") -> WireRequest:
    body = {"model": "m", "messages": [{"role": role, "content": [part]}]}
    return WIRES["openai.chat"].read_request(json.dumps(body).encode())


def responses(*items: Any) -> WireRequest:
    body = {"model": "m", "input": list(items)}
    return WIRES["openai.responses"].read_request(json.dumps(body).encode())


def texts(request: WireRequest) -> list[str]:
    return [segment.text for segment in request.segments]


DOCUMENT = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "a BAD text"},
    "title": "a BAD title",
    "context": "BAD",
}
UNKNOWN = [
    (DOCUMENT, ["a BAD text", "a BAD title", "BAD"]),
    ({"type": "document", "source": {"type": "text", "data": "a-BAD-word"}}, ["a-BAD-word"]),
    (
        {"type": "document", "source": {"type": "content", "content": [{"text": "BAD"}]}},
        ["BAD"],
    ),
    ({"type": "document", "source": {"type": "base64", "data": "a BAD text"}}, ["a BAD text"]),
    (
        {"type": "document", "source": {"type": "base64", "data": "schlimm\u00e9"}},
        ["schlimm\u00e9"],
    ),
    ({"type": "tool_result", "tool_use_id": "toolu_1", "content": "BAD"}, ["BAD"]),
    ({"type": "tool_use", "id": "c", "name": "f", "input": {"a b": "BAD"}}, ["a b", "BAD"]),
    ({"type": "text", "text": {"value": "a BAD text"}}, ["a BAD text"]),
    ({"type": "text", "text": "hi", "content": "more BAD"}, ["hi", "more BAD"]),
    ({"type": "file", "name": "a name with BAD in it"}, ["a name with BAD in it"]),
]


@pytest.mark.parametrize(("part", "expected"), UNKNOWN)
def test_text_in_a_part_of_unknown_shape_is_read_by_chat_and_responses(
    part: dict[str, Any], expected: list[str]
) -> None:
    asked = responses({"role": "user", "content": [part]})
    given = responses({"type": "function_call_output", "call_id": "c", "output": [part]})
    for request, role in ((chat(part), Role.USER), (asked, Role.USER), (given, Role.TOOL)):
        assert texts(request) == expected
        assert {(s.role, s.latest) for s in request.segments} == {(role, True)}
        assert request.skipped == ()


MEDIA = [
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BLOB}", "detail": "auto"}},
    {"type": "image_url", "image_url": "https://example.com/a.png"},
    {"type": "input_audio", "input_audio": {"data": BLOB, "format": "wav"}},
    {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{BLOB}"}},
    {"type": "file", "file": {"file_id": "file-1", "filename": "report.pdf", "format": "pdf"}},
    {"type": "input_image", "image_url": f"data:image/png;base64,{BLOB}", "file_id": None},
    {"type": "input_file", "file_data": "QUJD\r\nREVG", "filename": "report.pdf"},
    {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}, "uuid": "v-1"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BLOB}},
    {"type": "image", "source_type": "base64", "mime_type": "image/png", "data": BLOB},
    {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
    {"type": "redacted_thinking", "data": BLOB},
    {"type": "image_embeds", "image_embeds": {"image": BLOB}, "cache_control": {"ttl": "5m"}},
]


@pytest.mark.parametrize("part", MEDIA, ids=lambda part: str(part["type"]))
def test_media_are_noted_and_not_taken_for_text(part: dict[str, Any]) -> None:
    for request in (chat(part), responses({"role": "user", "content": [part]})):
        assert texts(request) == []
        assert [note.split(": ")[1] for note in request.skipped] == [part["type"]]


def test_a_caption_is_read_and_its_picture_still_noted() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://x/a.png"}, "caption": "a BAD one"}
    assert texts(chat(part)) == ["a BAD one"]
    assert chat(part).skipped == ("messages[0].content[0]: image_url",)


def test_parts_that_answers_are_sent_back_with_hold_their_text_alone() -> None:
    sealed = {"type": "thinking", "thinking": "Hm.", "signature": BLOB}
    assert texts(chat(sealed, "assistant")) == ["Hm."]
    said = {
        "type": "output_text",
        "text": "So it is.",
        "logprobs": [{"token": "So it", "logprob": -0.1, "top_logprobs": []}],
        "annotations": [{"type": "url_citation", "url": "https://x/", "title": "A BAD page"}],
    }
    request = responses({"role": "assistant", "content": [said]})
    assert texts(request) == ["So it is.", "A BAD page"]
    assert chat(sealed, "assistant").skipped == request.skipped == ()


@pytest.mark.parametrize(
    ("item", "role"),
    [
        ({"type": "compaction", "encrypted_content": BLOB, "text": "a BAD text"}, Role.TEXT),
        ({"type": "item_reference", "id": "i", "content": "a BAD text"}, Role.TEXT),
        (
            {"type": "image_generation_call", "result": BLOB, "revised_prompt": "a BAD text"},
            Role.ASSISTANT,
        ),
    ],
)
def test_text_beside_an_item_that_cannot_be_read_is_judged(
    item: dict[str, Any], role: Role
) -> None:
    request = responses(item, {"role": "user", "content": "go on"})
    assert [(s.text, s.role) for s in request.segments] == [
        ("a BAD text", role),
        ("go on", Role.USER),
    ]
    assert request.skipped == (f"input[0]: {item['type']}",)


def test_an_item_of_unknown_type_does_not_pass_for_the_assistants() -> None:
    (said,) = responses({"type": "odd", "role": "user", "content": "a BAD text"}).segments
    assert (said.text, said.role, said.latest) == ("a BAD text", Role.USER, True)
    (said,) = responses({"type": "odd", "content": "a BAD text"}).segments
    assert (said.text, said.role, said.latest) == ("a BAD text", Role.TEXT, True)


ODD_TYPES: list[object] = [["a BAD text"], {"text": "a BAD text"}, {"type": "a BAD text"}]


@pytest.mark.parametrize("kind", ODD_TYPES)
def test_a_part_whose_type_is_no_word_is_read_and_yet_unreadable(kind: object) -> None:
    part = {"type": kind, "text": "hi"}
    asked = responses({"role": "user", "content": [part]})
    given = responses({"type": "function_call_output", "call_id": "c", "output": [part]})
    for request in (chat(part), asked, given):
        assert texts(request) == ["hi", "a BAD text"]
        assert request.opaque
        assert [note.split(": ")[1] for note in request.skipped] == ["unknown"]
    deep = {"type": "new", "body": {"type": kind}}
    assert texts(chat(deep)) == ["a BAD text"]
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": kind}]}
    body = {"messages": [{"role": "user", "content": [result]}]}
    nested = WIRES["anthropic.messages"].read_request(json.dumps(body).encode())
    assert texts(nested) == ["a BAD text"]


def test_the_result_of_a_program_is_text() -> None:
    item = {"type": "program_output", "call_id": "c", "result": "a BAD text"}
    assert texts(responses(item)) == ["a BAD text"]


def test_a_variable_of_a_stored_prompt_may_have_any_name() -> None:
    image = {"type": "input_image", "image_url": "https://x/a.png"}
    prompt = {"id": "p", "variables": {"name": "BAD", "detail": "worse", "image": image}}
    body = json.dumps({"model": "m", "prompt": prompt}).encode()
    request = WIRES["openai.responses"].read_request(body)
    assert texts(request) == ["BAD", "worse"]
    assert request.skipped == ("prompt: stored_prompt", "prompt.variables: media")


def test_labels_are_no_text_but_sentences_in_their_place_are() -> None:
    assert spoken({"id": "x-1", "format": "wav", "type": "a b"}) == ([], False)
    assert spoken({"id": "an id of words", "url": "u v"}) == (["an id of words", "u v"], False)


SAID = "a BAD text"
LABELLED: list[tuple[str, dict[str, Any]]] = [
    ("assistant", {"type": "tool_use", "id": "t", "name": SAID, "input": {}}),
    ("assistant", {"type": "tool_use", "id": SAID, "name": "f", "input": {}}),
    ("assistant", {"type": "thinking", "thinking": "", "signature": SAID}),
    ("assistant", {"type": "text", "text": "", "citations": [{"cited_text": SAID}]}),
    ("user", {"type": "text", "text": "", "more": SAID}),
    ("user", {"type": "image", "source": {"type": "base64", "data": "AA=="}, "title": SAID}),
    ("user", {"type": "image", "source": {"type": "base64", "data": SAID}}),
    ("user", {"type": "file", "file": {"text": SAID}}),
    ("user", {"type": "document", "source": {"data": SAID}}),
    ("user", {"type": "tool_result", "tool_use_id": SAID, "content": ""}),
    ("user", {"type": "tool_result", "content": [{"type": "text", "text": "", "name": SAID}]}),
    ("user", {"type": "tool_result", "content": [{"type": "image", "alt": SAID}]}),
]


@pytest.mark.parametrize(("role", "block"), LABELLED)
def test_a_sentence_in_place_of_a_label_or_beside_media_is_read_by_messages(
    role: str, block: dict[str, Any]
) -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": role, "content": [block]}]}
    request = WIRES["anthropic.messages"].read_request(json.dumps(body).encode())
    assert [text.strip() for text in texts(request)] == [SAID]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "call_id": "c", "name": SAID},
        {"type": "function_call", "call_id": SAID, "name": "f"},
        {"type": "function_call_output", "call_id": SAID, "output": ""},
        {"type": "mcp_call", "server_label": SAID},
        {"role": "user", "content": "", "id": SAID},
    ],
)
def test_a_sentence_in_place_of_a_label_is_read_by_responses(item: dict[str, Any]) -> None:
    assert texts(responses(item)) == [SAID]


def test_plain_labels_and_coded_media_stay_unread_by_messages() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": BLOB}
    cited = {
        "type": "web_search_result_location",
        "url": "https://a.b/c?d",
        "encrypted_index": "a=",
    }
    blocks = [
        {"type": "image", "source": source, "cache_control": {"type": "ephemeral", "ttl": "5m"}},
        {"type": "text", "text": "", "citations": [cited]},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "", "signature": BLOB},
    ]
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": blocks}]}
    assert texts(WIRES["anthropic.messages"].read_request(json.dumps(body).encode())) == []


def test_what_was_said_beside_sound_is_read() -> None:
    message = {"role": "assistant", "audio": {"id": "audio_1", "data": BLOB, "transcript": SAID}}
    body = {"model": "m", "messages": [message]}
    assert texts(WIRES["openai.chat"].read_request(json.dumps(body).encode())) == [SAID]
