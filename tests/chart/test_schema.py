"""The whole chart, on every file in values/: Helm takes it, and so would every version of Kubernetes that it supports."""

import collections
import re
import tomllib

import pytest
import schemas
from chart import CHART, FILES, HELM, HELM3, KUBERNETES, ROOT, VALUES, fails, notes, render, run

MINIMAL = {"database": {"existingSecret": "database"}, "tokens": {"existingSecret": "redis"}}
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?" + LABEL.pattern)
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
HOOK_PHASES = {"pre-install", "post-install", "pre-upgrade", "post-upgrade", "test"}


def annotation(each, key):
    return each["metadata"].get("annotations", {}).get(f"helm.sh/{key}")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("helm", [HELM, HELM3], ids=["helm4", "helm3"])
def test_lint_is_content(file, helm):
    status, out, error = run(
        helm, "lint", "--strict", CHART, "--values", VALUES / f"{file}.yaml", "--kube-version", KUBERNETES[0]
    )
    assert status == 0, out + error


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_objects_are_of_the_schema(file, kubernetes):
    wrong = [error for each in render(file, kubernetes=kubernetes) for error in schemas.errors(each, kubernetes)]
    assert not wrong


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda deployment: deployment["spec"].update(replica=2), "'replica' was unexpected"),
        (lambda deployment: deployment["spec"].update(replicas="2"), "'2' is not of type 'integer'"),
        (lambda deployment: deployment["spec"].pop("selector"), "'selector' is a required property"),
        (lambda deployment: deployment["metadata"].update(label={}), "'label' was unexpected"),
        (lambda deployment: deployment.update(apiVersion="apps/v1beta1"), "no Deployment of apps/v1beta1"),
        (
            lambda deployment: deployment["spec"]["template"]["spec"]["containers"][0]["env"].extend(
                [{"name": "TWICE", "value": "1"}, {"name": "TWICE", "value": "2"}]
            ),
            "two entries have the same name: ('TWICE',)",
        ),
    ],
)
def test_an_object_that_is_not_is_found(change, says):
    deployment = render("minimal").one("Deployment")
    deployment = {**deployment, "spec": {**deployment["spec"]}}
    change(deployment)
    assert says in str(schemas.errors(deployment, KUBERNETES[-1]))


def test_a_custom_object_that_is_not_of_the_schema_is_found():
    monitor = render("service-monitor").one("ServiceMonitor")
    monitor["spec"]["endpoints"][0]["intervall"] = "15s"
    assert "'intervall' was unexpected" in str(schemas.errors(monitor, KUBERNETES[-1]))


def test_older_kubernetes_is_refused():
    assert "chart requires kubeVersion: >=1.30.0-0" in fails(MINIMAL, kubernetes="1.29.15")
    # A provider's version is no pre-release.
    assert render(MINIMAL, kubernetes="v1.30.0-eks-1234567")


@pytest.mark.parametrize("file", FILES)
def test_two_renders_are_equal(file):
    command = [HELM, "template", "claviger", CHART, "--values", VALUES / f"{file}.yaml"]
    assert run(*command) == run(*command)


@pytest.mark.parametrize("file", FILES)
def test_helm_3_makes_the_same(file):
    assert render(file, helm=HELM3) == render(file)


@pytest.mark.parametrize("file", FILES)
def test_names_and_namespaces(file):
    objects = render(file, namespace="login")
    names = collections.Counter((each["kind"], each["metadata"]["name"]) for each in objects)
    assert names.most_common(1)[0][1] == 1, names.most_common(3)
    for each in objects:
        assert each["metadata"].get("namespace", "login") == "login"


@pytest.mark.parametrize("file", FILES)
def test_labels_and_names_fit_whatever_the_release_is_called(file):
    # 53 characters are the most that Helm takes.
    for release in ("l" * 53, "claviger", "my.release"):
        for each in render(file, release=release, namespace="n" * 63):
            assert len(each["metadata"]["name"]) <= 63
            if each["kind"] == "Service":
                assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", each["metadata"]["name"])
            for labels in labels_of(each):
                for key, value in labels.items():
                    assert LABEL_KEY.fullmatch(key), key
                    assert isinstance(value, str) and len(value) <= 63 and LABEL.fullmatch(value), f"{key}: {value}"


def labels_of(value):
    """Every map of labels, wherever it stands: those of objects and of templates, and of selectors."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("labels", "matchLabels") and isinstance(inner, dict):
                yield inner
            yield from labels_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from labels_of(inner)


@pytest.mark.parametrize("file", FILES)
def test_hooks_have_an_order_and_an_end(file):
    for each in render(file):
        hook = annotation(each, "hook")
        if hook is None:
            assert not annotation(each, "hook-weight") and not annotation(each, "hook-delete-policy")
            continue
        assert set(hook.split(",")) <= HOOK_PHASES
        assert re.fullmatch(r"-?[0-9]+", annotation(each, "hook-weight"))
        # Never hook-failed: what failed is kept for reading.
        assert annotation(each, "hook-delete-policy") == "before-hook-creation,hook-succeeded"


@pytest.mark.parametrize("file", FILES)
def test_notes_render(file):
    said = notes(file)
    assert "<no value>" not in said and "%!" not in said and "<nil>" not in said
    assert "Claviger" in said.splitlines()[0]


def test_a_new_version_keeps_the_selectors(tmp_path):
    newer = copy_of_chart(tmp_path, "0.1.0", "9.8.7-rc.1+build.5")
    for file in FILES:
        before, after = render(file), render(file, chart=newer)
        assert before != after
        for kind in ("Deployment", "PodDisruptionBudget", "Service"):
            for old in before.kind(kind):
                assert after.one(kind, old["metadata"]["name"])["spec"]["selector"] == old["spec"]["selector"]
        labels = after.one("Deployment")["metadata"]["labels"]
        assert labels["helm.sh/chart"] == "claviger-9.8.7-rc.1_build.5"
        assert all(value not in str(after.one("Deployment")["spec"]["selector"]) for value in ("9.8.7", "helm.sh"))


def copy_of_chart(folder, version, other):
    status, _, error = run("cp", "-R", CHART, folder / "claviger")
    assert status == 0, error
    manifest = folder / "claviger/Chart.yaml"
    manifest.write_text(manifest.read_text().replace(f"version: {version}", f"version: {other}"))
    return folder / "claviger"


def test_the_chart_works_below_another(tmp_path):
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: parent, version: 1.0.0}")
    (tmp_path / "charts").mkdir()
    copy_of_chart(tmp_path / "charts", "0.1.0", "0.1.0")
    objects = render({"global": {"anything": True}, "claviger": MINIMAL}, chart=tmp_path)
    assert objects == render(MINIMAL)


def test_versions_are_those_of_the_service():
    chart = (CHART / "Chart.yaml").read_text()
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert re.search(r"^version: (.*)$", chart, re.M)[1] == version
    assert re.search(r'^appVersion: "(.*)"$', chart, re.M)[1] == version
    assert f"image: claviger:{version}\n" in chart
    migrations = (ROOT / "migration/src/lib.rs").read_text().count("Box::new(")
    assert re.search(r'^  claviger/schema-version: "(.*)"$', chart, re.M)[1] == str(migrations)


def test_the_package_holds_the_chart_and_nothing_else(tmp_path):
    status, out, error = run(HELM, "package", CHART, "--destination", tmp_path)
    assert status == 0, out + error
    (package,) = tmp_path.iterdir()
    _, listing, _ = run("tar", "tzf", package)
    held = {line.removeprefix("claviger/") for line in listing.split()}
    assert held == {
        str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file() and path.name != ".helmignore"
    } | {".helmignore"}
    assert {path.split("/")[0] for path in held} <= {
        "Chart.yaml", "README.md", "values.yaml", "values.schema.json", "templates", "files", ".helmignore"
    }  # fmt: skip
    assert render("minimal", chart=package) == render("minimal")
