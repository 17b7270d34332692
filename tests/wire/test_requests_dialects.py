"""Requests of the other dialects: every text is found with who speaks."""

from __future__ import annotations

from guardrail.types import ChannelKind
from tests.wire.test_requests import ARGS, RESULT, TEXT, A, S, T, U, brief, latest, read, user


def test_completions_take_strings_lists_and_tokens() -> None:
    assert latest(read("openai.completions", {"prompt": "a"})) == ["a"]
    assert latest(read("openai.completions", {"prompt": ["a", "b"], "suffix": "c"})) == list("abc")
    for prompt in ([1, 2], [[1], [2, 3]]):
        request = read("openai.completions", {"prompt": prompt})
        assert request.segments == ()
        assert all(note.endswith(": tokens") for note in request.skipped)


def test_embeddings_take_strings_lists_and_tokens() -> None:
    assert latest(read("openai.embeddings", {"input": ["a", "b"]})) == ["a", "b"]
    assert read("openai.embeddings", {"input": [1, 2]}).skipped == ("input: tokens",)


def test_responses_take_a_string_with_instructions() -> None:
    request = read("openai.responses", {"input": "Hi", "instructions": "Be kind."})
    assert brief(request) == [(S, TEXT, "Be kind."), (U, TEXT, "Hi")]
    assert request.prompt == "Hi"


def test_responses_take_every_kind_of_item() -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        user([{"type": "input_text", "text": "Q"}, {"type": "input_image", "image_url": "u"}]),
        {
            "type": "reasoning",
            "id": "r",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAA",
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"q":1}'},
        {"type": "function_call_output", "call_id": "c", "output": "It is 5."},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "Part"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Five."}],
        },
        {"type": "mcp_call", "id": "m", "name": "g", "arguments": "{}", "output": "Six."},
        {"type": "item_reference", "id": "i"},
        {"type": "local_shell_call_output", "id": "l", "output": "file list"},
        user("Last"),
    ]
    request = read("openai.responses", {"input": items, "previous_response_id": "resp_1"})
    assert brief(request) == [
        (S, TEXT, "Be brief."),
        (U, TEXT, "Q"),
        (A, ChannelKind.REASONING, "Hm."),
        (A, ARGS, '{"q":1}'),
        (T, RESULT, "It is 5."),
        (T, RESULT, "Part"),
        (A, TEXT, "Five."),
        (A, ARGS, "{}"),
        (T, RESULT, "Six."),
        (T, RESULT, "file list"),
        (U, TEXT, "Last"),
    ]
    assert latest(request) == ["file list", "Last"]
    assert request.skipped == (
        "previous_response_id: stored_conversation",
        "input[1].content[1]: input_image",
        "input[8]: item_reference",
    )


def test_variables_of_a_stored_prompt_are_seen() -> None:
    prompt = {
        "id": "pmpt_1",
        "variables": {"topic": "evil things", "f": {"type": "input_text", "text": "x y"}},
    }
    request = read("openai.responses", {"prompt": prompt})
    assert latest(request) == ["evil things", "x y"]
    assert request.skipped == ("prompt: stored_prompt",)


def test_anthropic_takes_system_blocks_tools_and_nested_results() -> None:
    payload = {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            user("Q"),
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "Eq"},
                    {"type": "redacted_thinking", "data": "Em"},
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"q": "five"}},
                ],
            },
            user(
                [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [
                            {"type": "text", "text": "It is 5."},
                            {"type": "image", "source": {"type": "base64", "data": "iVBO"}},
                            {
                                "type": "search_result",
                                "source": "https://x",
                                "title": "Title",
                                "content": [{"type": "text", "text": "Found"}],
                            },
                        ],
                    },
                    {"type": "tool_result", "tool_use_id": "t", "content": "Plain"},
                    {
                        "type": "document",
                        "title": "Doc",
                        "source": {"type": "text", "media_type": "text/plain", "data": "Pages"},
                    },
                    {"type": "document", "source": {"type": "base64", "data": "JVBE"}},
                    {"type": "text", "text": "And?"},
                ]
            ),
        ],
        "tools": [{"name": "f", "description": "Finds a number.", "input_schema": {}}],
    }
    request = read("anthropic.messages", payload)
    assert brief(request) == [
        (S, TEXT, "Be kind."),
        (U, TEXT, "Q"),
        (A, ChannelKind.REASONING, "Hm."),
        (A, TEXT, "Let me see."),
        (A, ARGS, '{"q":"five"}'),
        (T, RESULT, "It is 5.\nhttps://x\nTitle\nFound"),
        (T, RESULT, "Plain"),
        (U, TEXT, "Doc\nPages"),
        (U, TEXT, "And?"),
        (S, TEXT, "Finds a number."),
    ]
    assert request.prompt == "Doc\nPages\nAnd?"
    assert request.skipped == (
        "messages[1].content[1]: redacted_thinking",
        "messages[2].content[0].content[1]: image",
        "messages[2].content[3].source: base64",
    )
    assert [s.text for s in request.segments if not s.latest] == [
        "Be kind.",
        "Q",
        "Hm.",
        "Let me see.",
        '{"q":"five"}',
    ]
