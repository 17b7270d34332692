"""What settings promise: a value that cannot be used is named with its flag."""

from __future__ import annotations

import inspect

import click
import pytest

from guardrail.cli.limits import HELP, limit_options, limits_from
from guardrail.errors import SettingsError
from guardrail.proxy import Limits, Settings


@pytest.mark.parametrize(
    ("allowed", "fine"),
    [
        ((), True),
        (("api.test",), True),
        (("API.Test:8443",), True),
        (("api.test:443",), False),
        (("test",), False),
        (("evil-api.test", "api.test.evil"), False),
    ],
)
def test_only_an_upstream_that_is_allowed_starts(allowed, fine) -> None:
    url = "https://api.test:8443/v1"
    if fine:
        assert Settings(url, allowed_upstreams=allowed).upstream == url
    else:
        with pytest.raises(SettingsError, match="--allow-upstream"):
            Settings(url, allowed_upstreams=allowed)


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("header_bytes", 10, "--max-header-bytes"),
        ("write_s", 0, "--max-write-s"),
        ("connections", -1, "--max-connections"),
        ("drain_s", -1, "--drain-s"),
        ("stream_s", float("nan"), "--max-stream-s"),
    ],
)
def test_a_limit_that_cannot_be_used_is_named_by_its_flag(name, value, flag) -> None:
    with pytest.raises(SettingsError, match=flag):
        Limits(**{name: value})


def test_every_limit_is_an_option_with_its_default() -> None:
    assert {name for name, _ in HELP} == set(inspect.signature(Limits).parameters)
    command = limit_options(click.Command("x", callback=lambda **_: None).callback)
    options = {o.name: o.default for o in command.__click_params__}
    assert limits_from(options) == Limits()


def test_the_key_of_the_upstream_is_in_no_repr() -> None:
    assert "sk-secret" not in repr(Settings("http://x", upstream_key="sk-secret"))
