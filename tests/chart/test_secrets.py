"""Secrets: given by name, mounted as files, never made and never in an object of the chart."""

import json
import tomllib

import pytest
from chart import FILES, Objects, containers, fails, pod_specs, render, values_of

MOUNT = "/run/secrets/claviger/"


def toml(objects, name="claviger"):
    return tomllib.loads(objects.one("ConfigMap", name)["data"]["claviger.toml"])


def secret_files(spec):
    """What is mounted where: path under the mount to (Secret, key)."""
    (volume,) = (each for each in spec["volumes"] if each["name"] == "secrets")
    found = {}
    for source in volume["projected"]["sources"]:
        for item in source["secret"]["items"]:
            assert item["path"] not in found
            found[item["path"]] = source["secret"]["name"], item["key"]
    return found


def variables(container):
    return {each["name"]: each.get("value") for each in container["env"]}


def server(objects):
    return objects.one("Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("minimal", {"database-url": ("claviger-database", "url"), "tokens-url": ("claviger-redis", "url")}),
        (
            "secret-parts",
            {
                "database-username": ("login-db", "user"),
                "database-password": ("login-db", "pass"),
                "tokens-username": ("login-redis", "redis-user"),
                "tokens-password": ("login-redis", "redis-pass"),
                "clients-gate-secret": ("login-clients", "gate"),
                "clients-api.orders-secret": ("login-clients", "api.orders"),
            },
        ),
        ("redis-without-password", {"database-url": ("claviger-database", "url")}),
        (
            "cloudnativepg",
            {
                "database-url": ("login-app", "uri"),
                "tokens-url": ("redis", "redis-url"),
                "bootstrap-password": ("first-administrator", "initial-password"),
            },
        ),
    ],
)
def test_secrets_are_files_that_variables_name(file, expected):
    spec = server(render(file))
    assert secret_files(spec) == expected
    (container,) = spec["containers"]
    named = {name: value for name, value in variables(container).items() if name.endswith("_FILE")}
    assert named == {f"CLAVIGER_{path.upper().replace('-', '__')}_FILE": MOUNT + path for path in expected}
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "secrets")
    assert mount == {"name": "secrets", "mountPath": MOUNT.rstrip("/"), "readOnly": True}


@pytest.mark.parametrize("file", FILES)
def test_only_the_service_is_given_more_than_the_database(file):
    for name, _, spec in pod_specs(render(file)):
        paths = set(secret_files(spec))
        if not name.startswith("Deployment"):
            assert all(path.startswith("database-") for path in paths), name
        # Readable by the group alone.
        (volume,) = (each for each in spec["volumes"] if each["name"] == "secrets")
        assert volume["projected"]["defaultMode"] in (0o440, 440)
        for each in containers(spec):
            if each["name"] == "migrate":
                others = "TOKENS", "BOOTSTRAP", "CLIENTS", "OTEL"
                assert not any(other in key for other in others for key in variables(each))


def test_parts_go_with_a_url_without_password():
    config = toml(render("secret-parts"))
    assert config["database"]["url"] == (
        "postgres://postgres.data.svc:6432/logins?sslmode=verify-full&sslrootcert=/etc/ssl/own/ca.crt"
    )
    assert config["tokens"]["url"] == "rediss://redis.data.svc:6380/3"
    assert toml(render("redis-without-password"))["tokens"]["url"] == "redis://redis.data.svc:6379/0"
    assert toml(render("ipv6"))["database"]["url"] == "postgres://[fd00::5]:5432/claviger"
    assert "url" not in json.dumps(toml(render("minimal")))


def test_the_administrator_is_named_only_with_a_password():
    (with_password,) = server(render("cloudnativepg"))["containers"]
    assert variables(with_password)["CLAVIGER_BOOTSTRAP__USERNAME"] == "root"
    (without,) = server(render("minimal"))["containers"]
    assert not any("BOOTSTRAP" in name for name in variables(without))


@pytest.mark.parametrize("file", FILES)
def test_the_chart_makes_no_secret(file):
    objects = render(file)
    assert not objects.kind("Secret")
    assert all("password" not in toml(Objects([each])).get("database", {}) for each in objects.kind("ConfigMap")
               if each["metadata"]["name"] == "claviger")  # fmt: skip


def test_without_secrets_the_message_says_what_to_do():
    message = fails({})
    assert "database.existingSecret: name a Secret with the URL of PostgreSQL under the key `url`" in message
    assert "tokens.existingSecret: name a Secret with the URL of Redis under the key `url`" in message


def references(spec):
    """Secrets and ConfigMaps that a pod needs."""
    for volume in spec["volumes"]:
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            if "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"]
            if "secret" in source:
                yield "Secret", source["secret"].get("name") or source["secret"]["secretName"]
    for each in containers(spec):
        for variable in each.get("env", []):
            for kind, key in ("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef"):
                if key in variable.get("valueFrom", {}):
                    yield kind, variable["valueFrom"][key]["name"]
        for source in each.get("envFrom", []):
            for kind, key in ("Secret", "secretRef"), ("ConfigMap", "configMapRef"):
                if key in source:
                    yield kind, source[key]["name"]
    for each in spec.get("imagePullSecrets", []):
        yield "Secret", each["name"]


@pytest.mark.parametrize("file", FILES)
def test_what_a_pod_needs_is_rendered_or_was_named(file):
    objects = render(file)
    rendered = {(each["kind"], each["metadata"]["name"]) for each in objects}
    named = json.dumps(values_of(file))
    for name, _, spec in pod_specs(objects):
        for kind, needed in references(spec):
            assert (kind, needed) in rendered or f'"{needed}"' in named, f"{name} needs the {kind} {needed}"


@pytest.mark.parametrize("file", FILES)
def test_a_hook_needs_nothing_that_comes_after_it(file):
    def weight(each):
        return int(each["metadata"]["annotations"]["helm.sh/hook-weight"])

    objects = render(file)
    hooks = {
        (each["kind"], each["metadata"]["name"]): weight(each)
        for each in objects
        if each["metadata"].get("annotations", {}).get("helm.sh/hook", "").startswith("pre-")
    }
    rendered = {(each["kind"], each["metadata"]["name"]) for each in objects} - set(hooks)
    for job in objects.kind("Job"):
        for needed in references(job["spec"]["template"]["spec"]):
            assert hooks.get(needed, weight(job) - 1) < weight(job)
            assert needed not in rendered or file == "extras", f"the Job would wait for {needed}"


def test_external_secrets_are_written_where_the_service_looks():
    objects = render("external-secrets")
    written = {each["spec"]["target"]["name"]: each for each in objects.kind("ExternalSecret")}
    assert set(written) == {secret for secret, _ in secret_files(server(objects)).values()}
    spec = written["claviger-database"]["spec"]
    assert spec["refreshInterval"] == "15m"
    assert spec["secretStoreRef"] == {"kind": "SecretStore", "name": "vault"}
    assert spec["dataFrom"] == [{"extract": {"key": "login/database"}}]


def test_pods_restart_when_a_secret_changes():
    annotations = render("external-secrets").one("Deployment")["metadata"]["annotations"]
    assert annotations["reloader.stakater.com/auto"] == "true"

    def template(revision):
        return render("minimal", {"secretsRevision": revision}).one("Deployment")["spec"]["template"]["metadata"]

    assert template("1") != template("2")


def test_pods_restart_when_the_configuration_changes():
    def template(values):
        return render("minimal", values).one("Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert template({}) != template({"config": {"tokens": {"ttl": "1h"}}})
    assert template({}) == template({"replicaCount": 9})
