"""What a Kubernetes API server would say of an object: unknown fields are errors, as are two entries of a list with one key."""

import functools
import json
import os
import pathlib

import jsonschema
import kubernetes_validate
import referencing
import strictyaml

KUBERNETES = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
CRDS = pathlib.Path(os.environ["CRDS"])


def unique_keys(validator, keys, entries, schema):
    # The one key that has a default.
    seen = [tuple(each.get(key, "TCP" if key == "protocol" else None) for key in keys) for each in entries]
    for key in seen:
        if seen.count(key) > 1:
            yield jsonschema.ValidationError(f"two entries have the same {', '.join(keys)}: {key}")


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"x-kubernetes-list-map-keys": unique_keys})


@functools.cache
def definitions(version):
    text = (KUBERNETES / f"v{version}.0-local-strict/_definitions.json").read_text()
    return referencing.Resource.from_contents(json.loads(text)) @ referencing.Registry()


@functools.cache
def core(version, api, kind):
    group = api.split("/")
    group[0] = group[0].split(".")[0]
    path = KUBERNETES / f"v{version}.0-local-strict" / f"{kind.lower()}-{'-'.join(group)}.json"
    if not path.exists():
        return None
    schema = json.loads(path.read_text())
    return Validator(schema, registry=referencing.Resource.from_contents(schema) @ definitions(version))


def closed(schema):
    """A cluster drops silently what a CRD does not name; here it is an error."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


@functools.cache
def custom():
    found = {}
    for path in CRDS.iterdir():
        if path.suffix not in (".yaml", ".yml"):
            continue
        for crd in strictyaml.load_all(path.read_text()):
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                # A CRD says nothing of it.
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = Validator(schema)
    return found


@functools.cache
def _errors(text, version):
    each = json.loads(text)
    api, kind = each["apiVersion"], each["kind"]
    validator = core(version, api, kind) or custom().get((api, kind))
    if validator is None:
        return [f"Kubernetes {version} has no {kind} of {api}"]
    found = [*validator.iter_errors(each)]
    found += core(version, "v1", "ConfigMap").iter_errors(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": each["metadata"]}
    )
    return [f"{kind} {each['metadata']['name']}: {error.json_path}: {error.message}" for error in found]


def errors(each, version):
    return _errors(json.dumps(each), version)
