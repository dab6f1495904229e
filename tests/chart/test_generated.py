"""helm/generate: the README of the chart and the descriptions of its schema say what the comments of values.yaml say."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]


def generate(root=ROOT, *arguments):
    done = subprocess.run([root / "helm/generate", *arguments], capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "helm", tmp_path / "helm")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/configuration.md", tmp_path / "docs")
    return tmp_path


def edit(file, old, new):
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_what_is_generated_is_current():
    assert generate(ROOT, "--check") == (0, "")


def test_the_table_has_every_value_with_its_default():
    rows = re.findall(r"^\| `([A-Za-z.0-9]+)` \| `(.*?)` \| (.+) \|$", (ROOT / "helm/claviger/README.md").read_text(), re.M)
    said = {path: yaml.safe_load(default) for path, default, _ in rows}
    values = yaml.safe_load((ROOT / "helm/claviger/values.yaml").read_text())

    def compare(values, path):
        for key, value in values.items():
            here = f"{path}{key}"
            if here in said:
                assert said.pop(here) == value, here
            else:
                assert isinstance(value, dict) and value, f"{here} is in no row"
                compare(value, f"{here}.")

    compare(values, "")
    assert not said


def test_a_changed_comment_is_found_and_written(copy):
    edit(copy / "helm/claviger/values.yaml", "# -- Pods, where there is no autoscaler.", "# -- As many | pods.\n# At least.")
    status, error = generate(copy, "--check")
    assert status == 1
    assert "make chart-docs" in error and "values.schema.json" in error and "README.md" in error
    assert generate(copy) == (0, "")
    assert "| `replicaCount` | `2` | As many \\| pods. At least. |" in (copy / "helm/claviger/README.md").read_text()
    schema = json.loads((copy / "helm/claviger/values.schema.json").read_text())
    assert schema["properties"]["replicaCount"] == {
        "description": "As many | pods. At least.", "type": "integer", "minimum": 0
    }  # fmt: skip
    assert generate(copy, "--check") == (0, "")


def test_a_value_without_a_description_is_refused(copy):
    edit(copy / "helm/claviger/values.yaml", "# -- Pods, where there is no autoscaler.\n", "")
    status, error = generate(copy)
    assert status == 1
    assert "replicaCount has no description" in error


def test_a_value_that_the_schema_does_not_know_is_refused(copy):
    edit(copy / "helm/claviger/values.yaml", "\nreplicaCount: 2", "\nreplicas: 2")
    status, error = generate(copy)
    assert status == 1
    assert "values.schema.json does not know replicas" in error


def test_settings_are_described_as_in_the_documentation(copy):
    schema = json.loads((ROOT / "helm/claviger/values.schema.json").read_text())
    config = schema["properties"]["config"]["properties"]
    assert config["tokens"]["properties"]["ttl"]["description"] == "Lifetime of a token, in whole seconds."
    edit(copy / "docs/configuration.md", "| `tokens.ttl` |", "| `tokens.lifetime` |")
    status, error = generate(copy)
    assert status == 1
    assert "values.schema.json does not know config.tokens.lifetime" in error
