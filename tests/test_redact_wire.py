"""What rules redact is taken out of every dialect's frames and bodies where it stands."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from guardrail.policy import parse_policy
from guardrail.redact import (
    Redactor,
    StreamRedactor,
    Unredactable,
    unredactable,
)
from guardrail.types import ChannelKind, Direction, Frame
from guardrail.wire import WIRES
from guardrail.wire.rewrite import edit_body, edit_event
from guardrail.wire.sse import write_event
from tests.proxy.dialects import STREAMS, WHOLES
from tests.proxy.test_matrix import body_for
from tests.test_redact import (
    CARD,
    CLEAN,
    KEYS,
    MAIL,
    POLICY,
    TEXT,
)
from tests.wire.sdk import READERS


def frames_of(key, pieces: Sequence[str]) -> list[Frame]:
    wire = WIRES[key[0]]
    stream = wire.open_stream(wire.read_request(json.dumps(body_for(key[0], True)).encode()))
    return [f for data in STREAMS[key](pieces) for f in stream.feed(data)]


def read_back(key, data: bytes) -> str:
    wire = WIRES[key[0]]
    stream = wire.open_stream(wire.read_request(json.dumps(body_for(key[0], True)).encode()))
    frames = [*stream.feed(data), *stream.flush()]
    assert not any(frame.opaque for frame in frames)
    assert stream.complete()
    return "".join(span.text for frame in frames for span in frame.spans)


@KEYS
def test_no_split_lets_anything_through_on_the_wire(key) -> None:
    inside = [*range(17, 17 + len(MAIL) + 1), *range(60, 60 + len(CARD) + 8)]
    for at in inside:
        pieces = [TEXT[:at], *TEXT[at : at + 3], TEXT[at + 3 :]]
        redactor = StreamRedactor(Redactor(POLICY, Direction.OUTPUT), edit_event)
        out: list[Frame] = []
        for frame in frames_of(key, [p for p in pieces if p]):
            out += redactor.feed([frame])
        out += redactor.flush()
        data = b"".join(frame.raw for frame in out)
        assert read_back(key, data) == CLEAN
        assert b"builder" not in data
        assert b"1111" not in data
        assert redactor.counts == {"email": 1, "payment_card": 1}


@KEYS
def test_a_rule_for_one_kind_of_text_leaves_nothing_in_what_a_dialect_repeats(key) -> None:
    policy = parse_policy(
        "version: 1\nname: o\ncategories: {m: {detectors: [email], action: redact, "
        f"channels: [{key[1].value}]}}}}"
    )
    said = json.dumps({"to": MAIL}) if key[1] is ChannelKind.TOOL_ARGUMENTS else TEXT
    redactor = StreamRedactor(Redactor(policy, Direction.OUTPUT), edit_event)
    out = [*redactor.feed(frames_of(key, [said[:20], said[20:]])), *redactor.flush()]
    assert b"builder" not in b"".join(frame.raw for frame in out)


@KEYS
def test_frames_in_which_nothing_is_redacted_leave_as_they_came(key) -> None:
    sent = frames_of(key, ["Nothing in this ", "is personal, ", "not even the end."])
    redactor = StreamRedactor(Redactor(POLICY, Direction.OUTPUT), edit_event)
    out = [*redactor.feed(sent), *redactor.flush()]
    assert all(left is came for left, came in zip(out, sent, strict=True))


@pytest.mark.parametrize("key", list(WHOLES), ids=lambda k: f"{k[0]}-{k[1]}")
def test_whole_answers_are_redacted_where_the_text_stands(key) -> None:
    wire = WIRES[key[0]]
    payload = WHOLES[key](TEXT)
    redactor = Redactor(POLICY, Direction.OUTPUT)
    frame = wire.read_response(json.dumps(payload).encode())
    made = redactor.frame(frame, edit_body(wire.read_response, redactor.clean))
    assert json.loads(made.raw) == WHOLES[key](CLEAN)


ARGUMENTS = pytest.mark.parametrize(
    "key", [key for key in STREAMS if key[1] is ChannelKind.TOOL_ARGUMENTS], ids=lambda k: k[0]
)
RAW = (
    r'{"to": "\nbob\u0040example.com\t", "n": -4111111111111111, "deep": [{"card": '
    r'4111111111111111}, "\\ \"Project\nZebra\"", true], "url": "https:\/\/x.y\/", '
    r'"mail": "bob\u200b@example.com"}'
)
ARGS = {
    "to": "\n[REDACTED:email]\t",
    "n": "[REDACTED:payment_card]",
    "deep": [{"card": "[REDACTED:payment_card]"}, '\\ "<names>"', True],
    "url": "https://x.y/",
    "mail": "[REDACTED:email]",
}


def arguments_of(key, final) -> object:
    """Return a tool call's arguments as the client of the official SDK has them."""
    if key[0] == "openai.chat":
        return json.loads(final.choices[0].message.tool_calls[0].function.arguments)
    if key[0] == "openai.responses":
        return json.loads(final.output[0].arguments)
    return final.content[0].input


@ARGUMENTS
def test_streamed_arguments_stay_json_wherever_they_are_cut(key) -> None:
    for size in (2, 9, len(RAW)):
        pieces = [RAW[n : n + size] for n in range(0, len(RAW), size)]
        redactor = StreamRedactor(Redactor(POLICY, Direction.OUTPUT), edit_event)
        out = [*redactor.feed(frames_of(key, pieces)), *redactor.flush()]
        data = b"".join(frame.raw for frame in out)
        assert arguments_of(key, READERS[key[0]](data).final) == ARGS
        assert json.loads(joined_arguments(key, data)) == ARGS
        assert b"411111" not in data


def joined_arguments(key, data: bytes) -> str:
    """Return the pieces alone, without what a dialect repeats at the end."""
    names = {"openai.chat": "arguments", "openai.responses": "delta"}
    name = names.get(key[0], "partial_json")
    events = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]
    return "".join(piece for event in events for piece in strings_at(event, name))


def strings_at(value: object, name: str) -> list[str]:
    if isinstance(value, list):
        return [text for child in value for text in strings_at(child, name)]
    if not isinstance(value, dict):
        return []
    own = [value[name]] if isinstance(value.get(name), str) else []
    if value.get("type") == "function_call":
        own = []  # the finished item repeats them
    children = [child for key, child in value.items() if key != "response"]
    return own + [text for child in children for text in strings_at(child, name)]


JSON_TEXTS = [key for key in WHOLES if key != ("anthropic.messages", ChannelKind.TOOL_ARGUMENTS)]
"""Where an answer has text; the arguments left out are an object."""


@pytest.mark.parametrize("key", JSON_TEXTS, ids=lambda k: f"{k[0]}-{k[1]}")
def test_json_in_whole_answers_stays_json(key) -> None:
    wire = WIRES[key[0]]
    redactor = Redactor(POLICY, Direction.OUTPUT)
    frame = wire.read_response(json.dumps(WHOLES[key](RAW)).encode())
    made = redactor.frame(frame, edit_body(wire.read_response, redactor.clean))
    [text] = {span.text for span in made.spans}
    assert json.loads(text) == ARGS


def test_objects_and_their_text_are_redacted_alike() -> None:
    wire = WIRES["anthropic.messages"]
    payload = WHOLES["anthropic.messages", ChannelKind.TOOL_ARGUMENTS]("x")
    payload["content"][0]["input"] = json.loads(RAW)
    redactor = Redactor(POLICY, Direction.OUTPUT)
    frame = wire.read_response(json.dumps(payload).encode())
    made = json.loads(redactor.frame(frame, edit_body(wire.read_response, redactor.clean)).raw)
    assert made["content"][0]["input"] == ARGS


def test_what_tokens_repeat_goes_with_the_text() -> None:
    wire = WIRES["openai.chat"]
    payload = WHOLES["openai.chat", ChannelKind.TEXT](MAIL)
    tokens = [{"token": t, "logprob": -1.0} for t in (MAIL[:5], MAIL[5:])]
    payload["choices"][0]["logprobs"] = {"content": tokens}
    redactor = Redactor(POLICY, Direction.OUTPUT)
    frame = wire.read_response(json.dumps(payload).encode())
    made = json.loads(redactor.frame(frame, edit_body(wire.read_response, redactor.clean)).raw)
    assert made["choices"][0]["logprobs"] is None
    assert made["choices"][0]["message"]["content"] == "[REDACTED:email]"


def test_a_number_in_arguments_becomes_the_placeholder() -> None:
    wire = WIRES["anthropic.messages"]
    payload = WHOLES["anthropic.messages", ChannelKind.TOOL_ARGUMENTS]("x")
    payload["content"][0]["input"] = {"card": 4111111111111111}
    redactor = Redactor(POLICY, Direction.OUTPUT)
    frame = wire.read_response(json.dumps(payload).encode())
    made = json.loads(redactor.frame(frame, edit_body(wire.read_response, redactor.clean)).raw)
    assert made["content"][0]["input"] == {"card": "[REDACTED:payment_card]"}


def test_what_cannot_be_taken_out_of_its_place_is_blocked() -> None:
    wire = WIRES["anthropic.messages"]
    payload = WHOLES["anthropic.messages", ChannelKind.TOOL_ARGUMENTS]("x")
    payload["content"][0]["input"] = {MAIL: 1}  # a key
    redactor = Redactor(POLICY, Direction.OUTPUT)
    frame = wire.read_response(json.dumps(payload).encode())
    with pytest.raises(Unredactable):
        redactor.frame(frame, edit_body(wire.read_response, redactor.clean))
    verdict = unredactable(POLICY, Direction.OUTPUT)
    assert verdict.blocked
    assert {finding.reason for finding in verdict.findings} == {"unredactable"}


HELD = "111 1111 1111 1111 bob.builder@example.com. "


def chunk(*deltas: dict[str, object]) -> bytes:
    choices = [{"index": n, "delta": delta} for n, delta in enumerate(deltas)]
    return b"data: " + json.dumps({"id": "c", "choices": choices}).encode() + b"\n\n"


def called(arguments: str, number: int = 0) -> dict[str, object]:
    function = {"name": "f", "arguments": arguments}
    return {"tool_calls": [{"index": number, "function": function}]}


def on_the_wire(chunks: Sequence[bytes], key: str = "openai.chat") -> tuple[str, Redactor]:
    """Return what a client gets, and what counted."""
    wire = WIRES[key]
    stream = wire.open_stream(wire.read_request(json.dumps(body_for(key, True)).encode()))
    redactor = Redactor(POLICY, Direction.OUTPUT)
    machine = StreamRedactor(redactor, edit_event)
    out = [f for data in chunks for f in machine.feed(stream.feed(data))]
    return b"".join(f.raw for f in (*out, *machine.flush())).decode(), redactor


def said_by(data: str, index: int, field: str = "content") -> str:
    events = [json.loads(line[6:]) for line in data.splitlines() if line.startswith("data: {")]
    choices = [c for event in events for c in event["choices"] if c["index"] == index]
    return "".join(choice["delta"].get(field) or "" for choice in choices)


@pytest.mark.parametrize("turned", [False, True])
def test_equal_texts_of_two_choices_are_redacted_each_in_its_own_place(turned) -> None:
    begun = ["card: 4", "note: "][:: -1 if turned else 1]
    data, _ = on_the_wire(
        [chunk(*({"content": text} for text in begun)), chunk(*2 * [{"content": HELD}])]
    )
    assert said_by(data, int(turned)) == "card: [REDACTED:payment_card] [REDACTED:email]. "
    assert said_by(data, 1 - turned) == "note: 111 1111 1111 1111 [REDACTED:email]. "


def test_equal_texts_of_one_choice_that_would_part_are_blocked() -> None:
    both = called("4")["tool_calls"] + called("5", 1)["tool_calls"]  # type: ignore[operator]
    same = called(HELD)["tool_calls"] + called(HELD, 1)["tool_calls"]  # type: ignore[operator]
    with pytest.raises(Unredactable):
        on_the_wire([chunk({"tool_calls": both}), chunk({"tool_calls": same})])


def test_what_stands_before_a_tool_call_is_taken_out_once_and_what_follows_it_too() -> None:
    for text in (f"Write to {MAIL}.", f"Write to {MAIL} today. "):
        for later in (" Then go on.", f" Or {MAIL}, or so."):
            for at in range(len(later)):
                rest = [chunk({"content": p}) for p in (later[:at], later[at:]) if p]
                data, redactor = on_the_wire([chunk({"content": text}), chunk(called("{}")), *rest])
                assert said_by(data, 0) == (text + later).replace(MAIL, "[REDACTED:email]")
                assert redactor.counts == {"email": (text + later).count(MAIL)}


def test_what_seems_to_go_on_after_a_tool_call_is_taken_out_and_blocks_nothing() -> None:
    for text, later, shown in (
        (f"Write to {MAIL}", "Then go on.", "[REDACTED:email] go on."),
        ("card 4111 1111 ", "1111 1111, so", "[REDACTED:payment_card], so"),
    ):
        data, _ = on_the_wire([chunk({"content": t}) if t else chunk(called("{}"))
                               for t in (text, "", later)])  # fmt: skip
        assert said_by(data, 0) == text.replace(MAIL, "[REDACTED:email]") + shown


def test_text_between_thoughts_blocks_nothing() -> None:
    thoughts = [f"mail {MAIL} now. ", "More, ", f"and {MAIL}."]
    pieces = [({"reasoning_content": thought}, {"content": "Hi. "}) for thought in thoughts]
    data, redactor = on_the_wire([chunk(delta) for pair in pieces for delta in pair])
    shown = "".join(thoughts).replace(MAIL, "[REDACTED:email]")
    assert said_by(data, 0, "reasoning_content") == shown
    assert said_by(data, 0) == 3 * "Hi. "
    assert redactor.counts == {"email": 2}


def test_arguments_that_go_on_after_their_end_are_blocked_where_something_is_in_them() -> None:
    calls = [called('{"to": "'), called("{}", 1), called('nobody"')]
    data, _ = on_the_wire([chunk(call) for call in calls])
    assert "nobody" in data
    with pytest.raises(Unredactable):
        on_the_wire([chunk(call) for call in (*calls[:2], called(f'{MAIL}"'))])


CITED = {"url": "https://x.y/", "title": f"by {MAIL}"}
BESIDE = {
    "openai.chat": chunk({"annotations": [{"type": "url_citation", "url_citation": CITED}]}),
    "anthropic.messages": b'data: {"type": "content_block_delta", "index": 0, "delta": '
    b'{"type": "citations_delta", "citation": %s}}\n\n' % json.dumps(CITED).encode(),
    "openai.responses": b'data: {"type": "response.output_text.annotation.added", '
    b'"output_index": 0, "annotation": %s}\n\n' % json.dumps(CITED).encode(),
}


@pytest.mark.parametrize("key", list(BESIDE))
def test_annotations_of_several_strings_are_redacted_where_they_stand(key) -> None:
    data, redactor = on_the_wire([BESIDE[key]], key)
    shown = json.loads(BESIDE[key][6:].replace(MAIL.encode(), b"[REDACTED:email]"))
    assert json.loads(data[6:]) == shown
    assert redactor.counts == {"email": 1}


def test_a_key_or_label_that_repeats_a_text_keeps_nothing_of_it() -> None:
    data, _ = on_the_wire([chunk({"annotations": [{"provider": MAIL, "title": MAIL}]})])
    assert "builder" not in data
    with pytest.raises(Unredactable):
        on_the_wire([chunk({"annotations": [{MAIL: MAIL}]})])
    with pytest.raises(Unredactable):  # a plain name: what the API means by it is not known
        on_the_wire([chunk({"annotations": [{"provider": "4" + 15 * "1", "t": "4" + 15 * "1"}]})])


def test_thoughts_in_place_of_a_seal_are_redacted_wherever_they_are_repeated() -> None:
    """LiteLLM writes the thoughts of other providers there, in plain JSON."""
    said = json.dumps([{"type": "thinking", "thinking": f"mail {MAIL}"}])
    item = {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": said}
    kinds = ("response.output_item.added", "response.output_item.done")
    data = b"".join(write_event({"type": kind, "output_index": 0, "item": item}) for kind in kinds)
    wire = WIRES["openai.responses"]
    stream = wire.open_stream(wire.read_request(b'{"model":"m","input":"hi","stream":true}'))
    redactor = StreamRedactor(Redactor(POLICY, Direction.OUTPUT), edit_event)
    out = [*redactor.feed(stream.feed(data)), *redactor.flush()]
    assert len(out) == 2
    assert MAIL.encode() not in b"".join(frame.raw for frame in out)
