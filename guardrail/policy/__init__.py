"""Policies: what is checked, at which thresholds, with which consequence.

Owns the policy language: its types (`types`), its JSON Schema (`schema`), the loader (`load`)
and what can be said of a policy without a model (`lint`). It knows neither models nor HTTP.
"""

from guardrail.policy.abstain import Abstain, OnAbstain
from guardrail.policy.guards import (
    Combine,
    Escalate,
    GuardApi,
    GuardKind,
    GuardSpec,
    GuardTemplate,
)
from guardrail.policy.load import bundled, bundled_names, load_policy, parse_policy
from guardrail.policy.schema import SCHEMA
from guardrail.policy.shapes import Detector, Examples, Matchers
from guardrail.policy.types import (
    AuditPolicy,
    AuditText,
    FailureMode,
    InputCheck,
    Measure,
    Mode,
    Override,
    Policy,
    Review,
    Rule,
    Selection,
    StreamPolicy,
    Target,
    Turns,
)

__all__ = [
    "SCHEMA",
    "Abstain",
    "AuditPolicy",
    "AuditText",
    "Combine",
    "Detector",
    "Escalate",
    "Examples",
    "FailureMode",
    "GuardApi",
    "GuardKind",
    "GuardSpec",
    "GuardTemplate",
    "InputCheck",
    "Matchers",
    "Measure",
    "Mode",
    "OnAbstain",
    "Override",
    "Policy",
    "Review",
    "Rule",
    "Selection",
    "StreamPolicy",
    "Target",
    "Turns",
    "bundled",
    "bundled_names",
    "load_policy",
    "parse_policy",
]
