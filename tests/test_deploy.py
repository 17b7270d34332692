"""What the files of `deploy/` promise: they parse, and name only what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from guardrail.cli.serve import serve_command
from guardrail.proxy.metrics import Metrics

DEPLOY = Path(__file__).parent.parent / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "guardrail.json").read_text())


def families() -> set[str]:
    """The names of all metrics."""
    text = generate_latest(Metrics().registry).decode()
    return {n for n in re.findall(r"^# TYPE (\S+)", text, re.M) if not n.endswith("_created")}


def metrics() -> set[str]:
    """Every name that a scrape may hold."""
    names = families()
    return names | {f"{name}{end}" for name in names for end in ("_bucket", "_sum", "_count")}


def labels() -> set[str]:
    made = Metrics()
    collectors = list(made.registry._collector_to_names)
    return {label for one in collectors for label in getattr(one, "_labelnames", ())} | {"le"}


EXPRESSIONS = [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panel_asks_only_for_metrics_and_labels_that_exist(expression: str) -> None:
    asked = set(re.findall(r"guardrail_\w+", expression))
    assert asked
    assert asked <= metrics()
    for group in re.findall(r"by \(([^)]*)\)", expression):
        assert {one.strip() for one in group.split(",")} <= labels()


def test_every_metric_is_on_the_dashboard() -> None:
    named = re.findall(r"guardrail_\w+", " ".join(EXPRESSIONS))
    assert families() == {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}


def test_every_variable_of_the_manifests_is_an_option_of_serve() -> None:
    known = {f"GUARDRAIL_{(option.name or '').upper()}" for option in serve_command.params}
    for option in serve_command.params:
        for flag in option.opts:
            known.add("GUARDRAIL_" + flag.strip("-").upper().replace("-", "_"))
    for name in ("Dockerfile", "compose.yaml", "kubernetes.yaml"):
        text = (DEPLOY / name).read_text()
        assert set(re.findall(r"\bGUARDRAIL_\w+", text)) <= known, name


def test_the_manifests_are_yaml_and_run_as_nobody() -> None:
    for name in ("compose.yaml", "prometheus.yml"):
        assert yaml.safe_load((DEPLOY / name).read_text())
    (deployment,) = [
        one
        for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
        if one["kind"] == "Deployment"
    ]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    env = {one["name"]: one.get("value", "") for one in container["env"]}
    waits = float(env["GUARDRAIL_DRAIN_DELAY_S"]) + float(env["GUARDRAIL_DRAIN_S"])
    assert pod["terminationGracePeriodSeconds"] > waits
    assert "USER 10001" in (DEPLOY / "Dockerfile").read_text()
