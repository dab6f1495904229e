"""Who brings the schema up to date, and with what."""

import pytest
from chart import containers, notes, pod_specs, render

HOOK = "helm.sh/hook"


def hooks(objects, event):
    return [each for each in objects if event in each["metadata"].get("annotations", {}).get(HOOK, "").split(",")]


def weight(each):
    return int(each["metadata"]["annotations"]["helm.sh/hook-weight"])


def job(*layers, **options):
    return render("minimal", *layers, **options).one("Job")


def test_the_job_comes_after_all_that_it_needs():
    found = hooks(render("minimal"), "pre-install")
    assert sorted((weight(each), each["kind"]) for each in found) == [(-10, "ConfigMap"), (-10, "NetworkPolicy"), (-5, "Job")]
    assert found == hooks(render("minimal"), "pre-upgrade")
    for each in found:
        assert each["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"


def test_the_job_needs_nothing_else_of_the_release():
    objects = render("minimal")
    own = {(each["kind"], each["metadata"]["name"]) for each in hooks(objects, "pre-install")}
    spec = objects.one("Job")["spec"]["template"]["spec"]
    assert "serviceAccountName" not in spec
    for volume in spec["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in own
    config = [each["data"] for each in hooks(objects, "pre-install") if each["kind"] == "ConfigMap"]
    assert config == [objects.one("ConfigMap", "claviger")["data"]]


def test_an_account_that_is_there_is_used():
    spec = job({"serviceAccount": {"create": False, "name": "mine"}})["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "mine"


def test_only_the_database_is_given_to_it():
    (container,) = job()["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["migrate", "up"]
    files = [each["name"] for each in container["env"] if each["name"].endswith("_FILE")]
    assert files == ["CLAVIGER_DATABASE__URL_FILE"]


def test_it_gives_up_and_is_kept_for_a_while():
    spec = job()["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (3, 240, 86400)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize(
    "change",
    [
        {"image": {"tag": "2"}},
        {"image": {"digest": "sha256:" + "1" * 64}},
        {"config": {"database": {"acquire_timeout": "5s"}}},
        {"database": {"existingSecret": "other"}},
        {"migrations": {"backoffLimit": 0}},
        {"secretsRevision": "2"},
    ],
)
def test_another_job_has_another_name(change):
    name = job()["metadata"]["name"]
    assert name.startswith("claviger-migrate-")
    assert job(change)["metadata"]["name"] != name
    assert job()["metadata"]["name"] == name


def test_without_hooks_each_pod_migrates_first():
    objects = render("minimal", {"migrations": {"mode": "initContainer"}})
    assert not objects.kind("Job") and not hooks(objects, "pre-install")
    (container,) = objects.one("Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert container["args"] == ["migrate", "up"]


def test_nobody_migrates():
    objects = render("minimal", {"migrations": {"mode": "none"}})
    arguments = [each["args"] for _, _, spec in pod_specs(objects) for each in containers(spec)]
    assert ["migrate", "up"] not in arguments
    assert "no pod gets ready" in notes("minimal", {"migrations": {"mode": "none"}})


def test_helm_test_uses_the_image_of_the_service():
    objects = render("minimal")
    (container,) = objects.one("Pod")["spec"]["containers"]
    assert container["args"] == ["smoke", "--url", "http://claviger:80"]
    assert container["image"] == objects.one("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert hooks(objects, "test")
