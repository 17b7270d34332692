"""What a rule goes by besides the model: shapes that match, and texts that show what is meant."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["PII", "PLACEHOLDER", "Detector", "Examples", "Matchers"]


class Detector(StrEnum):
    """A built-in finder of things that have a shape rather than a meaning."""

    EMAIL = "email"
    PHONE = "phone"
    PAYMENT_CARD = "payment_card"
    IBAN = "iban"
    US_SSN = "us_ssn"
    IP_ADDRESS = "ip_address"
    SECRETS = "secrets"
    URL = "url"
    INVISIBLE = "invisible"


PLACEHOLDER: Final = "[REDACTED:{kind}]"
"""What stands for a redacted place, where a rule says nothing else."""

PII: Final = (
    Detector.EMAIL,
    Detector.PHONE,
    Detector.PAYMENT_CARD,
    Detector.IBAN,
    Detector.US_SSN,
)
"""What the short form ``pii`` in a list of detectors stands for."""


@dataclass(frozen=True, slots=True)
class Matchers:
    """What puts a text into a category by its shape, whatever the model says.

    Args:
        patterns: Regular expressions in RE2's syntax.
        words: Words and phrases, matched whole and without regard to case.
        detectors: Built-in detectors.
    """

    patterns: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    detectors: tuple[Detector, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.patterns or self.words or self.detectors)


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts that show what is meant.

    Args:
        violates: Texts that the rule must catch.
        allowed: Texts that it must let pass.
    """

    violates: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.violates or self.allowed)
