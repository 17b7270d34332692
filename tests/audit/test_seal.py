from __future__ import annotations

import sys

import pytest

from guardrail.audit.seal import Sealer, new_key
from guardrail.errors import SettingsError
from guardrail.policy import AuditText


def test_a_text_is_kept_only_as_the_policy_says() -> None:
    sealer = Sealer(new_key())
    assert sealer.seal("hello", AuditText.NONE) is None
    assert sealer.seal("hello", AuditText.PLAIN) == "hello"
    hashed = sealer.seal("hello", AuditText.HASH)
    assert hashed is not None
    assert len(hashed) == 64
    assert hashed == sealer.seal("hello", AuditText.HASH)
    assert hashed != Sealer(new_key()).seal("hello", AuditText.HASH)


def test_an_encrypted_text_opens_with_its_key_only() -> None:
    pytest.importorskip("cryptography")
    key = new_key()
    stored = Sealer(key).seal("häßlich\ud800", AuditText.ENCRYPTED)
    assert stored is not None
    assert "lich" not in stored
    assert Sealer(key).open(stored, "encrypted") == "häßlich?"
    assert Sealer(new_key()).open(stored, "encrypted") is None
    assert Sealer(None).open(stored, "encrypted") is None
    assert Sealer(f"{new_key()},{key}").open(stored, "encrypted") == "häßlich?", "rotated"
    assert Sealer(key).open("damaged", "encrypted") is None


def test_a_hash_opens_with_nothing() -> None:
    key = new_key()
    assert Sealer(key).open(Sealer(key).seal("x", AuditText.HASH), "hash") is None


@pytest.mark.parametrize("form", [AuditText.HASH, AuditText.ENCRYPTED])
def test_without_a_key_nothing_is_kept_and_the_start_says_so(form: AuditText) -> None:
    sealer = Sealer(None)
    assert sealer.seal("hello", form) is None
    with pytest.raises(SettingsError, match="guardrail audit key"):
        sealer.require(form)


def test_a_key_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError, match="audit key 2") as caught:
        Sealer(f"{new_key()},hunter2")
    assert "hunter2" not in str(caught.value)


def test_without_the_package_the_install_line_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(SettingsError, match=r"pip install 'guardrail\[encrypt\]'"):
        Sealer(new_key()).require(AuditText.ENCRYPTED)
    assert Sealer(new_key()).seal("x", AuditText.ENCRYPTED) is None


def test_opening_without_the_package_names_the_install_line_too(monkeypatch) -> None:
    pytest.importorskip("cryptography")
    key = new_key()
    kept = Sealer(key).seal("x", AuditText.ENCRYPTED)
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(SettingsError, match=r"pip install 'guardrail\[encrypt\]'"):
        Sealer(key).open(kept, AuditText.ENCRYPTED.value)
