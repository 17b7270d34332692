"""Which requests are guarded, and how their bodies are read."""

from __future__ import annotations

import json

import pytest

from guardrail.errors import WireError
from guardrail.wire import Notice, RefusalStyle
from guardrail.wire.routes import Route, route_of


def found(method: str, path: str, *, body: bool = True) -> str | None:
    route = route_of(method, path, body=body)
    return route.wire.name if route.wire is not None and route.guarded else None


@pytest.mark.parametrize(
    ("method", "path", "body", "wire"),
    [
        ("POST", "/v1/chat/completions", True, "openai.chat"),
        ("POST", "/v1/completions", True, "openai.completions"),
        ("POST", "/openai/deployments/m/embeddings", True, "openai.embeddings"),
        ("POST", "/anthropic/v1/messages/", True, "anthropic.messages"),
        ("GET", "/v1/chat/completions", False, "openai.chat"),
        ("GET", "/v1/chat/completions/c1", False, "openai.chat"),
        ("POST", "/v1/chat/completions/c1", True, "openai.chat"),
        ("DELETE", "/v1/chat/completions/c1", False, "openai.chat"),
        ("GET", "/v1/chat/completions/c1/messages", False, "openai.chat"),
        ("POST", "/v1/chat/completions/render", True, "openai.chat"),
        ("GET", "/v1/responses/r1", False, "openai.responses"),
        ("POST", "/v1/responses/r1/cancel", False, "openai.responses"),
        ("GET", "/v1/responses/r1/input_items", False, "openai.responses"),
        ("POST", "/v1/responses/compact", True, "openai.responses"),
        ("POST", "/v1/responses/input_tokens", True, "openai.responses"),
        ("POST", "/V1//responses/%63ompact;x=1", True, "openai.responses"),
        ("POST", "/v1/conversations", True, "openai.conversations"),
        ("POST", "/v1/conversations", False, "openai.conversations"),
        ("GET", "/v1/conversations", False, "openai.conversations"),
        ("POST", "/openai/v1/Conversations/conv_1/%2569tems/", True, "openai.conversations"),
        ("GET", "/v1/conversations/conv_1/items/msg_1", False, "openai.conversations"),
        ("POST", "/v1/conversations/conv_1/messages", True, "openai.conversations"),
        ("DELETE", "/v1/conversations/conv_1", False, "openai.conversations"),
        ("POST", "/v1/responses/chat/completions", True, "openai.chat"),
        ("POST", "/v1/chat/completions%0A", True, "openai.chat"),
        ("POST", "/v1/messages%250a%20", True, "anthropic.messages"),
        ("POST", "/v1/chat/completions%3Fa=b", True, "openai.chat"),
        ("POST", "/v1/responses%2523/x", True, "openai.responses"),
        ("POST", "/v1/completions%00.txt", True, "openai.completions"),
        ("POST", "/a%3Fb/v1/chat/completions", True, "openai.chat"),
        ("DELETE", "/v1/chat/completions", True, "openai.chat"),
        ("DELETE", "/v1/chat/completions", False, None),
        ("POST", "/v1/threads/t1/messages", True, None),
        ("POST", "/v1/messages/batches", True, None),
        ("POST", "/v1/moderations", True, None),
        ("GET", "/v1/models", False, None),
    ],
)
def test_a_request_finds_its_dialect(method: str, path: str, body: bool, wire: str | None) -> None:
    assert found(method, path, body=body) == wire


def test_a_guarded_path_is_sent_on_plain_and_any_other_as_it_is() -> None:
    assert route_of("GET", "/v1/responses/Resp_1/", body=False).path == "/v1/responses/Resp_1"
    assert route_of("GET", "/v1//responses/./r 1", body=False).path == "/v1/responses/r%201"
    assert route_of("GET", "/v1//Files/", body=False).path == "/v1//Files/"
    assert route_of("POST", "/v1/messages%0A", body=True).path == "/v1/messages"


def test_a_path_that_starlette_takes_for_a_guarded_one_is_guarded() -> None:
    """Its patterns end in ``$``, which matches before a line end: vLLM and others stand on it."""
    routing = pytest.importorskip("starlette.routing", reason="needs the extra `integrations`")
    pattern, *_ = routing.compile_path("/v1/chat/completions")
    assert pattern.match("/v1/chat/completions\n")
    assert found("POST", "/v1/chat/completions%0a") == "openai.chat"


def below(path: str = "/v1/responses/compact") -> Route:
    return route_of("POST", path, body=True)


@pytest.mark.parametrize("path", ["/v1/responses/compact", "/v1/responses/input_tokens"])
def test_other_uses_of_a_request_are_read_as_one(path: str) -> None:
    body = {"model": "m", "input": "hi", "instructions": "be brief", "tools": []}
    request = below(path).read(json.dumps(body).encode())
    assert [s.text for s in request.segments] == ["be brief", "hi"]
    assert request.model == "m"


def test_a_conversation_that_the_server_keeps_can_be_compacted_and_is_told_of() -> None:
    request = below().read(b'{"model":"m","previous_response_id":"resp_1"}')
    assert (request.segments, request.skipped) == (
        (),
        ("previous_response_id: stored_conversation",),
    )


def test_labels_of_a_kept_answer_are_judged_and_nothing_else_is_a_label() -> None:
    route = below("/v1/chat/completions/c1")
    labels = route.read(b'{"metadata":{"topic":"a long tale","id":"x7"}}')
    assert [s.text for s in labels.segments] == ["a long tale"]
    said = route.read(b'{"metadata":{},"messages":[{"role":"user","content":"hi"}]}')
    assert [s.text for s in said.segments] == ["hi"]
    for body in (b'{"prompt":"hi"}', b'{"Metadata":{}}', b"hi", b'["hi"]'):
        with pytest.raises(WireError):
            route.read(body)


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/conversations/conv_1/items"])
def test_items_of_a_conversation_are_all_new_and_nothing_stands_for_them(path: str) -> None:
    route = below(path)
    said = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    body = {"items": said, "metadata": {"topic": "a long tale"}}
    request = route.read(json.dumps(body).encode())
    assert [(s.text, s.latest) for s in request.segments] == [
        ("user", True),
        ("assistant", True),
        ("user", True),
        ("a long tale", True),
    ]
    assert request.segments[1].prompt == "user"
    for fine in (b"", b"{}", b'{"items":null}', b'{"items":[]}', b'{"metadata":null}'):
        assert route.read(fine).segments == ()
    for odd in (b'{"input":"hi"}', b'{"items":"hi"}', b'{"Items":[]}', b'{"items":[7]}', b"[]"):
        with pytest.raises(WireError):
            route.read(odd)
    notice = Notice("no way", style=RefusalStyle.MESSAGE_200)
    assert route.refusal(request, notice).status == 400


def test_what_is_fetched_has_nothing_to_read() -> None:
    assert route_of("GET", "/v1/responses/r1", body=False).read(b"").segments == ()
    with pytest.raises(WireError):
        route_of("POST", "/v1/responses", body=True).read(b"")


def test_a_refused_compaction_is_an_error_whatever_the_style() -> None:
    notice = Notice("no way", style=RefusalStyle.MESSAGE_200)
    assert below().refusal(None, notice).status == 400
    assert below("/v1/responses").refusal(None, notice).status == 200
