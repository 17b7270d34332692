"""Inputs that once broke a parser, or nearly did, break none now."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

SEEDS = Path(__file__).parent / "seeds"
HOSTILE = (
    b"", b"\x00", b"\xff\xfe", b"{", b"[" * 5_000, b'{"a":' * 5_000, b'"\\ud800"', b"1e999", b"-0",
    b'{"a":1,"a":2}', b"\xef\xbb\xbf{}", b"data: {}\r\n\r\n", b"data:\n\n" * 300, b"a: &a [*a]",
    b"!!python/object:os.system {}", b"? ? ?", b"\n" * 3_000, b"9" * 5_000,
    b'{"version": 1' + b"0" * 4_500 + b"}",
)  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_inputs_end_in_an_error_of_ours_or_a_reading(name) -> None:
    for data in HOSTILE:
        TARGETS[name](data)
    dice = random.Random(name)
    for _ in range(30 if name.startswith("policy") else 150):
        TARGETS[name](dice.randbytes(dice.randrange(1, 200)))


@pytest.mark.parametrize(
    "file", sorted(SEEDS.glob("*/*")), ids=lambda f: f"{f.parent.name}-{f.name}"
)
def test_what_the_fuzzer_found_stays_fixed(file) -> None:
    TARGETS[file.parent.name.replace("_tree", ":tree")](file.read_bytes())
