"""Restricted Pod Security for every pod that any file in values/ makes, and what this chart promises beyond it."""

import copy

import podsecurity
import pytest
from chart import FILES, containers, get, pod_specs, render, values_of

OWN = {"claviger", "migrate", "smoke"}
GOOD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "ports": [{"containerPort": 80}],
        }
    ],
    "volumes": [{"name": "v", "emptyDir": {}}],
}


@pytest.mark.parametrize("file", FILES)
def test_every_pod_is_restricted(file):
    specs = list(pod_specs(render(file)))
    assert specs
    for name, _, spec in specs:
        assert podsecurity.violations(spec) == [], name


def test_the_checker_is_content_with_a_good_pod():
    assert podsecurity.violations(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("hostNetwork", True, "hostNetwork"),
        ("hostPID", True, "hostPID"),
        ("hostIPC", True, "hostIPC"),
        ("volumes.0", {"name": "v", "hostPath": {"path": "/"}}, "volume of the kind hostPath"),
        ("volumes.0", {"name": "v", "nfs": {}}, "volume of the kind nfs"),
        ("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}], "sysctl kernel.msgmax"),
        ("securityContext.runAsUser", 0, "runAsUser 0"),
        ("securityContext.runAsNonRoot", False, "c: runAsNonRoot is not true"),
        ("securityContext.seccompProfile", {"type": "Unconfined"}, "seccomp profile"),
        ("securityContext.seccompProfile", None, "c: no seccomp profile"),
        ("securityContext.appArmorProfile", {"type": "Unconfined"}, "AppArmor profile"),
        ("securityContext.seLinuxOptions", {"type": "spc_t"}, "SELinux options"),
        ("securityContext.seLinuxOptions", {"role": "r"}, "SELinux options"),
        ("securityContext.windowsOptions", {"hostProcess": True}, "hostProcess"),
        ("containers.0.securityContext.runAsUser", 0, "c: runAsUser 0"),
        ("containers.0.securityContext.runAsNonRoot", False, "c: runAsNonRoot is not true"),
        ("containers.0.securityContext.privileged", True, "c: privileged"),
        ("containers.0.securityContext.procMount", "Unmasked", "c: procMount"),
        ("containers.0.securityContext.allowPrivilegeEscalation", None, "c: allowPrivilegeEscalation is not false"),
        ("containers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}, "c: capabilities are not all dropped"),
        ("containers.0.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, "c: capabilities are added"),
        ("containers.0.securityContext.seccompProfile", {"type": "Unconfined"}, "c: seccomp profile"),
        ("containers.0.ports.0.hostPort", 80, "c: hostPort"),
        ("containers.0.livenessProbe", {"httpGet": {"host": "other"}}, "c: probe or hook of another host"),
        ("containers.0.lifecycle", {"preStop": {"tcpSocket": {"host": "other"}}}, "c: probe or hook of another host"),
    ],
)
@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_the_checker_finds(path, value, says, where):
    spec = copy.deepcopy(GOOD)
    *way, last = [int(each) if each.isdigit() else each for each in path.split(".")]
    at = spec
    for each in way:
        at = at[each]
    at[last] = value
    if value is None:
        del at[last]
    if where == "initContainers":
        spec = {**spec, "initContainers": spec["containers"], "containers": []}
    assert podsecurity.violations(spec) == [says]


@pytest.mark.parametrize("file", FILES)
def test_every_pod_is_as_the_chart_promises(file):
    for name, _, spec in pod_specs(render(file)):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        ids = {context.get(key) for key in ("runAsUser", "runAsGroup", "fsGroup")}
        # The platform of that one chooses them.
        assert ids == ({None} if file == "openshift" else {65532})
        for volume in spec["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("file", FILES)
def test_every_container_is_as_the_chart_promises(file):
    for name, _, spec in pod_specs(render(file)):
        for each in containers(spec):
            name = f"{name}: {each['name']}"
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert set(each["resources"]["requests"]) >= {"cpu", "memory"}, name
            assert set(each["resources"]["limits"]) == {"memory"}, name


@pytest.mark.parametrize("file", FILES)
def test_the_image_is_that_of_the_values_and_no_other(file):
    image = values_of(file).get("image", {})
    registry = image.get("registry", "").removesuffix("/") + "/" if image.get("registry") else ""
    version = f"@{image['digest']}" if image.get("digest") else f":{image.get('tag') or '0.1.0'}"
    expected = registry + image.get("repository", "claviger") + version
    given = values_of(file).get("extraContainers", []) + values_of(file).get("extraInitContainers", [])
    for name, _, spec in pod_specs(render(file)):
        for each in containers(spec):
            if each["name"] in OWN:
                assert each["image"] == expected, name
                assert each["imagePullPolicy"] == image.get("pullPolicy", "IfNotPresent")
            else:
                assert each in given, f"{name} has a container of its own: {each['name']}"
            assert not each["image"].endswith(":latest")
        assert [each["name"] for each in spec.get("imagePullSecrets", [])] == image.get("pullSecrets", [])


def test_user_namespaces_are_left_to_the_cluster_unless_chosen():
    assert all("hostUsers" not in spec for _, _, spec in pod_specs(render("minimal")))
    assert all(spec["hostUsers"] is False for _, _, spec in pod_specs(render("openshift")))


def test_the_service_account_is_no_key():
    account = render("minimal").one("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    for file in FILES:
        assert not {each["kind"] for each in render(file)} & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}


def test_the_job_needs_no_service_account_that_is_not_there_yet():
    assert "serviceAccountName" not in render("minimal").one("Job")["spec"]["template"]["spec"]
    # One that exists is used for all.
    names = {spec["serviceAccountName"] for _, _, spec in pod_specs(render("hook"))}
    assert names == {"login"}
    assert not render("hook").kind("ServiceAccount")
    created = {"serviceAccount": {"name": "other"}}
    assert render("minimal", created).one("ServiceAccount")["metadata"]["name"] == "other"
    assert get(render("minimal", created).one("Deployment"), ("spec", "template", "spec", "serviceAccountName")) == "other"
