"""Policies: what is checked, at which thresholds, with which consequence.

Owns the policy language: its types and JSON Schema (`schema`) and the loader (`load`). It
knows neither models nor HTTP.
"""

from guardrail.policy.load import bundled, bundled_names, load_policy, parse_policy
from guardrail.policy.schema import (
    SCHEMA,
    FailureMode,
    InputCheck,
    Mode,
    Policy,
    Review,
    Rule,
    StreamPolicy,
    Turns,
)

__all__ = [
    "SCHEMA",
    "FailureMode",
    "InputCheck",
    "Mode",
    "Policy",
    "Review",
    "Rule",
    "StreamPolicy",
    "Turns",
    "bundled",
    "bundled_names",
    "load_policy",
    "parse_policy",
]
