"""Values: each is described, used and tried, and wrong ones are refused by a message that names them."""

import json
import re
import tomllib

import pytest
import strictyaml
from chart import CHART, FILES, ROOT, fails, get, leaves, render, text, values_of

DEFAULTS = strictyaml.load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
LEAVES = [".".join(path) for path in leaves(DEFAULTS)]
MINIMAL = "minimal"


def schema_of(path):
    """What the schema says of a value; None: nothing."""
    at = SCHEMA
    for key in path:
        at = at.get("properties", {}).get(key)
        if at is None:
            return None
    return at


def nodes(schema, path=()):
    if isinstance(schema, dict):
        yield path, schema
        for key, value in schema.items():
            yield from nodes(value, (*path, key))
    elif isinstance(schema, list):
        for each in schema:
            yield from nodes(each, path)


def without(values, path):
    first, *rest = path
    if rest:
        return {**values, first: without(values[first], rest)}
    return {key: value for key, value in values.items() if key != first}


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_value_is_used_and_tried(leaf):
    """Some file sets it to other than the default, and what is rendered changes when that alone is taken back."""
    path = tuple(leaf.split("."))
    default = get(DEFAULTS, path)
    if leaf.startswith(("podSecurityContext.", "securityContext.")):
        # No file sets them to other than what is safe.
        changed = None
        for key in reversed(path):
            changed = {key: changed}
        assert text(MINIMAL, changed) != text(MINIMAL)
        return
    setting = [file for file in FILES if get(values_of(file), path, default) != default]
    assert setting, f"no file in values/ sets {leaf} to other than {default!r}"
    for file in setting:
        try:
            changed = text(without(values_of(file), path))
        except AssertionError as error:
            # Something else needs it, and says so: the schema or the rules of the chart.
            changed = str(error)
            known = ("claviger: these values can't be used", "values don't meet the specifications of the schema")
            if not any(each in changed for each in known):
                pytest.fail(changed)
        if changed != text(file):
            return
    pytest.fail(f"{leaf} changes nothing in {', '.join(setting)}")


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_value_is_in_the_schema(leaf):
    """It, or a map that it is a part of, is described; what is handed to Kubernetes as it is ends the way down."""
    at, described = SCHEMA, False
    for key in leaf.split("."):
        if "$ref" in at or not at.get("properties"):
            break
        assert key in at["properties"], f"the schema does not know {leaf}"
        at = at["properties"][key]
        described = described or "description" in at
    assert described, f"the schema does not describe {leaf}"


def test_the_schema_knows_no_value_that_is_not_there():
    for path, schema in nodes(SCHEMA["properties"]):
        if "properties" not in path and path and path[0] not in ("config", "global", "enabled") and "type" in schema:
            assert path[0] in DEFAULTS, path


def test_the_schema_needs_nothing_from_elsewhere():
    for path, schema in nodes(SCHEMA):
        if "$ref" in schema:
            assert schema["$ref"].startswith("#/definitions/"), path
            assert schema["$ref"].removeprefix("#/definitions/") in SCHEMA["definitions"]
        if isinstance(schema.get("properties"), dict) and "type" in schema:
            assert schema["additionalProperties"] is False, path
    assert all(f"#/definitions/{name}" in json.dumps(SCHEMA) for name in SCHEMA["definitions"])


def maps(values, path=()):
    yield path
    for key, value in values.items():
        if isinstance(value, dict) and "properties" in (schema_of((*path, key)) or {}):
            yield from maps(value, (*path, key))


@pytest.mark.parametrize("path", [".".join(each) for each in maps(DEFAULTS)])
def test_an_unknown_value_is_refused(path):
    values = {"unknown": 1}
    for key in reversed(path.split(".") if path else []):
        values = {key: values}
    message = fails(MINIMAL, values)
    assert "additional properties 'unknown' not allowed" in message
    assert path.replace(".", "/") in message


# Beside the words that the message has to hold. What is wrong in another way each time is a rule in _validate.tpl.
REFUSED = {
    "no database": ({"database": {"existingSecret": ""}}, "database.existingSecret: name a Secret"),
    "no redis": ({"tokens": {"existingSecret": ""}}, "tokens.existingSecret: name a Secret"),
    "redis without its password": (
        {"tokens": {"existingSecret": "", "host": "redis"}},
        "for a Redis without a password set tokens.host, and tokens.keys.password to",
    ),
    "no user of the database": (
        {"database": {"host": "postgres", "keys": {"username": ""}}},
        "database.keys: with database.host both username and password",
    ),
    "parameters without host": (
        {"database": {"parameters": "sslmode=require"}},
        "database.parameters: without database.host the URL is in the Secret",
    ),
    "a password among the parameters": (
        {"database": {"host": "postgres", "parameters": "sslmode=require&Password=x"}},
        "database.parameters: user and password are secret",
    ),
    "an unknown section, in toml": ({"config": "[pasword]\nworkers = 1"}, "config.pasword: there is no such section"),
    "an unknown section below another, in toml": (
        {"config": '[client.gate]\nsecret = "x"'},
        "config.client: there is no such section; there are server, database",
    ),
    "secrets of clients": (
        {"config": {"clients": {"gate": {"secret": "x"}}}},
        "config.clients: the secrets of clients do not belong here; use the values clients.existingSecret and clients.names",
    ),
    "secrets of clients, in toml": (
        {"config": '[clients.gate]\nsecret = "x"'},
        "config.clients: the secrets of clients do not belong here",
    ),
    "clients without their secrets": ({"clients": {"names": ["gate"]}}, "clients.existingSecret: name the Secret"),
    "secrets of nobody": ({"clients": {"existingSecret": "clients"}}, "clients.names: name the clients"),
    "a section without keys": ({"config": "password = 3"}, "config.password: this is a section, and has to hold keys"),
    "migrations of its own": (
        {"config": {"database": {"migrate": "auto"}}},
        "config.database.migrate: the chart sets it; use the value migrations.mode",
    ),
    "tls without host": ({"tokens": {"tls": True}}, "tokens.tls: without tokens.host the URL is in the Secret"),
    "no key of the database's url": ({"database": {"keys": {"url": ""}}}, "database.keys.url: without database.host"),
    "no key of redis' url": ({"tokens": {"keys": {"url": ""}}}, "tokens.keys.url: without tokens.host"),
    "no toml": ({"config": "server = ["}, "config: this is no TOML"),
    "owned": ({"config": {"server": {"listen": "x"}}}, "config.server.listen: the chart sets it; use the value bindAddress"),
    "owned, in toml": (
        {"config": '[database]\nurl = "postgres://user:password@host/name"'},
        "config.database.url: the chart sets it; use the value database.existingSecret or database.host",
    ),
    "no room to hash": (
        {"resources": {"requests": {"memory": "210Mi"}, "limits": {"memory": "210Mi"}}},
        "resources.limits.memory: 210Mi is too little for 1 hash workers; 211 MiB are needed",
    ),
    "no room for the workers": (
        {"config": {"password": {"workers": 20}}},
        "resources.limits.memory: 384Mi is too little for 20 hash workers; 572 MiB are needed",
    ),
    "no room for costly hashes": (
        {"config": "[password]\nmemory_kib = 1048576"},
        "resources.limits.memory: 384Mi is too little for 1 hash workers; 1216 MiB are needed",
    ),
    "request above limit": ({"resources": {"requests": {"memory": "1Gi"}}}, "resources.requests.memory: more than"),
    "request above limit, migrations": (
        {"migrations": {"resources": {"requests": {"memory": "1Gi"}}}},
        "migrations.resources.requests.memory: more than",
    ),
    "ingress without proxies": ({"ingress": {"enabled": True}}, "trustedProxies: with ingress.enabled the service has to know"),
    "gateway without proxies": (
        {"gateway": {"enabled": True, "parentRefs": [{"name": "public"}]}},
        "trustedProxies: with gateway.enabled the service has to know",
    ),
    "no gateway": (
        {"gateway": {"enabled": True}, "trustedProxies": ["10.0.0.0/8"]},
        "gateway.parentRefs: name the Gateway",
    ),
    "fewer than the fewest": (
        {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2}},
        "autoscaling.maxReplicas: less than autoscaling.minReplicas",
    ),
    "two monitors": (
        {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
        "serviceMonitor.enabled and podMonitor.enabled: each pod would be scraped twice",
    ),
    "alerts on nothing": ({"prometheusRule": {"enabled": True}}, "prometheusRule.enabled: the alerts need"),
    "secrets after the hook": (
        {"externalSecrets": {"enabled": True, "storeRef": {"name": "vault"}}},
        "externalSecrets.enabled: the Job of migrations.mode=hook would wait",
    ),
    "nothing to write": (
        {"externalSecrets": {"enabled": True, "storeRef": {"name": "vault"}}, "migrations": {"mode": "none"}},
        "externalSecrets: name at least one key",
    ),
    "more cpu than allowed": (
        {"resources": {"limits": {"cpu": "100m"}}},
        "resources.requests.cpu: more than resources.limits.cpu",
    ),
    "everybody trusted": ({"trustedProxies": ["0.0.0.0/0"]}, "trustedProxies: 0.0.0.0/0 is everybody"),
    "half a number, in toml": ({"config": "[password]\niterations = 1.5"}, "config.password.iterations: expected a text"),
    "a word for a number, in toml": (
        {"config": '[password]\nworkers = "many"'},
        "config.password.workers: expected a whole number",
    ),
    "no store": (
        {"externalSecrets": {"enabled": True}, "migrations": {"mode": "none"}},
        "externalSecrets.storeRef.name: name the store",
    ),
    "nowhere to write a secret": (
        {
            "externalSecrets": {"enabled": True, "storeRef": {"name": "vault"}, "bootstrap": "login/bootstrap"},
            "migrations": {"mode": "none"},
        },
        "bootstrap.existingSecret: name the Secret that externalSecrets.bootstrap is written to",
    ),
    "a name that no Service has": ({"fullnameOverride": "0login"}, "fullnameOverride: the name of a Service has to begin"),
}
# The schema's part: the path as its messages have it, and what is wrong.
MALFORMED = {
    "a digest that is none": ({"image": {"digest": "sha256:123"}}, "/image/digest': 'sha256:123' does not match pattern"),
    "a tag with a digest": ({"image": {"tag": "1@sha256:1"}}, "/image/tag"),
    "a text for a number": ({"replicaCount": "2"}, "/replicaCount': got string, want integer"),
    "a number for a text": ({"secretsRevision": 2}, "/secretsRevision': got number, want string"),
    "an unknown mode": ({"migrations": {"mode": "job"}}, "/migrations/mode': value must be one of"),
    "an unknown controller": ({"ingress": {"controller": "nginx"}}, "/ingress/controller': value must be one of"),
    "an unknown rewrite": ({"gateway": {"rewrite": "/"}}, "/gateway/rewrite': value must be one of"),
    "a host for a network": ({"trustedProxies": ["ingress.svc"]}, "/trustedProxies/0': 'ingress.svc' does not match pattern"),
    "a network that is too narrow": ({"trustedProxies": ["10.0.0.0/33"]}, "/trustedProxies/0': '10.0.0.0/33' does not match"),
    "an address that is none": ({"trustedProxies": ["10.0.0/8"]}, "/trustedProxies/0': '10.0.0/8' does not match"),
    "no section": ({"probes": None}, "missing property 'probes'"),
    "a password in a url": ({"otlp": {"endpoint": "http://u:p@c"}}, "/otlp/endpoint': 'http://u:p@c' does not match"),
    "the root as base path": ({"basePath": "/"}, "/basePath': '/' does not match pattern"),
    "a base path with a slash at its end": ({"basePath": "/api/"}, "/basePath': '/api/' does not match pattern"),
    "no pod more and none less": ({"maxSurge": "0%"}, "/maxSurge': '0%' does not match pattern"),
    "no pod more": ({"maxSurge": 0}, "/maxSurge': minimum: got 0, want 1"),
    "no memory limit": ({"resources": {"limits": {"memory": None}}}, "/resources/limits': missing property 'memory'"),
    "no request": ({"resources": {"requests": None}}, "/resources': missing property 'requests'"),
    "memory in words": ({"resources": {"limits": {"memory": "1 GB"}}}, "/resources/limits/memory': '1 GB' does not match"),
    "a client that the service would not take": ({"clients": {"names": ["Gate"]}}, "/clients/names/0': 'Gate' does not match"),
    "a client twice": ({"clients": {"names": ["a", "a"]}}, "/clients/names': items at 0 and 1 are equal"),
    "a port beyond the last": ({"service": {"port": 65536}}, "/service/port': maximum: got 65,536, want 65,535"),
    "a duration without unit": ({"config": {"tokens": {"ttl": "12"}}}, "/config/tokens/ttl': '12' does not match pattern"),
    "an unknown key of the configuration": (
        {"config": {"tokens": {"tll": "12h"}}},
        "/config/tokens': additional properties 'tll' not allowed",
    ),
    "a host with a path": ({"ingress": {"hosts": ["example.com/login"]}}, "/ingress/hosts/0': 'example.com/login' does not"),
    "an annotation that is no text": ({"podAnnotations": {"a": True}}, "/podAnnotations/a': got boolean, want string"),
    "a label that is too long": ({"commonLabels": {"a": "x" * 64}}, "/commonLabels/a': maxLength: got 64, want 63"),
    "a collector without scheme": ({"otlp": {"endpoint": "collector:4317"}}, "/otlp/endpoint': 'collector:4317' does not"),
}


@pytest.mark.parametrize("case", [*REFUSED, *MALFORMED])
def test_wrong_values_are_refused(case):
    values, says = (REFUSED | MALFORMED)[case]
    assert says in fails(MINIMAL, values)


def test_all_that_is_wrong_is_said_at_once():
    message = fails({"prometheusRule": {"enabled": True}, "ingress": {"enabled": True}})
    assert len(re.findall("^- ", message, re.M)) == 4


def test_every_refusal_of_the_templates_is_reached():
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    texts = re.findall(r'(?:append \$wrong|fail) \(?(?:printf )?"((?:[^"\\]|\\.)*)"', templates)
    assert len(texts) == len(re.findall(r"append \$wrong|\bfail \(", templates))
    messages = "\n".join(fails(MINIMAL, values) for values, _ in REFUSED.values())
    for each in texts:
        literal = [re.escape(json.loads(f'"{part}"')) for part in re.split("%[sd]", each)]
        assert re.search(".*".join(literal), messages, re.S), f"no row reaches: {each}"


def test_the_least_memory_is_enough():
    assert render(MINIMAL, {"resources": {"requests": {"memory": "211Mi"}, "limits": {"memory": "211Mi"}}})
    for same in ("216064Ki", "221249536", "0.3G"):
        assert render(MINIMAL, {"resources": {"requests": {"memory": "1Mi"}, "limits": {"memory": same}}})


EXAMPLE = (ROOT / "config.example.toml").read_text()


def service_keys():
    """Section and key of every setting of the service, with those that name a file for a secret."""
    section = None
    for line in EXAMPLE.splitlines():
        if match := re.fullmatch(r"\[([a-z]+)\]", line):
            section = match[1]
        elif match := re.fullmatch(r"#([a-z_]+) = .*", line) or re.match(r"# `([a-z_]+_file) = ", line):
            yield section, match[1]


def test_the_schema_knows_the_keys_of_the_service_and_no_others():
    known = set()
    for key, schema in SCHEMA["properties"]["config"]["properties"].items():
        # Who writes it chooses its keys, and it is refused with the names of the values to use instead.
        if key == "clients":
            continue
        known |= {(key, inner) for inner in schema["properties"]} if "properties" in schema else {(None, key)}
    assert known == set(service_keys())


def test_the_schema_takes_the_defaults_of_the_service():
    config = tomllib.loads(re.sub(r'^#([a-z_]+ = (?!"").)', r"\1", EXAMPLE, flags=re.M))
    owned = re.findall(r'^    "([a-z]+)\.([a-z_]+)" "', (CHART / "templates/_validate.tpl").read_text(), re.M)
    assert len(owned) > 10
    for section, key in owned:
        config.get(section, {}).pop(key, None)
    assert render(MINIMAL, {"config": config})


def rendered(*layers):
    objects = render(*layers)
    return tomllib.loads(objects.one("ConfigMap", "claviger")["data"]["claviger.toml"])


def test_the_configuration_is_rendered_as_it_was_given():
    given = values_of("config-map")["config"]
    found = rendered("config-map")
    for section, keys in given.items():
        if isinstance(keys, dict):
            assert {key: found[section][key] for key in keys} == keys
        else:
            assert found[section] == keys


def test_a_text_in_toml_is_the_same_as_a_map():
    given = values_of("config-toml")["config"]
    as_map = {**values_of("config-toml"), "config": tomllib.loads(given)}
    assert rendered(as_map) == rendered("config-toml")


@pytest.mark.parametrize("odd", ['"', "\\", "a\tb", "<&>", "ä😀", "{{ .Values }}", "#", "'", "\x7f", "\u2028"])
def test_an_odd_text_stays_what_it_is(odd):
    assert rendered(MINIMAL, {"config": {"tokens": {"key_prefix": odd}}})["tokens"]["key_prefix"] == odd


def test_what_the_chart_sets():
    values = {"shutdown": {"drainSeconds": 7}, "trustedProxies": ["10.0.0.0/8"], "basePath": "/x", "bindAddress": "[::]"}
    assert rendered(MINIMAL, values)["server"] == {
        "listen": "[::]:8000",
        "ops_listen": "[::]:9000",
        "base_path": "/x",
        "trusted_proxies": ["10.0.0.0/8"],
        "shutdown_grace": "7s",
    }
