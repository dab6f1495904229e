"""The dashboard of Grafana: what it asks Prometheus for can be parsed, whatever is chosen in its variables. That the metrics
exist is tested in tests/it/metrics.rs, on a live scrape."""

import json
import os
import pathlib
import subprocess

import pytest

DASHBOARD = pathlib.Path(__file__).parents[2] / "helm/claviger/files/dashboard.json"
PROMTOOL = os.environ.get("PROMTOOL", "promtool")
# As Grafana replaces them: all, which for two of them is what the dashboard says, and two that were chosen.
CHOICES = [
    {"namespace": ".*", "job": "claviger", "instance": ".*"},
    {"namespace": "(a|b)", "job": "(a|b)", "instance": r"(10\\.0\\.0\\.1:9000|10\\.0\\.0\\.2:9000)"},
]


def dashboard():
    return json.loads(DASHBOARD.read_text())


def expressions(of):
    found = [target["expr"] for panel in of["panels"] for target in panel.get("targets", [])]
    return found + [each["expr"] for each in of["annotations"]["list"]]


def replaced(expression, choice):
    for name, value in {"__rate_interval": "5m", **choice}.items():
        expression = expression.replace(f"${name}", value)
    return expression


def check(expressions, folder):
    # A file of rules, and JSON is YAML.
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions)]
    file = folder / "panels.json"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", file], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("choice", CHOICES, ids=["all", "some"])
def test_every_expression_can_be_parsed(choice, tmp_path):
    found = [replaced(each, choice) for each in expressions(dashboard())]
    assert len(found) > 20
    assert not [each for each in found if "$" in each], "a variable that there is not"
    status, said = check(found, tmp_path)
    assert status == 0, said


def test_a_mistake_would_be_seen(tmp_path):
    status, said = check(["sum by (le (up)"], tmp_path)
    assert status != 0, said


def test_all_of_them_is_right_without_a_label_too():
    variables = {each["name"]: each for each in dashboard()["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "job", "instance"]
    # This matches a series that has no such label; a list of the values that there are would be empty, and match none.
    assert variables["namespace"]["allValue"] == ".*"
    # And this would match what is not ours: process_* is there for any program.
    assert "allValue" not in variables["job"]
