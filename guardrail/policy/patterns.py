"""Regular expressions and word lists that hostile text cannot slow down.

Patterns are RE2's (https://github.com/google/re2/wiki/Syntax): matching takes time linear in
the text, so there is no pattern that backtracks. What that costs is look-around and
back-references, which are refused with a message. The only importer of re2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

__all__ = ["Matcher", "compile_pattern", "compile_words"]

MAX_PATTERN_CHARS: Final = 2_000
MAX_MEMORY_BYTES: Final = 8 << 20
"""Most memory of one compiled pattern; RE2 refuses a larger one when it is compiled."""

_BEFORE: Final = r"(?:^|[^\pL\pN_])"
_AFTER: Final = r"(?:$|[^\pL\pN_])"
_CONTINUATION: Final = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that begin no character."""


class Matcher:
    """A compiled pattern.

    Args:
        compiled: The engine's own object, whose first group is what is reported.
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def find(self, text: str, limit: int) -> Iterator[tuple[int, int]]:
        """Yield the places of at most ``limit`` matches that are not empty, in order."""
        # As bytes, of which the engine makes no copy for each search: that would be quadratic.
        # Half a pair, which a caller's string may have, is no character to it.
        data = text.encode("utf-8", "surrogatepass")
        start = found = told = chars = 0
        while found < limit and start <= len(data):
            match = self._compiled.search(data, start)
            if match is None:
                return
            begin, end = match.span(1)
            if end > begin:
                found += 1
                first = chars + _chars(data[told:begin])
                told, chars = end, first + _chars(data[begin:end])
                yield first, chars
            # From the end of the group, so that one separator serves two neighbouring words.
            start = max(end, start + 1)

    def matches_nothing(self) -> bool:
        """Whether the pattern is content with an empty text, and so matches every text."""
        return self._compiled.search("") is not None


def _chars(data: bytes) -> int:
    return len(data.translate(None, _CONTINUATION))


@cache
def compile_pattern(pattern: str) -> Matcher:
    """Compile a regular expression; letters match in either case.

    Args:
        pattern: In RE2's syntax.

    Returns:
        The matcher.

    Raises:
        ValueError: It cannot be compiled; the message says why and what to do.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(
            f"the pattern has {len(pattern):,} characters; {MAX_PATTERN_CHARS:,} is the most"
        )
    return _compile(f"({pattern})", pattern)


@cache
def compile_words(words: Sequence[str]) -> Matcher:
    """Compile a word list: whole words and phrases, whatever their case and spacing.

    Args:
        words: A tuple of words.

    Returns:
        The matcher of them all.

    Raises:
        ValueError: The list is too large for one pattern.
    """
    import re2

    any_of = "|".join(
        r"\s+".join(re2.escape(part) for part in word.split())
        for word in sorted(words, key=len, reverse=True)
    )
    return _compile(f"{_BEFORE}({any_of}){_AFTER}", f"a list of {len(words)} words")


def _compile(source: str, shown: str) -> Matcher:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    options.max_mem = MAX_MEMORY_BYTES
    try:
        return Matcher(re2.compile(source, options))
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        hint = "; look-around and back-references are not supported" if "(?" in said else ""
        raise ValueError(f"the pattern '{shown[:60]}' cannot be compiled: {said}{hint}") from error
