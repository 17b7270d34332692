"""What stands behind a disguise is found where it stands, whole and in pieces of any size."""

from __future__ import annotations

import base64
import codecs
import itertools
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.classifier.json_text import BEGIN
from guardrail.classifier.matches import MatchFinder
from guardrail.policy import parse_policy
from guardrail.redact import Redactor, StreamRedactor
from guardrail.types import Channel, Direction, Frame, Role, Span

POLICY = parse_policy(
    """
version: 1
name: r
categories:
  personal: {detectors: [email, payment_card, us_ssn], action: redact}
  names:
    words: [Project Zebra, mango, манго]
    patterns: ['sk-[a-z0-9]{8,}']
    action: redact
    placeholder: "<{category}>"
"""
)
MAIL = "bob@example.com"
TAGGED = "".join(chr(0xE0000 + ord(c)) for c in f"mail {MAIL}")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def whole(text: str) -> str:
    return Redactor(POLICY, Direction.OUTPUT).text(text, Role.ASSISTANT)


def streamed(pieces: list[str]) -> str:
    def edit(frame: Frame, edits, other) -> Frame:
        return Frame(
            b"",
            tuple(Span(span.channel, edits[span.channel.index, span.text]) for span in frame.spans),
        )

    redactor = StreamRedactor(Redactor(POLICY, Direction.OUTPUT), edit)
    frames: list[Frame] = []
    for piece in pieces:
        frames += redactor.feed([Frame(b"", (Span(Channel(), piece),) if piece else ())])
    frames += redactor.flush()
    return "".join(span.text for frame in frames for span in frame.spans)


DISGUISED = {
    "zero-width": ("to b\u200bob@exam\u200bple.com now", "to [REDACTED:email] now"),
    "zero-width in another script": ("это м\u200bанго да", "это <names> да"),
    "full-width": ("to ｂｏｂ＠ｅｘａｍｐｌｅ．ｃｏｍ now", "to [REDACTED:email] now"),
    "look-alikes": ("Рrоjесt Zеbrа it is", "<names> it is"),
    "percent": ("q=bob%40example.com&x=1", "q=[REDACTED:email]&x=1"),
    "percent, one word of a run": (
        quote("это—манго—или"),
        quote("это—") + "<names>" + quote("—или"),
    ),
    "escapes": (r"a bob\u0040example.com b", "a [REDACTED:email] b"),
    "base64": (f"see {b64(MAIL)} end", "see [REDACTED:email] end"),
    "base64 in a sentence": (f"see {b64('write to ' + MAIL)}.", "see [REDACTED:email]."),
    "hex": (f"see {MAIL.encode().hex()} end", "see [REDACTED:email] end"),
    "hex apart": (f"see {MAIL.encode().hex(' ')} end", "see [REDACTED:email] end"),
    "tags": (f"a{TAGGED}z", f"a{TAGGED[:5]}[REDACTED:email]z"),
    "apart": ("the P r o j e c t   Z e b r a is", "the <names> is"),
    "mail apart": ("at b o b @ e x a m p l e . c o m ok", "at [REDACTED:email] ok"),
    "mail apart in quotes": (
        '{"to": "b o b @ e x a m p l e . c o m"}',
        '{"to": "[REDACTED:email]"}',
    ),
    "dashes": ("M-A-N-G-O!", "<names>!"),
    "leetspeak": ("my pr0j3ct z3bra", "my <names>"),
    "other digits": ("card ４１１１ １１１１ ١١١١ 1111", "card [REDACTED:payment_card]"),
    "no-break spaces": ("4111\u00a01111\u00a01111\u00a01111", "[REDACTED:payment_card]"),
    "rot13": (
        codecs.encode("you should look at project zebra and tell me", "rot13"),
        codecs.encode("you should look at ", "rot13") + "<names>" + " naq gryy zr",
    ),
    "before an escape": (r"print('hi\nbob@example.com')", "print('hi[REDACTED:email]')"),
}


@pytest.mark.parametrize("name", list(DISGUISED))
def test_a_disguised_place_is_taken_out_and_nothing_else(name) -> None:
    text, clean = DISGUISED[name]
    assert whole(text) == clean
    assert streamed(list(text)) == clean
    for at in range(0, len(text), 3):
        assert streamed([text[:at], text[at:]]) == clean


@pytest.mark.parametrize("encode", [b64, lambda t: t.encode().hex(), lambda t: t.encode().hex(" ")])
@pytest.mark.parametrize("step", [37, 53])
def test_a_long_payload_is_held_to_its_end(encode, step) -> None:
    text = f"see {encode('and so it goes on. ' * 120 + MAIL + ' or not')} end"
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    assert streamed(pieces) == whole(text) == "see [REDACTED:email] end"


def test_a_number_is_not_let_go_in_parts() -> None:
    # Patterns hold 128 characters, so that for one of the lengths their end is behind the sign.
    for more in range(90, 150):
        text = f'{{"a": [-4111111111111111, "{"z" * more}", 5]}}'
        clean = text.replace("-4111111111111111", '"[REDACTED:payment_card]"')
        assert streamed([text[:-6], text[-6:]]) == whole(text) == clean


def test_half_a_pair_harms_nothing_beside_it() -> None:
    text = f"\ud83d {MAIL} \ude00\ud83d\ude00"
    assert whole(text) == text.replace(MAIL, "[REDACTED:email]")
    assert streamed(list(text)) == whole(text)


@pytest.mark.parametrize(
    "text",
    [
        "Ordinary text: 12 apples, a naïve café… “quotes”, 100% sure, the 1st of 3.",
        "Привет мир, это просто текст и больше ничего.",
        "これはただの文章です。何もありません。",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b in /usr/local/lib/python3.11/site",
        "I am a b c person; see e.g. a.b.c.d.e and x-y-z-w-v.",
        '{"a": [1, 2, {"b\\n": "c\\u00e9"}], "n": 123456789}',
    ],
)
def test_a_text_without_a_place_stays_as_it_is(text) -> None:
    assert whole(text) == text
    assert streamed(list(text)) == text


PARTS = st.sampled_from(
    [*(text for text, _ in DISGUISED.values()), MAIL, "4111 1111 1111 1111", "mango", "％40", "%4",
     "%", "%C3", "%A9", "\\u00", "\\u0040", "\\", "\\ud83d", "\\ude00", "\\n", b64("is mango it"),
     "m a n g o", "m4ng0", "3", "z", "a ", ". ", "- ", " ", "\n", "=", "/", "0x", "deadbeef",
     "ab cd ", "the and for you ", "сор", "м", "é", "Привет ", "\u200b", "😀", "ﬁ", "\U000e0041",
     "sk-abcdefgh1", '{"a": "', '", "b": ', '"}', "[", '"', "4111111111111111", "}", ",",
     "words and more "]
)  # fmt: skip


@settings(max_examples=40)
@given(st.lists(PARTS, max_size=8), st.lists(st.integers(0, 900), max_size=12), st.booleans())
def test_pieces_of_disguised_text_give_the_redaction_of_the_whole(parts, places, shaped) -> None:
    text = ('{"k": "' if shaped else "") + "".join(parts)
    at = sorted({0, len(text), *(p % (len(text) + 1) for p in places)})
    assert streamed([text[a:b] for a, b in itertools.pairwise(at)]) == whole(text)


def test_words_behind_no_disguise_are_let_go_at_once() -> None:
    finder = MatchFinder([POLICY.rules[0]])
    for text in ("nothing to hide ", "so it is. ", "4 apples, and ", "a “quoted” word "):
        assert finder.read(text, BEGIN, ended=False).settled == len(text)


@pytest.mark.parametrize(
    "unit", ["a b ", "%C3", "\\u0041", "\\", '{"', "\u200b", "о", "QUJD", "62 ", "z3", "ﷺ", "["]
)
def test_hostile_text_takes_time_linear_in_its_length(unit) -> None:
    def seconds(size: int) -> float:
        text = '{"k":' + unit * (size // len(unit))
        started = time.process_time()
        whole(text)
        return time.process_time() - started

    seconds(1_000)
    assert seconds(20_000) < 20 * max(seconds(4_000), 0.02)  # 25 times, were it quadratic


def test_what_stands_between_two_payloads_is_none_of_them() -> None:
    policy = parse_policy(
        "version: 1\nname: n\ncategories: {m: {patterns: ['mango\\s', '\\n'], action: redact}}"
    )
    text = f"a {b64('this is mango')} and {b64('no fruit, none')} b"
    clean = f"a [REDACTED:m] and {b64('no fruit, none')} b"
    assert Redactor(policy, Direction.OUTPUT).text(text, Role.ASSISTANT) == clean


def test_a_policy_that_does_not_normalise_redacts_what_is_plain_only() -> None:
    plain = parse_policy(
        "version: 1\nname: p\nnormalise: false\n"
        "categories: {m: {detectors: [email], action: redact}}"
    )
    redactor = Redactor(plain, Direction.OUTPUT)
    assert redactor.text("bob%40example.com", Role.ASSISTANT) == "bob%40example.com"
    assert redactor.text(MAIL, Role.ASSISTANT) == "[REDACTED:email]"
