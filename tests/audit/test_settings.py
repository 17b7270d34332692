from __future__ import annotations

from pathlib import Path

import pytest

from guardrail.audit import AuditSettings, default_url, read_key
from guardrail.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:a/b.db", "a/b.db"),
        ("sqlite:/a/b.db", "/a/b.db"),
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:////a/b.db", "/a/b.db"),
        ("postgresql://u@h/d", None),
    ],
)
def test_an_address_names_a_file_or_a_server(url: str, path: str | None) -> None:
    found = AuditSettings(url).sqlite_path
    assert found is None if path is None else Path(found or "") == Path(path)


@pytest.mark.parametrize("url", ["", "mysql://h/d", "sqlite:", "/a/b.db", "postgresql:h"])
def test_any_other_address_is_refused_with_the_flag(url: str) -> None:
    with pytest.raises(SettingsError, match="--audit"):
        AuditSettings(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hush@host/db",
        "postgresql://me:hush:hush@host/db",
        "postgresql://me:a@hush@host/db",
        "postgresql://me:a/hush@host/db",
        "postgresql://host/db?user=me&password=hush",
        "postgresql://me:pass@host/db?sslpassword=hush",
    ],
)
def test_a_password_is_shown_nowhere(url: str) -> None:
    settings = AuditSettings(url, key="secret-key")
    assert "hush" not in settings.place
    assert "host/db" in settings.place
    assert "secret-key" not in repr(settings)


def test_the_default_is_in_the_users_state_folder(monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_url() == "sqlite:/state/guardrail/audit.sqlite3"


def test_keys_come_from_a_file_or_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GUARDRAIL_AUDIT_KEY", "from-env")
    assert read_key(None) == "from-env"
    file = tmp_path / "key"
    file.write_text("new\nold\n")
    assert read_key(file) == "new,old"
    file.write_text("")
    with pytest.raises(SettingsError, match="is empty"):
        read_key(file)
    with pytest.raises(SettingsError, match="No such file"):
        read_key(tmp_path / "none")


@pytest.mark.parametrize(
    "bad", [{"days": float("nan")}, {"days": -1.0}, {"rows": 10**30}, {"rows": -1}]
)
def test_a_retention_that_no_database_can_carry_out_is_refused(bad) -> None:
    with pytest.raises(SettingsError, match=f"--audit-{next(iter(bad))}: use 0"):
        AuditSettings("sqlite:a.db", **bad)
