"""What selection promises: the first policy that fits a request, by route, model, key, header."""

from __future__ import annotations

import hashlib

import pytest

from guardrail.errors import PolicyError
from guardrail.policy import load_policy, parse_policy

HEAD = "version: 1\nname: gate\nextends: default\nselect:\n"
KEY = hashlib.sha256(b"sk-secret").hexdigest()


def chosen(policy, route="/v1/chat/completions", model=None, key=None, **headers: str) -> str:
    return policy.select(route, model, [key] if key else [], headers).name


def test_the_first_that_fits_counts_and_else_the_policy_itself() -> None:
    policy = parse_policy(
        f"{HEAD}"
        "  - {when: {header: {tenant: 'kids-*'}}, use: kids}\n"
        f"  - {{when: {{key_sha256: '{KEY[:16]}'}}, use: finance}}\n"
        "  - {when: {model: 'gpt-4*', route: '/v1/chat/*'}, use: strict}\n"
    )
    assert chosen(policy) == "gate"
    assert chosen(policy, tenant="kids-eu", key="sk-secret") == "kids"
    assert chosen(policy, tenant="adults", key="sk-secret") == "finance"
    assert chosen(policy, key="sk-other") == "gate"
    assert chosen(policy, model="gpt-4o") == "strict"
    assert chosen(policy, model="gpt-4o", route="/v1/responses") == "gate"


def test_a_request_without_key_never_fits_a_key() -> None:
    empty = hashlib.sha256(b"").hexdigest()
    policy = parse_policy(f"{HEAD}  - {{when: {{key_sha256: '{empty}'}}, use: strict}}")
    assert chosen(policy) == "gate"
    assert chosen(policy, key="") == "gate"


def test_the_hash_and_the_files_to_watch_cover_what_is_selected(tmp_path) -> None:
    below, file = tmp_path / "below.yaml", tmp_path / "gate.yaml"
    below.write_text("version: 1\nname: below\ncategories: {hate: {flag: 0.5}}")
    file.write_text(f"{HEAD}  - {{when: {{model: x}}, use: below.yaml}}")
    one = load_policy(file)
    assert {str(below), str(file)} <= set(one.sources)
    below.write_text("version: 1\nname: below\ncategories: {hate: {flag: 0.6}}")
    assert load_policy(file).content_hash != one.content_hash


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{when: {model: x}, use: strickt}", "did you mean the bundled policy 'strict'"),
        ("{when: {}, use: strict}", "is empty"),
        ("{when: {modell: x}, use: strict}", "did you mean 'model'"),
        ("{when: {key_sha256: abc}, use: strict}", "key_sha256"),
        ("{when: {header: {X-Tenant: a}}, use: strict}", "in lower case"),
        ("{use: strict}", "lacks 'when:'"),
    ],
)
def test_a_mistake_is_named(row: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        parse_policy(f"{HEAD}  - {row}")


def test_a_selected_policy_cannot_select(tmp_path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text(f"{HEAD}  - {{when: {{model: x}}, use: gate.yaml}}")
    with pytest.raises(PolicyError, match=r"gate\.yaml:5:\d+: 'gate\.yaml' has 'select:'"):
        load_policy(file)
