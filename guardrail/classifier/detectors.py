"""Finders of things that have a shape: personal data, secrets, links, invisible characters.

Secrets are found by the plug-ins of detect-secrets and phone numbers by phonenumbers; both are
imported on first use. What has a check digit is only reported where the digit is right.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from guardrail.policy.patterns import compile_pattern
from guardrail.policy.shapes import Detector

__all__ = ["DETECTORS", "detect"]

MAX_FOUND: Final = 16
"""Places that one detector reports of one text."""
MAX_TRIED: Final = 500
"""Candidates that one detector looks at in one text."""
LINE_CHARS: Final = 1_000
"""Longest line that the plug-ins for secrets see at once, since their patterns backtrack."""
LINE_OVERLAP: Final = 200

Place = tuple[int, int]
Finder = Callable[[str, int], Iterator[Place]]
"""Finds in a text; the number bounds the candidates that it looks at."""


def detect(detector: Detector, text: str) -> list[Place]:
    """Find what a detector is for.

    Args:
        detector: Which one.
        text: Any text.

    Returns:
        Start and end of at most `MAX_FOUND` places.
    """
    found = DETECTORS[detector](text, MAX_TRIED)
    return [place for place, _ in zip(found, range(MAX_FOUND), strict=False)]


def _by_pattern(
    pattern: str, confirm: Callable[[str], bool] | None = None, *, hint: str = ""
) -> Finder:
    """Return what finds a pattern where its hint, which is quicker to look for, occurs at all."""
    hinted = re.compile(hint, re.IGNORECASE).search

    def find(text: str, tries: int) -> Iterator[Place]:
        if hinted(text) is None:
            return
        for start, end in compile_pattern(pattern).find(text, tries):
            if confirm is None or confirm(text[start:end]):
                yield start, end

    return find


def _luhn(shown: str) -> bool:
    """Whether a card number's check digit is right (ISO/IEC 7812-1, annex B)."""
    digits = [int(c) for c in shown if c.isdigit()]
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * d, 10)) for d in digits[-2::-2])
    return total % 10 == 0 and len(set(digits)) > 1


_TWO_DIGITS: Final = re.compile("[0-9][ -]?[0-9]")
_DIGITS_RUN: Final = r"\b[0-9](?:[ -]?[0-9]){12,}\b"
_GROUP: Final = re.compile("[0-9]+")
CARD_DIGITS: Final = range(13, 20)
"""Digits of a card number as they are issued (ISO/IEC 7812-1 allows 8 to 19)."""
_CARD_GROUPS: Final = frozenset({(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3)})
"""How cards show their numbers; beside these, in one piece."""
_FIRST_GROUPS: Final = frozenset({4, *CARD_DIGITS})
"""Digits that a card inside of a run may begin with: others need not be tried, one by one."""
_CARD_BEGINS: Final = re.compile("2[2-7]|3[0-9]|[456]")
"""First digits of card networks, which years, the most frequent groups of four, are not."""


def _cards(text: str, tries: int) -> Iterator[Place]:
    """Find card numbers, also behind or before other numbers.

    A run of digits that is a card in any grouping, or begins with one as far as 19 digits reach,
    counts as before. Inside of a run only what is grouped like a card counts, since every tenth
    number has a right check digit by chance.
    """
    if _TWO_DIGITS.search(text) is None:
        return
    for start, end in compile_pattern(_DIGITS_RUN).find(text, tries):
        groups = [found.span() for found in _GROUP.finditer(text, start, end)]
        for first, (begin, stop) in enumerate(groups):
            if first == 0 or stop - begin in _FIRST_GROUPS:
                yield from _card_at(text, groups, first, begin)


def _card_at(text: str, groups: list[Place], first: int, begin: int) -> Iterator[Place]:
    """Find the longest card that begins with one of the groups of a run of digits."""
    sizes: list[int] = []
    ends: list[tuple[int, tuple[int, ...]]] = []
    for at, end in groups[first : first + CARD_DIGITS[-1]]:
        sizes.append(end - at)
        if (total := sum(sizes)) > CARD_DIGITS[-1]:
            break
        if total in CARD_DIGITS:
            ends.append((end, tuple(sizes)))
    for longest, (end, shape) in enumerate(reversed(ends)):
        grouped = (shape in _CARD_GROUPS or len(shape) == 1) and _CARD_BEGINS.match(text, begin)
        leading = first == 0 and longest == 0 and text[begin] in "23456"
        if (grouped or leading) and _luhn(text[begin:end]):
            yield begin, end
            return


def _ipv4(shown: str) -> bool:
    try:
        ipaddress.IPv4Address(shown)
    except ValueError:
        return False
    return True


def _ssn(shown: str) -> bool:
    """Whether a number may be a US social security number: no area 000, 666 or 9xx."""
    area, group, serial = shown[:3], shown[4:6], shown[7:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


_IBAN_LENGTHS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "AE": 23, "AT": 20, "BE": 16, "BG": 22, "BR": 29, "CH": 21, "CY": 28, "CZ": 24, "DE": 22,
        "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28,
        "IE": 22, "IL": 23, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27,
        "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "SA": 24, "SE": 24, "SI": 19,
        "SK": 24, "TR": 26, "UA": 29,
    }
)  # fmt: skip
"""Length by country, from the SWIFT IBAN registry."""

_IBAN: Final = r"(?-i:\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30})"


def _iban(text: str, tries: int) -> Iterator[Place]:
    """Find IBANs whose length and check digits (ISO 13616, mod 97) are right."""
    for start, end in compile_pattern(_IBAN).find(text, tries):
        length = _IBAN_LENGTHS.get(text[start : start + 2])
        if length is None:
            continue
        compact = text[start:end].replace(" ", "")[:length]
        number = "".join(str(int(c, 36)) for c in compact[4:] + compact[:4])
        if len(compact) == length and int(number) % 97 == 1:
            yield start, end


_SEVEN_DIGITS: Final = re.compile(r"\d(?:\D{0,8}\d){6}")
"""The least of a phone number; the library allows four signs between two groups."""


def _phone(text: str, tries: int) -> Iterator[Place]:
    """Find valid numbers in international form, or as they are written in the United States."""
    if _SEVEN_DIGITS.search(text) is None:
        return
    import phonenumbers

    matcher = phonenumbers.PhoneNumberMatcher(text, "US", max_tries=tries)
    for match in matcher:
        yield match.start, match.end


_SECRET_PLUGINS: Final = (
    "artifactory.ArtifactoryDetector",
    "aws.AWSKeyDetector",
    "azure_storage_key.AzureStorageKeyDetector",
    "basic_auth.BasicAuthDetector",
    "discord.DiscordBotTokenDetector",
    "github_token.GitHubTokenDetector",
    "gitlab_token.GitLabTokenDetector",
    "jwt.JwtTokenDetector",
    "mailchimp.MailchimpDetector",
    "npm.NpmDetector",
    "openai.OpenAIDetector",
    "private_key.PrivateKeyDetector",
    "pypi_token.PypiTokenDetector",
    "sendgrid.SendGridDetector",
    "slack.SlackDetector",
    "square_oauth.SquareOAuthDetector",
    "stripe.StripeDetector",
    "telegram_token.TelegramBotTokenDetector",
    "twilio.TwilioKeyDetector",
)
"""Plug-ins of detect-secrets that know a shape; those that guess by entropy are left out."""


@cache
def _secret_plugins() -> tuple[Any, ...]:
    from importlib import import_module

    found = []
    for name in _SECRET_PLUGINS:
        module, _, kind = name.partition(".")
        found.append(getattr(import_module(f"detect_secrets.plugins.{module}"), kind)())
    return tuple(found)


def _secrets(text: str, _tries: int) -> Iterator[Place]:
    seen: set[Place] = set()
    for start, line in _lines(text):
        for plugin in _secret_plugins():
            if not any(plugin.analyze_string(line)):
                continue
            for pattern in plugin.denylist:
                for match in pattern.finditer(line):
                    place = (start + match.start(), start + match.end())
                    if place not in seen:
                        seen.add(place)
                        yield place


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        for offset in range(0, max(len(line), 1), LINE_CHARS - LINE_OVERLAP):
            piece = line[offset : offset + LINE_CHARS]
            if len(piece) >= 8:
                yield start + offset, piece
        start += len(line) + 1


_INVISIBLE: Final = (
    # Zero-width space, word joiner and its kin, bidirectional controls, Hangul and Mongolian
    # fillers, variation selectors of the supplement.
    r"[\x{200B}\x{2060}-\x{2064}\x{202A}-\x{202E}\x{2066}-\x{2069}\x{115F}\x{1160}\x{3164}"
    r"\x{FFA0}\x{180E}\x{E0100}-\x{E01EF}]+"
    # Tag characters, but for the flags of England, Scotland and Wales, which follow a flag.
    r"|\x{1F3F4}[\x{E0020}-\x{E007F}]{2,8}|[\x{E0000}-\x{E007F}]+"
    r"|[^\x{FEFF}]\x{FEFF}+"
)


def _invisible(text: str, tries: int) -> Iterator[Place]:
    if text.isascii():
        return
    for start, end in compile_pattern(_INVISIBLE).find(text, tries):
        if text[start] != "\U0001f3f4":
            yield start, end


DETECTORS: Final[Mapping[Detector, Finder]] = MappingProxyType(
    {
        Detector.EMAIL: _by_pattern(
            r"[\pL\pN][\pL\pN._%+-]{0,63}@(?:[\pL\pN](?:[\pL\pN-]{0,62})\.)+\pL{2,24}",
            hint="@",
        ),
        Detector.PHONE: _phone,
        Detector.PAYMENT_CARD: _cards,
        Detector.IBAN: _iban,
        Detector.US_SSN: _by_pattern(r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", _ssn, hint="-[0-9]{2}-"),
        Detector.IP_ADDRESS: _by_pattern(r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b", _ipv4),
        Detector.SECRETS: _secrets,
        Detector.URL: _by_pattern(
            r"\b(?:[a-z][a-z0-9+.-]{1,20}://|www\.)[^\s<>\"'`]{3,}", hint=r"://|www\."
        ),
        Detector.INVISIBLE: _invisible,
    }
)
"""What finds each kind of thing."""
