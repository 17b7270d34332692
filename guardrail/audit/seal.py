"""Texts as the audit keeps them: not at all, as a keyed hash, as they are, or encrypted."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Final

from guardrail.errors import SettingsError
from guardrail.policy import AuditText

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

__all__ = ["Sealer", "new_key"]

_PURPOSE: Final = b"guardrail audit: hash of a text"
_INSTALL: Final = "encrypted texts need the cryptography package: pip install 'guardrail[encrypt]'"


def new_key() -> str:
    """Return a fresh key: 32 random bytes in URL-safe base64, as Fernet takes them."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode("ascii")


class Sealer:
    """Turns texts into what is stored, and back where that is possible.

    Hashes are HMAC-SHA256 under a key derived from the first one, so that whoever holds the
    database alone cannot try texts out. Encryption is Fernet (AES-128-CBC with HMAC-SHA256).

    Args:
        key: Keys, comma-separated; the first one seals, all of them open. None has neither
            hashes nor encryption.

    Raises:
        SettingsError: A key that is none.
    """

    def __init__(self, key: str | None) -> None:
        self._keys = [part.strip() for part in key.split(",") if part.strip()] if key else []
        self._hash_key = b""
        for number, one in enumerate(self._keys, 1):
            raw = _decode(one)
            if raw is None:
                raise SettingsError(
                    f"audit key {number} is not 32 bytes in URL-safe base64; "
                    "`guardrail audit key` makes one"
                )
            self._hash_key = self._hash_key or hmac.digest(raw, _PURPOSE, hashlib.sha256)
        self._fernet: MultiFernet | None = None

    def can(self, form: AuditText) -> bool:
        """Whether texts can be kept in a form."""
        if form is AuditText.ENCRYPTED and self._keys and self._fernet is None:
            try:
                self._cipher()
            except SettingsError:
                return False
        return form in (AuditText.NONE, AuditText.PLAIN) or bool(self._keys)

    def require(self, form: AuditText) -> None:
        """Make sure that texts can be kept in a form.

        Raises:
            SettingsError: There is no key, or a package is not installed.
        """
        if form is AuditText.ENCRYPTED and self._keys:
            self._cipher()
        if not self.can(form):
            raise SettingsError(
                f"the policy keeps texts in the form '{form.value}', which needs a key: make one "
                "with `guardrail audit key` and set GUARDRAIL_AUDIT_KEY or --audit-key-file"
            )

    def seal(self, text: str, form: AuditText) -> str | None:
        """Return what is stored of a text; None where nothing can or should be.

        Args:
            text: The text.
            form: How it is to be kept.
        """
        if form is AuditText.NONE or not self.can(form):
            return None
        data = text.encode("utf-8", "replace")
        if form is AuditText.HASH:
            return hmac.new(self._hash_key, data, hashlib.sha256).hexdigest()
        if form is AuditText.ENCRYPTED:
            return self._cipher().encrypt(data).decode("ascii")
        return text

    def open(self, stored: str | None, form: str) -> str | None:
        """Return the text behind what is stored; None where it cannot be had.

        Args:
            stored: What `seal` returned.
            form: The form that it was kept in.
        """
        if stored is None or form == AuditText.PLAIN.value:
            return stored
        if form != AuditText.ENCRYPTED.value or not self._keys:
            return None
        cipher = self._cipher()  # first, since it names what has to be installed
        from cryptography.fernet import InvalidToken

        try:
            return cipher.decrypt(stored.encode("ascii", "replace")).decode("utf-8")
        except (InvalidToken, UnicodeDecodeError):
            return None

    def _cipher(self) -> MultiFernet:
        if self._fernet is None:
            try:
                from cryptography.fernet import Fernet, MultiFernet
            except ImportError as error:
                raise SettingsError(_INSTALL) from error
            self._fernet = MultiFernet([Fernet(key) for key in self._keys])
        return self._fernet


def _decode(key: str) -> bytes | None:
    try:
        raw = base64.urlsafe_b64decode(key)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == 32 else None
