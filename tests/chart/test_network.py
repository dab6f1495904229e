"""Who may talk to whom."""

import pytest
from chart import render

COMPONENT = "app.kubernetes.io/component"


def policy(objects, component):
    (found,) = [
        each for each in objects.kind("NetworkPolicy") if each["spec"]["podSelector"]["matchLabels"][COMPONENT] == component
    ]
    assert found["spec"]["policyTypes"] == ["Ingress", "Egress"]
    return found["spec"]


def out(spec):
    """Each port that can be reached, with to whom; None is anybody."""
    found = {}
    for rule in spec["egress"]:
        for port in rule["ports"]:
            key = (port["port"], port.get("protocol", "TCP"))
            assert key not in found, f"{key} is there twice"
            found[key] = rule.get("to")
    return found


DNS = {(port, protocol): None for port in (53, 5353) for protocol in ("TCP", "UDP")}


def test_each_pod_has_a_policy_of_its_own():
    objects = render("minimal")
    for component in ("server", "migrate", "test"):
        policy(objects, component)


def test_the_service_reaches_its_stores_and_names_and_nothing_else():
    assert out(policy(render("minimal"), "server")) == DNS | {(5432, "TCP"): None, (6379, "TCP"): None}


def test_migrations_reach_the_database_only():
    spec = policy(render("minimal"), "migrate")
    assert out(spec) == DNS | {(5432, "TCP"): None}
    assert "ingress" not in spec


def test_the_test_reaches_the_database_and_the_service():
    found = out(policy(render("minimal"), "test"))
    (service,) = found.pop((8000, "TCP"))
    assert service["podSelector"]["matchLabels"][COMPONENT] == "server"
    assert found == DNS | {(5432, "TCP"): None}


def test_ports_and_peers_are_those_of_the_values():
    peer = [{"ipBlock": {"cidr": "10.1.2.3/32"}}]
    values = {
        "database": {"port": 6432},
        "tokens": {"port": 6380},
        "otlp": {"endpoint": "http://collector:4318"},
        "networkPolicy": {"databaseTo": peer, "tokensTo": peer, "dnsTo": peer, "otlpTo": peer},
    }
    expected = dict.fromkeys([*DNS, (6432, "TCP"), (6380, "TCP"), (4318, "TCP")], peer)
    assert out(policy(render("minimal", values), "server")) == expected


@pytest.mark.parametrize(("endpoint", "port"), [("https://c.example", 443), ("http://c/v1", 80), ("http://[::1]:4318/x", 4318)])
def test_the_port_of_a_collector(endpoint, port):
    assert (port, "TCP") in out(policy(render("minimal", {"otlp": {"endpoint": endpoint}}), "server"))


def test_what_comes_in():
    api, operations = policy(render("minimal"), "server")["ingress"]
    assert api == {"ports": [{"port": 8000}]}
    assert operations == {"ports": [{"port": 9000}], "from": [{"namespaceSelector": {}}]}


def test_who_may_use_the_api_and_the_test_too():
    gateways = {"namespaceSelector": {"matchLabels": {"role": "gateway"}}}
    api, _ = policy(render("minimal", {"networkPolicy": {"from": [gateways]}}), "server")["ingress"]
    assert api["from"][0] == gateways
    assert api["from"][1]["podSelector"]["matchLabels"][COMPONENT] == "test"


def test_nobody_scrapes():
    (api,) = policy(render("minimal", {"networkPolicy": {"opsFrom": []}}), "server")["ingress"]
    assert api["ports"] == [{"port": 8000}]
