"""Routes: what they match, what they rewrite, and what they never reach."""

import re

import pytest
from chart import FILES, notes, render

TRUSTED = {"trustedProxies": ["10.0.0.0/8"]}


def ingress(**values):
    return render("minimal", TRUSTED, {"ingress": {"enabled": True, **values}})


def paths(objects):
    return [path for rule in objects.one("Ingress")["spec"]["rules"] for path in rule["http"]["paths"]]


def test_an_ingress_without_a_host():
    (rule,) = ingress().one("Ingress")["spec"]["rules"]
    assert "host" not in rule
    assert "tls" not in ingress().one("Ingress")["spec"]


def test_the_service_takes_the_prefix_off_itself():
    objects = ingress()
    (path,) = paths(objects)
    assert (path["path"], path["pathType"]) == ("/api", "Prefix")
    assert "annotations" not in objects.one("Ingress")["metadata"]


def test_ingress_nginx_takes_it_off():
    objects = ingress(controller="ingress-nginx")
    (path,) = paths(objects)
    annotations = objects.one("Ingress")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/use-regex"] == "true"
    assert path["pathType"] == "ImplementationSpecific"
    target = annotations["nginx.ingress.kubernetes.io/rewrite-target"].replace("$2", r"\2")
    for asked, gets in {"/api": "/", "/api/": "/", "/api/v1.0/user/auth": "/v1.0/user/auth", "/api//x": "//x"}.items():
        assert re.sub(f"^{path['path']}", target, asked) == gets
    assert not re.match(f"^{path['path']}", "/apiary")


def test_a_dot_in_the_prefix_is_a_dot():
    values = {"basePath": "/id.v1", "ingress": {"enabled": True, "controller": "ingress-nginx"}}
    (path,) = paths(render("minimal", TRUSTED, values))
    assert re.match(f"^{path['path']}", "/id.v1/x") and not re.match(f"^{path['path']}", "/idxv1/x")


def test_traefik_takes_it_off():
    objects = ingress(controller="traefik")
    middleware = objects.one("Middleware")
    assert middleware["spec"] == {"stripPrefix": {"prefixes": ["/api"]}}
    name = f"{middleware['metadata']['namespace']}-{middleware['metadata']['name']}@kubernetescrd"
    assert objects.one("Ingress")["metadata"]["annotations"]["traefik.ingress.kubernetes.io/router.middlewares"] == name


def test_hosts_and_tls():
    objects = ingress(hosts=["a.example", "b.example"], tls={"enabled": True})
    spec = objects.one("Ingress")["spec"]
    assert [rule["host"] for rule in spec["rules"]] == ["a.example", "b.example"]
    assert spec["tls"] == [{"secretName": "claviger-tls", "hosts": ["a.example", "b.example"]}]
    named = ingress(tls={"enabled": True, "secretName": "mine"})
    assert named.one("Ingress")["spec"]["tls"] == [{"secretName": "mine"}]


def test_own_annotations_win():
    objects = ingress(controller="ingress-nginx", annotations={"nginx.ingress.kubernetes.io/rewrite-target": "/x"})
    assert objects.one("Ingress")["metadata"]["annotations"]["nginx.ingress.kubernetes.io/rewrite-target"] == "/x"


@pytest.mark.parametrize(("rewrite", "replacement"), [("slash", "/"), ("empty", ""), ("none", None)])
def test_a_gateway(rewrite, replacement):
    values = {"gateway": {"enabled": True, "parentRefs": [{"name": "public"}], "rewrite": rewrite}}
    (rule,) = render("minimal", TRUSTED, values).one("HTTPRoute")["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/api"}}]
    found = [each["urlRewrite"]["path"]["replacePrefixMatch"] for each in rule.get("filters", [])]
    assert found == ([] if replacement is None else [replacement])


@pytest.mark.parametrize("file", FILES)
def test_no_route_leads_to_operations(file):
    objects = render(file)
    services = {each["metadata"]["name"]: each["spec"] for each in objects.kind("Service")}
    backends = []
    if objects.kind("Ingress"):
        backends += [path["backend"]["service"] for path in paths(objects)]
    for route in objects.kind("HTTPRoute"):
        backends += [each for rule in route["spec"]["rules"] for each in rule["backendRefs"]]
    for each in backends:
        port = each["port"]["name"] if isinstance(each["port"], dict) else each["port"]
        (target,) = [one["targetPort"] for one in services[each["name"]]["ports"] if port in (one["name"], one["port"])]
        assert target == "http"


def test_the_service_trusts_who_is_named():
    config = ingress().one("ConfigMap", "claviger")["data"]["claviger.toml"]
    assert 'trusted_proxies = ["10.0.0.0/8"]' in config


def test_notes_name_the_way_in():
    values = {"ingress": {"enabled": True, "hosts": ["login.example"], "tls": {"enabled": True}}}
    assert "https://login.example/api/v1.0/user/auth" in notes("minimal", TRUSTED, values)
    assert "port-forward service/claviger 8000:80" in notes("minimal")


def test_notes_say_whom_pods_may_reach():
    assert "(tokens.port), and nothing else." in notes("minimal")
    values = {"otlp": {"endpoint": "http://c:4318"}, "networkPolicy": {"extraEgress": [{"ports": [{"port": 443}]}]}}
    said = "(tokens.port), the collector at 4318, whom networkPolicy.extraEgress names, and nothing else."
    assert said in notes("minimal", values)


def test_notes_try_it_in_a_way_that_the_policy_lets_through():
    """A pod of the service reaches itself, and not its Service."""
    assert "claviger smoke --url http://127.0.0.1:8000\n" in notes("minimal", {"tests": {"enabled": False}})
