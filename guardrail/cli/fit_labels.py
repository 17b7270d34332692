"""Labels from review, put to use by ``guardrail policy fit --labels``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from guardrail.classifier.labels import Labelled
from guardrail.policy import Examples, Policy, Rule, bundled_names
from guardrail.policy.schema import MAX_EXAMPLE_CHARS, MAX_EXAMPLES
from guardrail.wire.json import clean

__all__ = ["fitted_policy", "with_labels"]


_UNLIKE_JSON: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON leaves as it is in a string, and YAML refuses or takes for the end of a line."""


def with_labels(policy: Policy, labels: Sequence[Labelled]) -> Policy:
    """Add labels to the examples of the rubrics that they are for.

    Args:
        policy: The policy.
        labels: Labelled texts; those of other categories change nothing here.

    Returns:
        The policy; the newest examples are kept where there are more than it may have.
    """
    return replace(policy, rules=tuple(_taught(rule, labels) for rule in policy.rules))


def _taught(rule: Rule, labels: Sequence[Labelled]) -> Rule:
    own = [one for one in labels if one.category == rule.category]
    if not rule.rubric or not own:
        return rule
    sides = {
        violates: _joined(before, [one.text for one in own if one.violates is violates])
        for violates, before in ((True, rule.examples.violates), (False, rule.examples.allowed))
    }
    return replace(rule, examples=Examples(sides[True], sides[False]))


def _joined(before: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    short = (text[:MAX_EXAMPLE_CHARS] for text in (*before, *more))
    return tuple(dict.fromkeys(short))[-MAX_EXAMPLES:]


def _quoted(text: str) -> str:
    """Return a text as a YAML string; half a pair of surrogates, which no file can have, goes."""
    found = json.dumps(clean(text), ensure_ascii=False)
    return _UNLIKE_JSON.sub(lambda one: f"\\u{ord(one[0]):04x}", found)


def fitted_policy(source: str, before: Policy, settled: Policy, out: Path) -> str:
    """Return a policy file that builds on another and says what was fitted.

    Args:
        source: The policy that was fitted, as it was named.
        before: That policy as written.
        settled: The same with its labels among the examples and its targets resolved.
        out: Where the file will be, from which paths are read.
    """
    named = Path(source).suffix == "" and source in bundled_names()
    base = source if named else os.path.relpath(source, out.parent)
    lines = ["version: 1", f"name: {before.name[:55]}-reviewed", f"extends: {json.dumps(base)}"]
    changed = []
    for old, new in zip(before.rules, settled.rules, strict=True):
        body = []
        if new.examples != old.examples:
            body.append("    examples:")
            for name in ("violates", "allowed"):
                texts = getattr(new.examples, name)
                body += [f"      {name}:"] if texts else [f"      {name}: []"]
                body += [f"        - {_quoted(text)}" for text in texts]
        for level in ("flag", "block"):
            if getattr(new, level) != getattr(old, level):
                body.append(f"    {level}: {getattr(new, level)!r}")
        if body:
            changed += [f"  {old.category}:", *body]
    lines += ["categories:", *changed] if changed else ["categories: {}"]
    return "\n".join(lines) + "\n"
