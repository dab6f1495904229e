"""Monitors, alerts and the dashboard."""

import json
import os

import pytest
import yaml
from chart import CHART, FILES, ROOT, render, run

PROMTOOL = os.environ["PROMTOOL"]
RULES = CHART / "files/rules.yml"


def test_the_rules_are_right():
    status, out, error = run(PROMTOOL, "check", "rules", RULES)
    assert status == 0, out + error


def test_each_alert_comes_and_goes():
    status, out, error = run(PROMTOOL, "test", "rules", ROOT / "tests/chart/rules.test.yml")
    assert status == 0, out + error


@pytest.mark.parametrize("kind", ["serviceMonitor", "podMonitor"])
def test_a_monitor_scrapes_the_operations_port_of_this_release(kind):
    objects = render("minimal", {kind: {"enabled": True, "labels": {"prometheus": "main"}, "interval": "15s"}})
    found = objects.one(kind[0].upper() + kind[1:])
    assert found["metadata"]["labels"]["prometheus"] == "main"
    (endpoint,) = found["spec"].get("endpoints") or found["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "ops", "path": "/metrics", "interval": "15s"}
    labels = found["spec"]["selector"]["matchLabels"].items()
    if kind == "serviceMonitor":
        services = {each["metadata"]["name"]: each["metadata"]["labels"].items() for each in objects.kind("Service")}
        assert [name for name, own in services.items() if labels <= own] == ["claviger-ops"]
    else:
        assert labels <= objects.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("file", FILES)
def test_no_monitor_hangs_on_what_the_cluster_seems_to_know(file):
    """`helm template` knows of no custom kinds."""
    values = {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": False}, "prometheusRule": {"enabled": True}}
    objects = render(file, values)
    assert objects.kind("ServiceMonitor") and objects.kind("PrometheusRule")


def alerts(objects):
    groups = objects.one("PrometheusRule")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_alerts_are_about_this_release(tmp_path):
    values = {
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True, "runbookUrl": "https://example.org/claviger/"},
    }
    objects = render("minimal", values, release="blue", namespace="login")
    rules = alerts(objects)
    assert len(rules) == sum(len(group["rules"]) for group in yaml.safe_load(RULES.read_text())["groups"])
    for rule in rules:
        assert 'job="claviger"' not in rule["expr"]
        assert rule["expr"].count('job="blue",namespace="login"') == rule["expr"].count("job=")
        assert rule["expr"].count("job=") > 0
        if "alert" in rule:
            page = rule["annotations"]["runbook_url"].removeprefix("https://example.org/claviger/")
            assert (ROOT / page).is_file(), page
    rendered = tmp_path / "rules.yml"
    rendered.write_text(yaml.safe_dump(objects.one("PrometheusRule")["spec"]))
    status, out, error = run(PROMTOOL, "check", "rules", rendered)
    assert status == 0, out + error


def test_an_alert_has_no_link_that_leads_nowhere():
    for rule in alerts(render("minimal", {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}})):
        assert "runbook_url" not in rule.get("annotations", {})


def test_the_job_is_the_release():
    for kind in ("serviceMonitor", "podMonitor"):
        objects = render("minimal", {kind: {"enabled": True}}, release="blue")
        assert objects.one(kind[0].upper() + kind[1:])["spec"]["jobLabel"] == "app.kubernetes.io/instance"
        for each in (objects.one("Service", "blue-claviger-ops"), objects.one("Deployment")["spec"]["template"]):
            assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "blue"


def test_the_dashboard_is_the_file():
    found = render("minimal", {"dashboard": {"enabled": True}}).one("ConfigMap", "claviger-dashboard")
    assert json.loads(found["data"]["claviger.json"]) == json.loads((CHART / "files/dashboard.json").read_text())
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"]["grafana_folder"] == "Claviger"


def test_traces_name_the_pod():
    values = {"otlp": {"endpoint": "http://collector:4318", "headersSecret": "collector"}}
    (container,) = render("minimal", values).one("Deployment")["spec"]["template"]["spec"]["containers"]
    names = [each["name"] for each in container["env"]]
    # $(POD_NAME) stands only for what comes before it.
    assert names.index("POD_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES")
    headers = container["env"][names.index("OTEL_EXPORTER_OTLP_HEADERS")]
    assert headers["valueFrom"] == {"secretKeyRef": {"name": "collector", "key": "headers"}}
