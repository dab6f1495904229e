"""Helm, and the objects that it makes of values."""

import copy
import functools
import json
import os
import pathlib
import subprocess

import strictyaml

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "helm/claviger"
VALUES = pathlib.Path(__file__).parent / "values"
# Each a configuration as somebody could have it; what has to hold always is tested on all of them.
FILES = sorted(path.stem for path in VALUES.glob("*.yaml"))
# From the floor that the chart states to the newest whose schemas are there.
KUBERNETES = [f"1.{minor}" for minor in range(30, 38)]
HELM = os.environ["HELM"]
HELM3 = os.environ["HELM3"]


class Objects(list):
    def kind(self, kind):
        return [each for each in self if each["kind"] == kind]

    def one(self, kind, name=None):
        found = [each for each in self.kind(kind) if name in (None, each["metadata"]["name"])]
        assert len(found) == 1, f"not one but {len(found)} of {kind} {name or ''}"
        return found[0]


def merge(below, above):
    """As Helm merges values: maps key by key, all else is replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return copy.deepcopy(above)
    return below | {key: merge(below.get(key), value) for key, value in above.items()}


@functools.cache
def values_file(name):
    return strictyaml.load((VALUES / f"{name}.yaml").read_text())


def values_of(*layers):
    """Layers, the last one wins: names of files in values/, or maps."""
    return functools.reduce(merge, [values_file(each) if isinstance(each, str) else each for each in layers], {})


def run(*arguments, stdin=None):
    done = subprocess.run([str(each) for each in arguments], input=stdin, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@functools.cache
def _template(values, helm, chart, release, namespace, kubernetes):
    return run(
        helm, "template", release, chart, "--namespace", namespace, "--kube-version", kubernetes, "--values", "-", stdin=values
    )  # fmt: skip


def as_json(values):
    # YAML, unlike JSON, has no surrogate pairs, and no DEL that is not escaped.
    return json.dumps(values, ensure_ascii=False).replace("\x7f", "\\u007f")


def text(*layers, helm=HELM, chart=CHART, release="claviger", namespace="login", kubernetes=KUBERNETES[-1]):
    values = as_json(values_of(*layers))
    status, out, error = _template(values, helm, chart, release, namespace, kubernetes)
    assert status == 0, error
    return out


def render(*layers, **options):
    return Objects(strictyaml.load_all(text(*layers, **options)))


def fails(*layers, helm=HELM, chart=CHART, release="claviger", namespace="login", kubernetes=KUBERNETES[-1]):
    """The message with which the chart refuses the values."""
    status, out, error = _template(as_json(values_of(*layers)), helm, chart, release, namespace, kubernetes)
    assert status != 0, f"these values were accepted:\n{out}"
    return error


def notes(*layers, release="claviger", namespace="login"):
    status, out, error = run(
        HELM, "install", release, CHART, "--namespace", namespace, "--dry-run=client", "--values", "-",
        stdin=as_json(values_of(*layers)),
    )  # fmt: skip
    assert status == 0, error
    return out.split("\nNOTES:\n", 1)[1]


def pod_specs(objects):
    """Of every pod that the objects make: the name of the object, labels, annotations and spec."""
    for each in objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield name, each["metadata"], each["spec"]
        elif each["kind"] in ("Deployment", "Job"):
            template = each["spec"]["template"]
            yield name, template["metadata"], template["spec"]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def leaves(values, path=()):
    """The path of every value that is no map, or an empty one."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


def get(values, path, default=None):
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return default
        values = values[key]
    return values
