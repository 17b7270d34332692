"""The JSON Schema that a policy document must satisfy: the single description of it.

Pure: no files, no YAML. What a schema cannot say is checked by `guardrail.policy.build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from guardrail.policy.abstain import ABSTAIN_SCHEMA
from guardrail.policy.guards import ESCALATE_SCHEMA, GUARDS_SCHEMA
from guardrail.policy.shapes import Detector
from guardrail.policy.types import AuditText, FailureMode, InputCheck, Measure, Mode, Turns
from guardrail.taxonomy import CATEGORIES
from guardrail.types import UNSAFE, Action, ChannelKind, Role

__all__ = ["CATEGORY_KEYS", "SCHEMA"]

CATEGORY_KEYS: Final[tuple[str, ...]] = (UNSAFE, *CATEGORIES)
"""Categories that every model scores: the overall one and the taxonomy's."""

MAX_EXAMPLES: Final = 500
MAX_EXAMPLE_CHARS: Final = 8_000


def _object(properties: dict[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _choice(values: Sequence[str], description: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values), "description": description}


def _count(description: str, maximum: int, minimum: int = 1) -> dict[str, Any]:
    return {
        "type": "integer",
        "minimum": minimum,
        "maximum": maximum,
        "description": description,
    }


def _list(items: dict[str, Any], description: str, most: int, least: int = 1) -> dict[str, Any]:
    return {
        "type": "array",
        "items": items,
        "minItems": least,
        "maxItems": most,
        "uniqueItems": True,
        "description": description,
    }


def _text(most: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most}


_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_OPEN_UNIT = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
# Of these keywords JSON Schema applies to a number and to a mapping only what fits it, so that
# a mistake is reported where it is and not as "matches none of two schemas".
_THRESHOLD = {
    "type": ["number", "object"],
    "minimum": 0,
    "maximum": 1,
    "properties": {**{m.value: _OPEN_UNIT for m in Measure}, "confidence": _OPEN_UNIT},
    "additionalProperties": False,
}
_MESSAGE = {
    "type": ["string", "object"],
    "minLength": 1,
    "maxLength": 2000,
    "minProperties": 1,
    "maxProperties": 64,
    "propertyNames": {"pattern": "^[a-z]{2,3}(-[a-z0-9]{2,8})*$"},
    "additionalProperties": _text(2000),
}
_ROLES = _list(
    {"type": "string", "enum": [r.value for r in Role if r is not Role.TEXT]},
    "Speakers on input: system, user, assistant, tool.",
    4,
)
_FAILURE = _choice([m.value for m in FailureMode], "What happens when a check cannot be made.")
_EXAMPLES = _list(_text(MAX_EXAMPLE_CHARS), "Texts, each of one case.", MAX_EXAMPLES, 0)
_FILE = {"type": "string", "minLength": 1, "maxLength": 500}

_RULE = _object(
    {
        "direction": _choice(["input", "output", "both"], "Which way a text travels."),
        "roles": _ROLES,
        "channels": _list(
            {"type": "string", "enum": [k.value for k in ChannelKind]},
            "Kinds of text: text, reasoning, refusal, tool_arguments, tool_result.",
            5,
        ),
        "action": _choice([a.value for a in Action], "The most severe action of this rule."),
        "flag": {
            **_THRESHOLD,
            "description": "Flag from this probability on, or a target such as {fpr: 0.01}.",
        },
        "block": {
            **_THRESHOLD,
            "description": "Block from this probability on, or a target such as {precision: 0.95}.",
        },
        "review": {
            "type": "array",
            "items": _PROBABILITY,
            "minItems": 2,
            "maxItems": 2,
            "description": "[low, high): a person is asked for probabilities in this band.",
        },
        "escalate": ESCALATE_SCHEMA,
        "abstain": ABSTAIN_SCHEMA,
        "placeholder": {
            "type": "string",
            "maxLength": 100,
            # It may stand inside JSON that a model wrote.
            "pattern": '^[^"\\\\\\u0000-\\u001f]*$',
            "description": "What stands for a redacted place; {kind} and {category} are filled in.",
        },
        "failure": _FAILURE,
        "message": {**_MESSAGE, "description": "Text for the user when this rule blocks."},
        "rubric": {
            **_text(2000),
            "description": "For a category of your own: what violates it, in plain language.",
        },
        "examples": _object({"violates": _EXAMPLES, "allowed": _EXAMPLES}),
        "patterns": _list(_text(2000), "Regular expressions in RE2's syntax.", 200),
        "words": _list(_text(200), "Words and phrases, matched whole, in either case.", 5000),
        "detectors": _list(
            {"type": "string", "enum": [*(d.value for d in Detector), "pii"]},
            "Built-in detectors; pii stands for the personal ones.",
            len(Detector) + 1,
        ),
    }
)

_STREAM = _object(
    {
        "mode": _choice(
            ["hold", "trail", "monitor"],
            "hold: nothing unjudged leaves. trail: released at once, cut when the verdict "
            "falls. monitor: recorded only.",
        ),
        "first_chars": _count("New characters before the first check.", 10_000),
        "stride_chars": _count("New characters between checks.", 100_000),
        "lookahead_chars": _count("Characters that must follow before release.", 10_000, 0),
        "context_chars": _count("Judged characters shown again.", 100_000, 0),
        "max_hold_ms": _count("Longest wait before a text is checked as it is.", 600_000),
    }
)

_WHEN = {
    **_object(
        {
            "route": {**_FILE, "description": "Shell pattern of the path, such as /v1/chat/*."},
            "model": {**_FILE, "description": "Shell pattern of the model's name."},
            "key_sha256": {
                "type": "string",
                "pattern": "^[0-9a-f]{16,64}$",
                "description": "SHA-256 of the client's API key in hex, or 16 digits of it.",
            },
            "header": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 16,
                "propertyNames": {"pattern": "^[a-z0-9-]{1,64}$"},
                "additionalProperties": _FILE,
                "description": "Shell pattern of the value by lower-case name.",
            },
        }
    ),
    "minProperties": 1,
}
_SELECT = {
    "type": "array",
    "maxItems": 200,
    "items": _object({"when": _WHEN, "use": _FILE}, ["when", "use"]),
    "description": "Requests for which another policy is in force; the first that fits counts.",
}

SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "guardrail policy",
    **_object(
        {
            "version": {"const": 1, "description": "Version of the policy language."},
            "name": {
                "type": "string",
                "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$",
                "description": "Lower-case letters, digits, - and _.",
            },
            "description": {"type": "string", "maxLength": 4000},
            "extends": {
                "type": ["string", "array"],
                "minLength": 1,
                "items": _FILE,
                "minItems": 1,
                "maxItems": 16,
                "description": "Policies to build on: bundled names or paths from this file. "
                "Later ones win over earlier ones, this file over all; null removes a value.",
            },
            "mode": _choice([m.value for m in Mode], "enforce, or only monitor."),
            "message": {
                **_MESSAGE,
                "description": "Text for the user when blocked; one, or one by language.",
            },
            "timeout_ms": _count("Longest time for one check.", 600_000),
            "normalise": {
                "type": "boolean",
                "description": "Also score what disguised text stands for (default true).",
            },
            "failure": _object({"block": _FAILURE, "flag": _FAILURE}),
            "input": _object(
                {
                    "roles": _ROLES,
                    "turns": _choice(
                        [t.value for t in Turns],
                        "The latest turn, those that did not pass here before, or all.",
                    ),
                    "check": _choice(
                        [c.value for c in InputCheck],
                        "before: the upstream waits for the verdict. parallel: the answer does.",
                    ),
                }
            ),
            "stream": _STREAM,
            "guards": GUARDS_SCHEMA,
            "audit": _object(
                {
                    "text": _choice(
                        [t.value for t in AuditText],
                        "How the audit keeps judged texts: not at all, as a keyed hash, as they "
                        "are, or encrypted.",
                    ),
                    "required": {
                        "type": "boolean",
                        "description": "Whether a request that cannot be recorded is a failed "
                        "check (default false: it is served, and the loss is counted).",
                    },
                }
            ),
            "select": _SELECT,
            "shadow": {
                **_FILE,
                "description": "A policy on trial: it judges the same texts for the record only.",
            },
            "calibration": {
                **_FILE,
                "description": "Labelled JSONL of your own against which targets are resolved.",
            },
            "tests": _list(_FILE, "Labelled JSONL files for `guardrail policy test`.", 32),
            "categories": {
                "type": "object",
                "properties": dict.fromkeys(CATEGORY_KEYS, _RULE),
                "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
                "additionalProperties": _RULE,
                "description": "Rules by category key: the taxonomy's, or your own with "
                "a rubric, patterns, words or detectors.",
            },
        },
        required=["version", "name"],
    ),
}
"""JSON Schema (2020-12) of a policy document; ``guardrail policy schema`` prints it."""
