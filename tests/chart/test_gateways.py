"""The recipes of examples/gateways, as far as a schema can tell. Those for nginx, Caddy and HAProxy run in tests/it."""

import pytest
import schemas
import strictyaml
from chart import KUBERNETES, ROOT

GATEWAYS = ROOT / "examples/gateways"
# What an API server takes; the others are of no cluster.
OBJECTS = ["ingress-nginx/ingress", "gateway-api/route", "gateway-api/envoy-gateway", "gateway-api/traefik"]
ROUTE = "/v1.0/forward-auth"


def load_all(name):
    return strictyaml.load_all((GATEWAYS / f"{name}.yaml").read_text())


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_fit_their_schemas(name, kubernetes):
    objects = load_all(name)
    assert objects
    for each in objects:
        assert schemas.errors(each, kubernetes) == []


def test_every_file_is_looked_at():
    named = {f"{name}.yaml" for name in OBJECTS}
    found = {str(path.relative_to(GATEWAYS)) for path in GATEWAYS.glob("*/*.y*ml")}
    assert found - named == {
        "envoy/envoy.yaml", "traefik/traefik.yaml", "traefik/dynamic.yaml", "traefik/docker-compose.yml",
    }  # fmt: skip


def middlewares():
    """Of Traefik, by provider: what is configured under each name."""
    objects = {each["metadata"]["name"]: each["spec"] for each in load_all("gateway-api/traefik")}
    (dynamic,) = load_all("traefik/dynamic")
    return {"kubernetes": objects, "file": dynamic["http"]["middlewares"]}


def test_traefik_is_told_the_same_by_each_provider():
    found = middlewares()
    # They know Claviger under different names.
    for each in found.values():
        address = each["claviger"]["forwardAuth"].pop("address")
        assert address.endswith(ROUTE)
    assert found["file"] == found["kubernetes"]

    (labels,) = (service["labels"] for service in compose().values() if "labels" in service)
    asked = found["file"]["claviger"]["forwardAuth"]
    prefix = "traefik.http.middlewares.claviger.forwardAuth."
    said = {key.removeprefix(prefix): value for key, value in labels.items() if key.startswith(prefix)}
    assert said.pop("address").endswith(ROUTE)
    as_text = {
        key: ",".join(value) if isinstance(value, list) else str(value).lower() if not isinstance(value, str) else value
        for key, value in asked.items()
    }
    assert said == as_text
    assert labels["traefik.http.middlewares.without-token.headers.customRequestHeaders.Authorization"] == ""
    assert labels["traefik.http.routers.app.middlewares"] == "claviger,without-token"


def compose():
    return strictyaml.load((GATEWAYS / "traefik/docker-compose.yml").read_text())["services"]


def test_the_file_of_traefik_fits_the_schema_of_its_middlewares():
    for name, spec in middlewares()["file"].items():
        middleware = {"apiVersion": "traefik.io/v1alpha1", "kind": "Middleware", "metadata": {"name": name}, "spec": spec}
        assert schemas.errors(middleware, KUBERNETES[-1]) == []


def test_names_of_traefik_are_there():
    (dynamic,) = load_all("traefik/dynamic")
    (static,) = load_all("traefik/traefik")
    http = dynamic["http"]
    for router in http["routers"].values():
        assert set(router["middlewares"]) <= set(http["middlewares"])
        assert router["service"] in http["services"]
        assert set(router["entryPoints"]) <= set(static["entryPoints"])
        # The token has to be there when Claviger is asked.
        assert router["middlewares"] == ["claviger", "without-token"]
    # Else X_User_Id would pass.
    for entry_point in static["entryPoints"].values():
        assert entry_point["http"]["aliasHeadersStrategy"] == "delete"
    assert "--entryPoints.websecure.http.aliasHeadersStrategy=delete" in compose()["traefik"]["command"]


def filters(config):
    (listener,) = config["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    (manager,) = chain["filters"]
    return manager["typed_config"]


def test_envoy_names_what_is_there_and_fails_closed():
    (config,) = load_all("envoy/envoy")
    manager = filters(config)
    by_name = {each["name"].rsplit(".", 1)[1]: each["typed_config"] for each in manager["http_filters"]}
    assert list(by_name) == ["header_mutation", "ext_authz", "router"]
    asks = by_name["ext_authz"]
    assert asks["failure_mode_allow"] is False
    assert asks["status_on_error"] == {"code": "ServiceUnavailable"}
    assert asks["http_service"]["path_prefix"] == ROUTE
    assert "with_request_body" not in asks
    clusters = {cluster["name"] for cluster in config["static_resources"]["clusters"]}
    named = {asks["http_service"]["server_uri"]["cluster"]}
    for host in manager["route_config"]["virtual_hosts"]:
        named |= {route["route"]["cluster"] for route in host["routes"]}
    assert named == clusters
    assert manager["common_http_protocol_options"]["headers_with_underscores_action"] == "DROP_HEADER"


def test_the_service_is_that_of_the_chart():
    (ingress,) = load_all("ingress-nginx/ingress")
    annotations = ingress["metadata"]["annotations"]
    address = "http://claviger.claviger.svc.cluster.local" + ROUTE
    assert annotations["nginx.ingress.kubernetes.io/auth-url"] == address
    assert middlewares()["kubernetes"]["claviger"]["forwardAuth"]["address"] == address
    policy, grant = load_all("gateway-api/envoy-gateway")
    http = policy["spec"]["extAuth"]["http"]
    assert http["path"] == ROUTE
    assert http["backendRefs"] == [{"name": "claviger", "namespace": "claviger", "port": 80}]
    assert grant["metadata"]["namespace"] == "claviger"
    assert grant["spec"]["to"] == [{"group": "", "kind": "Service", "name": "claviger"}]


def test_a_gateway_of_kubernetes_keeps_no_answer():
    (ingress,) = load_all("ingress-nginx/ingress")
    assert not any("cache" in name for name in ingress["metadata"]["annotations"])
