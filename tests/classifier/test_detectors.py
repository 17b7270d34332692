"""What the detectors promise: they find what has the shape, and pass what only looks like it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import luhn

from guardrail.classifier.detectors import DETECTORS, MAX_FOUND, detect
from guardrail.policy import Detector

FOUND = [
    (Detector.EMAIL, "write to ada.b+x@mail.example.co.uk.", "ada.b+x@mail.example.co.uk"),
    (Detector.PHONE, "call +49 30 901820 today", "+49 30 901820"),
    (Detector.PHONE, "call (415) 555-2671", "(415) 555-2671"),
    (Detector.PAYMENT_CARD, "card 4111 1111 1111 1111.", "4111 1111 1111 1111"),
    (Detector.PAYMENT_CARD, "378282246310005", "378282246310005"),
    (Detector.PAYMENT_CARD, "2345 4111 1111 1111 1111", "4111 1111 1111 1111"),
    (Detector.PAYMENT_CARD, "room 12 4111-1111-1111-1111", "4111-1111-1111-1111"),
    (Detector.PAYMENT_CARD, "4111 1111 1111 1111 123", "4111 1111 1111 1111"),
    (Detector.PAYMENT_CARD, "2345 4111111111111111 12 29", "4111111111111111"),
    (Detector.PAYMENT_CARD, "7 3782 822463 10005", "3782 822463 10005"),
    (Detector.PAYMENT_CARD, "411111 1111111111", "411111 1111111111"),
    (Detector.IBAN, "to DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00"),
    (Detector.IBAN, "GB82WEST12345698765432", "GB82WEST12345698765432"),
    (Detector.US_SSN, "ssn 078-05-1120", "078-05-1120"),
    (Detector.IP_ADDRESS, "from 10.0.0.255 to", "10.0.0.255"),
    (Detector.URL, "see https://example.org/a?b=c now", "https://example.org/a?b=c"),
    (Detector.SECRETS, "key = AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    (Detector.SECRETS, "a\nb ghp_" + "a1B2" * 9 + " c", "ghp_" + "a1B2" * 9),
    (Detector.INVISIBLE, "ab\u200bcd", "\u200b"),
    (Detector.INVISIBLE, "hi\U000e0041\U000e0042", "\U000e0041\U000e0042"),
    (Detector.INVISIBLE, "a\u202eb", "\u202e"),
]
PASSED = [
    (Detector.EMAIL, "the price @ noon, a@b"),
    (Detector.PHONE, "order 1234567890123456 of 2024-01-01, 3.14159265"),
    (Detector.PAYMENT_CARD, "4111 1111 1111 1112 and 0000 0000 0000 0000"),
    (Detector.PAYMENT_CARD, "2019 2020 2021 2022 2023 2024 2025 2026 and 12344111111111111111"),
    (Detector.IBAN, "DE88 3704 0044 0532 0130 00"),
    (Detector.US_SSN, "000-12-3456 666-12-3456 900-12-3456 123-00-4567"),
    (Detector.IP_ADDRESS, "version 1.2.3 and 999.1.1.1"),
    (Detector.URL, "a note: http is a protocol"),
    (Detector.SECRETS, "the secret of my success is a password of 12 letters"),
    (Detector.INVISIBLE, "\ufeffEmoji 👩\u200d🔬 and 🏴\U000e0067\U000e0062\U000e0065\U000e007f"),
]


@pytest.mark.parametrize(("detector", "text", "what"), FOUND)
def test_what_has_the_shape_is_found_where_it_is(detector, text, what) -> None:
    assert what in [text[a:b] for a, b in detect(detector, text)]


@pytest.mark.parametrize(("detector", "text"), PASSED)
def test_what_only_looks_like_it_passes(detector, text) -> None:
    assert detect(detector, text) == []


@settings(max_examples=100)
@given(st.from_regex(r"[2-6][0-9]{12,18}", fullmatch=True), st.integers(0, 9_999))
def test_numbers_count_as_cards_where_a_maintained_library_finds_the_check_digit(
    number, before
) -> None:
    right = luhn.is_valid(number) and len(set(number)) > 1
    assert (detect(Detector.PAYMENT_CARD, f"card {number}.") != []) == right
    if right and number[0] in "456":
        text = f"{before:04} {number} {before % 1_000:03}"
        assert number in [text[a:b] for a, b in detect(Detector.PAYMENT_CARD, text)]


@pytest.mark.parametrize("detector", Detector)
def test_hostile_text_takes_little_time_and_few_places(detector) -> None:
    assert detector in DETECTORS
    for unit in ("1", "1 ", "a@", "://a:", "eyJ.", "DE89 ", "1.1.1.1 ", "\u200b", "AKIA", "a"):
        text = unit * (20_000 // len(unit))
        started = time.process_time()
        assert len(detect(detector, text)) <= MAX_FOUND
        assert time.process_time() - started < 10.0, unit
