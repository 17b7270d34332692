"""What `guardrail keys` promises: a key shown once, its sum in the file, nothing lost."""

from __future__ import annotations

import hashlib

from click.testing import CliRunner

from guardrail.cli.keys import keys_group
from guardrail.errors import SettingsError
from guardrail.proxy.keys import read_keys


def run(*arguments: str):
    return CliRunner().invoke(keys_group, ["new", *arguments])


def test_a_new_key_is_shown_once_and_only_its_sum_is_kept(tmp_path) -> None:
    file = tmp_path / "keys.toml"
    done = run(str(file), "--name", "team-a")
    key = done.stdout.splitlines()[0]
    assert len(key) > 40
    assert key not in file.read_text()
    assert read_keys(file)[0].digest == hashlib.sha256(key.encode()).digest()
    assert file.stat().st_mode & 0o077 == 0


def test_a_folder_that_is_not_there_is_named_with_the_fix(tmp_path) -> None:
    done = run(str(tmp_path / "none" / "keys.toml"), "--name", "a")
    assert isinstance(done.exception, SettingsError)
    assert f"{tmp_path}/none/keys.toml: No such file or directory" in str(done.exception)


def test_a_second_key_is_added_and_a_name_that_is_taken_changes_nothing(tmp_path) -> None:
    file = tmp_path / "keys.toml"
    run(str(file), "--name", "a")
    run(str(file), "--name", "b", "--policy", "strict")
    assert [(e.name, e.policy) for e in read_keys(file)] == [("a", None), ("b", "strict")]
    before = file.read_text()
    done = run(str(file), "--name", "a")
    assert "same name" in str(done.exception)
    assert file.read_text() == before
    assert len(list(tmp_path.iterdir())) == 1
