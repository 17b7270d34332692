"""What rules redact stays out, whole and in streams, wherever a text is cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.classifier.growing import CONTEXT_CHARS, MAX_OPEN_CHARS, READ_AGAIN
from guardrail.classifier.matches import MatchFinder
from guardrail.policy import parse_policy
from guardrail.redact import (
    LARGE_BYTES,
    MAX_WAITING_FRAMES,
    MIN_PATIENCE_FRAMES,
    Redactor,
    StreamRedactor,
    Unredactable,
)
from guardrail.types import Channel, ChannelKind, Direction, Frame, Role, Span
from tests.proxy.dialects import STREAMS

POLICY = parse_policy(
    """
version: 1
name: r
categories:
  personal: {detectors: [email, payment_card, us_ssn, iban, ip_address], action: redact}
  names:
    words: [Project Zebra]
    patterns: ['sk-[a-z0-9]{8,}']
    action: redact
    placeholder: "<{category}>"
"""
)
MAIL_ONLY = parse_policy(
    "version: 1\nname: m\ncategories: {m: {detectors: [email], action: redact}}"
)
MAIL, CARD = "bob.builder@example.com", "4111 1111 1111 1111"
TEXT = f"You can write to {MAIL} about it, and the card is {CARD}, as she said. "
CLEAN = TEXT.replace(MAIL, "[REDACTED:email]").replace(CARD, "[REDACTED:payment_card]")
KEYS = pytest.mark.parametrize("key", list(STREAMS), ids=lambda k: f"{k[0]}-{k[1]}")
CHANNEL = Channel()
DUMP = "".join(f"{n * 37 % 256:02x} " for n in range(5_000))


def text_edit(frame: Frame, edits, other) -> Frame:
    """Edit frames that are nothing but their one text."""
    return Frame(
        b"", tuple(Span(span.channel, edits[span.channel.index, span.text]) for span in frame.spans)
    )


def streamed(pieces: Sequence[str], policy=POLICY) -> str:
    redactor = StreamRedactor(Redactor(policy, Direction.OUTPUT), text_edit)
    frames: list[Frame] = []
    for piece in pieces:
        frames += redactor.feed([Frame(b"", (Span(CHANNEL, piece),) if piece else ())])
    frames += redactor.flush()
    return "".join(span.text for frame in frames for span in frame.spans)


def whole(text: str, policy=POLICY) -> str:
    return Redactor(policy, Direction.OUTPUT).text(text, Role.ASSISTANT)


def cut(text: str, places: Sequence[int]) -> list[str]:
    at = sorted({0, len(text), *(p % (len(text) + 1) for p in places)})
    return [text[a:b] for a, b in itertools.pairwise(at)]


def test_a_text_is_redacted_with_the_kind_in_its_place_and_counted() -> None:
    redactor = Redactor(POLICY, Direction.OUTPUT)
    text = f"{TEXT}project  ZEBRA uses sk-abcdefgh1."
    assert redactor.text(text, Role.ASSISTANT) == f"{CLEAN}<names> uses <names>."
    assert redactor.counts == {"email": 1, "payment_card": 1, "names": 2}


def test_more_places_than_a_report_lists_are_all_taken_out() -> None:
    text = " ".join(f"user{n}@example.com" for n in range(700))
    assert "@" not in whole(text)


PARTS = st.sampled_from(
    [MAIL, CARD, "a@b.co", "192.168.0.1", "078-05-1120", "DE89370400440532013000", "sk-abcdefgh99",
     "project zebra", "Project\nZebra", "sk-", "@", ".", "com", " ", ", ", "-", "4111", "1", "DE8",
     "é", "words and more words", "\n", "[REDACTED:email]", "sk-abcdefgh99" * 20]
)  # fmt: skip


@settings(max_examples=120)
@given(st.lists(PARTS, max_size=14), st.lists(st.integers(0, 2_000), max_size=12))
def test_what_is_released_in_pieces_is_the_redaction_of_the_whole(
    parts: list[str], places: list[int]
) -> None:
    text = "".join(parts)
    assert streamed(cut(text, places)) == whole(text)


def test_every_split_gives_the_redaction_of_the_whole() -> None:
    for at in range(len(TEXT) + 1):
        assert streamed([TEXT[:at], TEXT[at:]]) == CLEAN
    assert streamed(list(TEXT)) == CLEAN


def test_ordinary_text_is_held_back_by_no_more_than_a_word() -> None:
    redactor = StreamRedactor(Redactor(MAIL_ONLY, Direction.OUTPUT), text_edit)
    out = redactor.feed([Frame(b"", (Span(CHANNEL, p),)) for p in ("nothing ", "to ", "hide")])
    assert [frame.spans[0].text for frame in out] == ["nothing ", "to "]


def test_a_private_key_is_taken_out_from_its_first_line_to_its_last() -> None:
    policy = parse_policy(
        "version: 1\nname: k\ncategories: {k: {detectors: [secrets], action: redact}}"
    )
    body = "\n".join(["MIIEpAIBAAKCAQEA7bq3" * 3] * 20)
    text = f"Here:\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nDone."
    assert whole(text, policy) == "Here:\n[REDACTED:secrets]\nDone."
    assert streamed([text[n : n + 5] for n in range(0, len(text), 5)], policy) == whole(
        text, policy
    )


def test_an_open_end_is_bounded_and_still_redacted() -> None:
    policy = parse_policy(
        "version: 1\nname: p\ncategories: {p: {patterns: ['x[a-z]+'], action: redact}}"
    )
    text = "x" + "a" * (3 * MAX_OPEN_CHARS)
    out = streamed([text[n : n + 500] for n in range(0, len(text), 500)], policy)
    assert out.startswith("[REDACTED:p]")


def test_a_choice_that_stops_within_a_word_keeps_others_back_within_bounds() -> None:
    redactor = StreamRedactor(Redactor(POLICY, Direction.OUTPUT), text_edit)
    idle, busy = Channel(0), Channel(1)
    assert redactor.feed([Frame(b"", (Span(idle, "sk-abc"),))]) == []
    many = [Frame(b"", (Span(busy, "word "),))] * (MAX_WAITING_FRAMES - 1)
    assert redactor.feed(many) == []
    with pytest.raises(Unredactable):
        redactor.feed(many[:1])


@pytest.mark.parametrize("size", [3, 112, 1_000])
def test_what_is_open_is_read_again_only_as_it_grows(size, monkeypatch) -> None:
    """Of a hex dump 8,192 characters are open: read again with each piece, they cost seconds."""
    read = []
    real = MatchFinder.read

    def counted(self, text, *args, **options):
        read.append(len(text))
        return real(self, text, *args, **options)

    monkeypatch.setattr(MatchFinder, "read", counted)
    assert streamed([DUMP[n : n + size] for n in range(0, len(DUMP), size)]) == DUMP
    assert sum(read) <= 12 * len(DUMP)
    assert max(read) <= MAX_OPEN_CHARS + MAX_OPEN_CHARS // READ_AGAIN + CONTEXT_CHARS + size


def test_frames_wait_for_no_more_than_the_bound() -> None:
    redactor = StreamRedactor(Redactor(POLICY, Direction.OUTPUT), text_edit)
    held = 0
    for n in range(0, len(DUMP), 40):
        out = redactor.feed([Frame(b"", (Span(CHANNEL, DUMP[n : n + 40]),))])
        held += len(DUMP[n : n + 40]) - sum(len(frame.spans[0].text) for frame in out)
        assert held <= MAX_OPEN_CHARS + MAX_OPEN_CHARS // READ_AGAIN + 2 * 40


def test_a_channel_that_falls_silent_is_read_before_many_frames_wait_for_it() -> None:
    redactor = StreamRedactor(Redactor(MAIL_ONLY, Direction.OUTPUT), text_edit)
    assert redactor.feed([Frame(b"", (Span(Channel(0), DUMP[:3_000]),))]) == []
    assert redactor.feed([Frame(b"", (Span(Channel(0), "so it ends. "),))]) == []
    words = [Frame(b"", (Span(Channel(1), "word "),))] * MIN_PATIENCE_FRAMES
    out = [frame for word in words for frame in redactor.feed([word])]
    assert len(out) == len(words) + 2


def test_much_text_and_long_open_ends_are_work_for_a_thread() -> None:
    redactor = StreamRedactor(Redactor(POLICY, Direction.OUTPUT), text_edit)
    words = Frame(b"x" * 100, (Span(CHANNEL, "word "),))
    assert redactor.heavy([Frame(b"x" * LARGE_BYTES)])
    assert not redactor.heavy([words])
    redactor.feed([Frame(b"", (Span(CHANNEL, DUMP[:6_000]),))])
    assert not redactor.heavy([words]), "nothing is read yet"
    assert redactor.heavy([Frame(b"", (Span(CHANNEL, DUMP[:1_000]),))])
    assert redactor.heavy([Frame(b"", ends=(CHANNEL,))])
    assert redactor.heavy((), last=True)


def test_a_policy_that_redacts_nothing_this_way_has_no_redactor() -> None:
    one_way = parse_policy(
        "version: 1\nname: i\ncategories: "
        "{m: {detectors: [email], action: redact, direction: input}}"
    )
    monitor = parse_policy(
        "version: 1\nname: i\nmode: monitor\ncategories: {m: {detectors: [email], action: redact}}"
    )
    assert Redactor.of(one_way, Direction.INPUT) is not None
    assert Redactor.of(one_way, Direction.OUTPUT) is None
    assert Redactor.of(monitor, Direction.INPUT) is None


def test_roles_and_channels_out_of_scope_are_left_alone() -> None:
    policy = parse_policy(
        "version: 1\nname: s\ncategories: "
        "{m: {detectors: [email], action: redact, roles: [user], channels: [text]}}"
    )
    redactor = Redactor(policy, Direction.INPUT)
    assert redactor.text(MAIL, Role.TOOL) == MAIL
    assert redactor.text(MAIL, Role.USER, ChannelKind.REASONING) == MAIL
    assert redactor.text(MAIL, Role.USER) == "[REDACTED:email]"
