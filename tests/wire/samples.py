"""Recorded exchanges and what they say, by dialect, form and channel kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from guardrail.types import ChannelKind, Frame
from guardrail.wire import WIRES, Wire, WireRequest, WireStream

FOLDER = Path(__file__).parent / "recordings"

TEXT, REASONING = ChannelKind.TEXT, ChannelKind.REASONING
REFUSAL, ARGUMENTS, RESULT = (
    ChannelKind.REFUSAL,
    ChannelKind.TOOL_ARGUMENTS,
    ChannelKind.TOOL_RESULT,
)

REQUESTS: dict[str, bytes] = {
    "openai.chat": b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}',
    "openai.completions": b'{"model":"m","stream":true,"prompt":"Hi"}',
    "openai.responses": b'{"model":"m","stream":true,"input":"Hi"}',
    "openai.embeddings": b'{"model":"m","input":"Hi"}',
    "openai.conversations": b'{"items":[{"type":"message","role":"user","content":"Hi"}]}',
    "anthropic.messages": b'{"model":"m","stream":true,"max_tokens":9,'
    b'"messages":[{"role":"user","content":"Hi"}]}',
}


@dataclass(frozen=True)
class Recording:
    """One recorded answer: its file, and the texts of each kind in the order of their channels."""

    wire: str
    file: str
    texts: dict[ChannelKind, list[str]]
    choices: int = 1

    @property
    def data(self) -> bytes:
        return (FOLDER / self.file).read_bytes()

    @property
    def streamed(self) -> bool:
        return self.file.endswith(".sse")

    def dialect(self) -> Wire:
        return WIRES[self.wire]

    def request(self, *, usage: bool = False) -> WireRequest:
        body = REQUESTS[self.wire]
        if self.choices > 1:
            body = body.replace(b"{", b'{"n":%d,' % self.choices, 1)
        if usage:
            body = body.replace(b"{", b'{"stream_options":{"include_usage":true},', 1)
        return self.dialect().read_request(body)

    def open(self, *, usage: bool = False) -> WireStream:
        return self.dialect().open_stream(self.request(usage=usage))


CAFE = 'The café opens at 8 🙂 "sharp"\n\nand closes at 17.'
ARGS = ['{"city":"Paris"}', '{"to":"bob","body":"see you"}']
THOUGHT = "First I think it over."
NO = "I cannot help with that."

RECORDINGS = [
    Recording("openai.chat", "chat_text.sse", {TEXT: [CAFE]}),
    Recording("openai.chat", "chat_crlf.sse", {TEXT: [CAFE]}),
    Recording("openai.chat", "chat_tools.sse", {ARGUMENTS: ARGS}),
    Recording(
        "openai.chat", "chat_reasoning.sse", {REASONING: [THOUGHT], TEXT: ["The answer is four."]}
    ),
    Recording(
        "openai.chat", "chat_n2_logprobs.sse", {TEXT: ["Red is warm.", "Blue is cool!"]}, choices=2
    ),
    Recording("openai.chat", "chat_refusal.sse", {REFUSAL: [NO]}),
    Recording("openai.chat", "chat_tools.json", {ARGUMENTS: ARGS}),
    Recording(
        "openai.chat",
        "chat_n2_reasoning.json",
        {REASONING: [THOUGHT], TEXT: ["Red is warm.", "Blue is cool!"]},
        choices=2,
    ),
    Recording("openai.chat", "chat_refusal.json", {REFUSAL: [NO]}),
    Recording(
        "openai.completions",
        "completions_text.sse",
        {TEXT: ["Once upon a time", "There was a fox"]},
        choices=2,
    ),
    Recording(
        "openai.completions",
        "completions_text.json",
        {TEXT: ["Once upon a time", "There was a fox"]},
        choices=2,
    ),
    Recording(
        "anthropic.messages",
        "anthropic_thinking_tool.sse",
        {
            REASONING: [THOUGHT],
            TEXT: ["Okay, let's check the wéather 🙂:"],
            ARGUMENTS: ['{"city": "Paris", "unit": "c"}'],
        },
    ),
    Recording("anthropic.messages", "anthropic_text.sse", {TEXT: ["The café opens at 8."]}),
    Recording(
        "anthropic.messages",
        "anthropic_search.sse",
        {
            ARGUMENTS: ['{"query":"weather"}'],
            RESULT: ["Weather in Paris"],
            TEXT: ["It is mild.", "mild all day\nWeather in Paris\nhttps://example.org/w"],
        },
    ),
    Recording(
        "anthropic.messages",
        "anthropic_thinking_tool.json",
        {REASONING: [THOUGHT], TEXT: ["Okay, let's check."], ARGUMENTS: ['{"city":"Paris"}']},
    ),
    Recording(
        "anthropic.messages",
        "anthropic_search.json",
        {
            ARGUMENTS: ['{"query":"weather"}'],
            RESULT: ["Weather in Paris"],
            TEXT: ["It is mild."],
        },
    ),
    *(
        recording
        for form in ("sse", "json")
        for recording in (
            Recording(
                "openai.responses", f"responses_text.{form}", {TEXT: ["The café opens at 8 🙂"]}
            ),
            Recording(
                "openai.responses",
                f"responses_reasoning_tools.{form}",
                {
                    REASONING: [THOUGHT],
                    ARGUMENTS: ['{"city":"Paris"}', '{"to":"bob"}', "print(1+1)"],
                    RESULT: ["the result is 2"],
                    TEXT: ["Done and done."],
                },
            ),
            Recording("openai.responses", f"responses_refusal.{form}", {REFUSAL: [NO]}),
        )
    ),
    Recording("openai.embeddings", "embeddings.json", {}),
    Recording(
        "openai.conversations",
        "conversation_items.json",
        {
            TEXT: ["Is it mild in Paris?", "It is mild."],
            ARGUMENTS: ['{"city":"Paris"}'],
            RESULT: ["mild all day"],
        },
    ),
]

STREAMS = [r for r in RECORDINGS if r.streamed]
WHOLE = [r for r in RECORDINGS if not r.streamed]


def texts(frames: list[Frame]) -> dict[ChannelKind, list[str]]:
    """Return what frames say: text of each channel, in order of channels, by kind."""
    found: dict[ChannelKind, dict[object, str]] = {}
    for frame in frames:
        for span in frame.spans:
            by_channel = found.setdefault(span.channel.kind, {})
            by_channel[span.channel] = by_channel.get(span.channel, "") + span.text
    return {kind: [by[c] for c in sorted(by)] for kind, by in found.items()}  # type: ignore[type-var]


def name(recording: Recording) -> str:
    return recording.file
