"""The tutorial works: its files are policies and texts, and its commands do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from guardrail.cli.policy import policy_group

DOCS = Path(__file__).parent.parent.parent / "docs"
TEXT = (DOCS / "tutorial.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"<!-- (file|append): (\S+) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    for how, name, body in blocks:
        path = tmp_path / name
        path.write_text((path.read_text() if how == "append" else "") + body)
    return tmp_path


def test_every_command_of_the_tutorial_does_what_it_says(folder) -> None:
    def run(*arguments: str):
        result = CliRunner().invoke(policy_group, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    assert run("validate", "shop.yaml").exit_code == 0
    assert run("lint", "shop.yaml").output == "0 remarks\n"
    assert "categories.drugs" in run("show", "shop.yaml").output
    fitted = run("fit", "shop.yaml").output
    assert "8 violating and 8 allowed examples" in fitted
    data = ("--data", "held-back.jsonl")
    assert "--recall 0.7 --false-alarms 0.3" in TEXT
    tested = run("test", "shop.yaml", *data, "--recall", "0.7", "--false-alarms", "0.3")
    assert tested.exit_code == 0, tested.output
    explained = run("explain", "shop.yaml", "-d", "output", "I have refunded your order.").output
    assert "promises" in explained
    assert "verdicts change" in run("diff", "default", "shop.yaml", *data).output


def test_the_reference_names_every_key_and_policy() -> None:
    from guardrail.policy import SCHEMA, Detector, bundled_names

    reference = (DOCS / "policies.md").read_text(encoding="utf-8")
    rule = SCHEMA["properties"]["categories"]["additionalProperties"]["properties"]
    for key in (*SCHEMA["properties"], *rule, *bundled_names(), *(d.value for d in Detector)):
        assert f"`{key}`" in reference, key
