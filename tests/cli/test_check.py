"""What `guardrail check` and `guardrail policy` promise, as real processes and in process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from guardrail.cli import COMMANDS, EXIT_BAD_FILE, cli

STRICT = "version: 1\nname: s\ncategories: {unsafe: {flag: 0, block: 0}}"
FLAG = "version: 1\nname: f\ncategories: {unsafe: {flag: 0}}"
LAX = "version: 1\nname: l\ncategories: {unsafe: {flag: 1, block: 1}}"


def run(*args: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "guardrail", *args]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)


@pytest.fixture
def policy(tmp_path):
    def write(text: str) -> str:
        file = tmp_path / "p.yaml"
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


@pytest.mark.parametrize(
    ("text", "code", "word"), [(STRICT, 1, "BLOCK"), (FLAG, 3, "FLAG"), (LAX, 0, "PASS")]
)
def test_the_exit_code_says_what_was_decided(policy, text, code, word) -> None:
    done = run("check", "hello there", "-p", policy(text))
    assert (done.returncode, done.stdout.split()[0].decode()) == (code, word)
    assert b"policy" in done.stdout


def test_json_holds_the_verdict_and_calibrated_probabilities(policy) -> None:
    done = run("check", "--json", "-p", policy(STRICT), "-d", "output", "--prompt", "hi", "hello")
    body = json.loads(done.stdout)
    assert body["action"] == "block"
    assert body["direction"] == "output"
    assert set(body["probabilities"]) >= {"unsafe", "hate", "self_harm"}
    assert all(0 <= p <= 1 for p in body["probabilities"].values())
    assert body["policy"].startswith("s@")
    assert "@" in body["model"]


def test_text_comes_from_an_argument_a_file_or_standard_input(policy, tmp_path) -> None:
    lax = policy(LAX)
    file = tmp_path / "t.txt"
    file.write_bytes(b"caf\xc3\xa9 \xff")
    for done in (
        run("check", "-p", lax, "--json", "-f", str(file)),
        run("check", "-p", lax, "--json", "-f", "-", stdin=file.read_bytes()),
        run("check", "-p", lax, "--json", stdin=file.read_bytes()),
    ):
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["total_chars"] == 6


def test_a_policy_or_model_that_cannot_be_used_is_one_clear_line(policy, tmp_path) -> None:
    for args in (
        ("check", "x", "-p", policy("version: 1\nname: x\ncategories: {hatte: {}}")),
        ("check", "x", "-p", "nope"),
        ("check", "x", "--bundle", str(tmp_path)),
        ("policy", "validate", policy("a: [")),
        ("serve", "--upstream", "nonsense"),
    ):
        done = run(*args)
        assert done.returncode == EXIT_BAD_FILE, (args, done.stderr)
        assert b"Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_model_with_a_wrong_hash_is_refused(tmp_path) -> None:
    import shutil

    from guardrail.classifier.bundle import Bundle

    folder = tmp_path / "bundle"
    shutil.copytree(Bundle.open().model_path.parent, folder)
    model = folder / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    done = run("check", "x", "--bundle", str(folder))
    assert done.returncode == EXIT_BAD_FILE
    assert b"model.onnx" in done.stderr


@pytest.mark.parametrize("args", [("check", "a", "-f", "-"), ("check", "-d", "up", "a"), ("chek",)])
def test_wrong_usage_is_code_2(args) -> None:
    assert run(*args, stdin=b"x").returncode == 2


def test_every_command_has_a_help_that_teaches() -> None:
    runner = CliRunner()
    listing = runner.invoke(cli, ["--help"])
    assert "Exit codes" in listing.output
    for name in COMMANDS:
        assert name in listing.output
        made = runner.invoke(cli, [name, "--help"])
        assert made.exit_code == 0, made.output
        assert len(made.output.splitlines()) > 5


def test_policy_validate_and_list_know_the_bundled_policies() -> None:
    runner = CliRunner()
    made = runner.invoke(cli, ["policy", "validate", "default"])
    assert made.exit_code == 0
    assert "default: valid" in made.output
    assert "default" in runner.invoke(cli, ["policy", "list"]).output
    schema = runner.invoke(cli, ["policy", "schema"]).output
    assert json.loads(schema)["title"] == "guardrail policy"


def test_examples_in_help_stand_as_they_were_written() -> None:
    for name in COMMANDS:
        result = CliRunner().invoke(cli, [name, "--help"])
        assert result.exit_code == 0
        assert "\\b" not in result.output
        assert "\b" not in result.output
