"""What keeps the service up while pods and nodes come and go."""

from chart import render


def deployment(*layers):
    return render("minimal", *layers).one("Deployment")["spec"]


def test_no_pod_goes_before_its_successor_is_ready():
    assert deployment()["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_a_pod_waits_for_the_routes_and_is_given_time_to_end():
    spec = deployment({"shutdown": {"sleepSeconds": 7, "drainSeconds": 40}})["template"]["spec"]
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert spec["terminationGracePeriodSeconds"] == 7 + 40 + 5


def test_probes():
    (container,) = deployment()["template"]["spec"]["containers"]
    ways = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert ways == {
        "startup": {"path": "/healthz", "port": "ops"},
        "liveness": {"path": "/healthz", "port": "ops"},
        "readiness": {"path": "/readyz", "port": "ops"},
    }
    assert {"name": "ops", "containerPort": 9000} in container["ports"]
    assert all("initialDelaySeconds" not in container[f"{name}Probe"] for name in ways)


def test_a_budget_as_soon_as_there_is_more_than_one():
    assert render("minimal").one("PodDisruptionBudget")["spec"] | {"selector": 0} == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": 0,
    }
    assert not render("minimal", {"replicaCount": 1}).kind("PodDisruptionBudget")
    assert render("minimal", {"replicaCount": 1, "autoscaling": {"enabled": True}}).kind("PodDisruptionBudget")
    assert render("minimal", {"autoscaling": {"enabled": True, "minReplicas": 1}}).kind("PodDisruptionBudget")
    assert not render("minimal", {"autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 1}}).kind(
        "PodDisruptionBudget"
    )


def test_pods_are_spread_softly_over_zones_and_nodes():
    spread = deployment()["template"]["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for each in spread:
        assert (each["maxSkew"], each["whenUnsatisfiable"]) == (1, "ScheduleAnyway")
        assert each["labelSelector"]["matchLabels"] == deployment()["selector"]["matchLabels"]


def test_who_scales_decides_the_number():
    objects = render("minimal", {"autoscaling": {"enabled": True}})
    assert "replicas" not in objects.one("Deployment")["spec"]
    spec = objects.one("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == objects.one("Deployment")["metadata"]["name"]
    assert spec["metrics"][0]["containerResource"]["container"] == "claviger"
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    # A share of the request, which therefore has to be there: the schema sees to it.
    assert objects.one("Deployment")["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]


def test_a_changed_configuration_is_a_roll_out_and_nothing_else_is():
    def template(*layers):
        return deployment(*layers)["template"]

    assert template() != template({"config": {"tokens": {"ttl": "1h"}}})
    assert template() != template({"secretsRevision": "2"})
    assert template() == template({"replicaCount": 5, "prometheusRule": {"enabled": True}, "serviceMonitor": {"enabled": True}})
