"""The plain manifests, and the examples: rendered from the chart, built by kubectl, and held to the same rules."""

import os
import subprocess

import podsecurity
import pytest
import schemas
import strictyaml
from chart import KUBERNETES, ROOT, Objects, pod_specs, render, run

FOLDERS = sorted(
    str(path.parent.relative_to(ROOT))
    for folder in ("k8s", "examples/kubernetes")
    for path in (ROOT / folder).rglob("kustomization.yaml")
)
EXAMPLES = sorted(path.parent.name for path in (ROOT / "examples/kubernetes").glob("*/values.yaml"))


def build(folder):
    status, out, error = run(os.environ["KUBECTL"], "kustomize", ROOT / folder)
    assert status == 0, error
    return Objects(strictyaml.load_all(out))


def pods(objects):
    yield from ((name, spec) for name, _, spec in pod_specs(objects))
    for each in objects.kind("StatefulSet"):
        yield f"StatefulSet {each['metadata']['name']}", each["spec"]["template"]["spec"]


def hold(objects):
    for kubernetes in (KUBERNETES[0], KUBERNETES[-1]):
        assert [error for each in objects for error in schemas.errors(each, kubernetes)] == []
    for name, spec in pods(objects):
        assert podsecurity.violations(spec) == [], name


def test_what_there_is():
    assert {"k8s/base", "k8s/stores", "k8s/overlays/demo"} <= set(FOLDERS)
    assert {"minimal", "cloudnative-pg", "redis-sentinel", "high-availability", "gateway", "air-gapped"} == set(EXAMPLES)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_builds_and_is_right(folder):
    objects = build(folder)
    assert objects
    hold(objects)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_right(example):
    hold(render(strictyaml.load((ROOT / f"examples/kubernetes/{example}/values.yaml").read_text())))


def test_the_base_is_what_the_chart_makes():
    """If not: make manifests."""
    done = subprocess.run([ROOT / "k8s/render", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_base_has_no_hook_and_migrates_in_each_pod():
    objects = build("k8s/base")
    assert not objects.kind("Job") and not objects.kind("Pod")
    assert all("helm.sh/hook" not in str(each["metadata"]) for each in objects)
    (container,) = objects.one("Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert container["args"] == ["migrate", "up"]


def test_the_demo_names_all_that_it_needs():
    objects = build("k8s/overlays/demo")
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {"claviger-demo"}
    for _, spec in pods(objects):
        for volume in spec["volumes"]:
            for source in [volume, *volume.get("projected", {}).get("sources", [])]:
                if "secret" in source:
                    name = source["secret"].get("name") or source["secret"]["secretName"]
                    assert ("Secret", name) in there, name
                if "configMap" in source:
                    assert ("ConfigMap", source["configMap"]["name"]) in there
