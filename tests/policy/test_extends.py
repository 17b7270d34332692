"""What `extends` promises: a merge that can be followed, and no way to run in circles."""

from __future__ import annotations

import pytest

from guardrail.errors import PolicyError
from guardrail.policy import bundled, load_policy, parse_policy

BASE = """version: 1
name: base
message: from base
categories:
  hate: {flag: 0.5, block: 0.8}
  drugs: {flag: 0.5}
"""


def write(folder, name: str, text: str):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def child(folder, body: str, extends: str = "base.yaml"):
    return write(folder, "child.yaml", f"version: 1\nname: child\nextends: {extends}\n{body}")


@pytest.fixture
def base(tmp_path):
    write(tmp_path, "base.yaml", BASE)
    return tmp_path


def test_what_a_policy_does_not_say_comes_from_the_one_it_extends(base) -> None:
    policy = load_policy(child(base, "categories: {hate: {block: 0.9}}"))
    hate = policy.rule("hate")
    assert hate is not None
    assert (policy.name, policy.message, hate.flag, hate.block) == ("child", "from base", 0.5, 0.9)
    assert policy.rule("drugs") is not None
    assert policy.extends == ("base.yaml",)


def test_every_override_is_listed_with_what_it_was(base) -> None:
    policy = load_policy(child(base, "categories: {hate: {block: 0.9}, privacy: {flag: 0.5}}"))
    assert [(o.path, o.before, o.after) for o in policy.overrides] == [
        ("categories.hate.block", 0.8, 0.9)
    ]
    assert policy.overrides[0].file.endswith("child.yaml")


def test_null_takes_a_category_or_a_value_away(base) -> None:
    policy = load_policy(child(base, "categories: {drugs: null, hate: {flag: null}}"))
    assert [rule.category for rule in policy.rules] == ["hate"]
    assert policy.rules[0].flag is None
    assert {o.path: o.after for o in policy.overrides} == {
        "categories.drugs": None,
        "categories.hate.flag": None,
    }


def test_of_several_the_later_one_wins_and_the_file_itself_over_all(base) -> None:
    write(base, "b.yaml", BASE.replace("0.8", "0.7").replace("from base", "from b"))
    policy = load_policy(child(base, "categories: {}", "[base.yaml, b.yaml]"))
    assert policy.message == "from b"
    assert policy.rules[0].block == 0.7


def test_a_bundled_policy_is_extended_by_name_even_from_text() -> None:
    policy = parse_policy("version: 1\nname: mine\nextends: default\nmessage: no")
    assert policy.rules == bundled("default").rules
    assert policy.content_hash != bundled("default").content_hash


def test_a_cycle_is_refused_with_its_path(tmp_path) -> None:
    for one, other in (("a", "b"), ("b", "c"), ("c", "b")):
        write(tmp_path, f"{one}.yaml", f"version: 1\nname: {one}\nextends: {other}.yaml")
    with pytest.raises(PolicyError, match=r"c\.yaml:3:1: .*b\.yaml -> c\.yaml -> b\.yaml"):
        load_policy(tmp_path / "a.yaml")


def test_a_policy_that_fans_out_is_bounded(tmp_path) -> None:
    write(tmp_path, "p0.yaml", "version: 1\nname: p\ncategories: {}")
    for n in range(1, 12):
        again = ", ".join([f"p{n - 1}.yaml"] * 2)
        write(tmp_path, f"p{n}.yaml", f"version: 1\nname: p\nextends: [{again}]")
    with pytest.raises(PolicyError, match="use fewer"):
        load_policy(tmp_path / "p11.yaml")


def test_a_policy_that_cannot_be_found_is_named_with_its_place(base) -> None:
    with pytest.raises(PolicyError, match=r"child\.yaml:3:1: .*'defalt'.*mean .*'default'"):
        load_policy(child(base, "categories: {}", "defalt"))
    with pytest.raises(PolicyError, match=r"child\.yaml:3:1: .*cannot be found"):
        load_policy(child(base, "categories: {}", "a" * 300))  # longer than a name may be
    with pytest.raises(PolicyError, match="cannot be found"):
        parse_policy("version: 1\nname: t\nextends: base.yaml")


def test_a_mistake_of_the_merge_is_placed_in_the_file_that_makes_it(base) -> None:
    with pytest.raises(PolicyError, match=r"base\.yaml:5:10: 'flag: 0.5' is above 'block: 0.4'"):
        load_policy(child(base, "categories: {hate: {block: 0.4}}"))
    with pytest.raises(PolicyError, match=r"child\.yaml:4:14: unknown category 'hatte'"):
        load_policy(child(base, "categories: {hatte: {block: 0.4}}"))


def test_null_is_a_mistake_where_nothing_is_extended() -> None:
    with pytest.raises(PolicyError, match="should be a mapping, not null"):
        parse_policy("version: 1\nname: t\ncategories: {hate: null}")


def test_merging_leaves_shared_anchors_alone(base) -> None:
    write(
        base,
        "base.yaml",
        "version: 1\nname: b\ncategories:\n  hate: &r {flag: 0.5, block: 0.8}\n  drugs: *r\n",
    )
    policy = load_policy(child(base, "categories: {hate: {block: 0.9}}"))
    assert [rule.block for rule in policy.rules] == [0.9, 0.8]


def test_data_protection_beside_another_policy_weakens_none_of_its_rules() -> None:
    both = parse_policy("version: 1\nname: both\nextends: [default, data-protection]\n")
    before = {rule.category: rule for rule in load_policy("default").rules}
    after = {rule.category: rule for rule in both.rules}
    assert {key: rule.block for key, rule in after.items() if key in before} == {
        key: rule.block for key, rule in before.items()
    }
    assert all(after[key].action is before[key].action for key in before)
