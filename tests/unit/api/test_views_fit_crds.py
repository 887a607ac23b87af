"""The YAML in crds/ and the views in farmstead_api say the same: names, types, enums, defaults, required fields."""

import enum
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest
import yaml

from farmstead_api import FarmCluster, FarmNode, Member, Operation
from farmstead_api.meta import View

CRDS = Path(__file__).parents[3] / "crds"
KINDS: Mapping[str, type[View]] = {
    "farmcluster": FarmCluster,
    "farmnode": FarmNode,
    "member": Member,
    "operation": Operation,
}
# Members share one class with clusters; each of the two carries scripts in its own way.
ONLY_IN_VIEW = {
    "farmcluster.spec.application.scripts.files",
    "member.spec.application.scripts.configMap",
}
# What the operator shows of a member that never reported; no agent writes it.
ENUM_ONLY_IN_VIEW = {"member.status.state": {"Unknown"}}


def schema_of(name: str) -> dict[str, Any]:
    """The OpenAPI schema of a kind."""
    crd = yaml.safe_load((CRDS / f"{name}.yaml").read_text())
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def optional(annotation: Any) -> Any:
    """The annotation without `| None`."""
    if get_origin(annotation) in {Union, types.UnionType}:
        (rest,) = (a for a in get_args(annotation) if a is not type(None))
        return rest
    return annotation


def differences(view: type[View], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    """What a view and a schema say differently, one line each."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    fields = {field.encode_name: field for field in msgspec.structs.fields(view)}
    for missing in properties.keys() - fields.keys() - {"apiVersion", "kind"}:
        yield f"{where}.{missing}: in the YAML, not in the view {view.__name__}"
    for name, field in fields.items():
        path = f"{where}.{name}"
        if name == "metadata" or path in ONLY_IN_VIEW:
            continue
        if name not in properties:
            yield f"{path}: in the view {view.__name__}, not in the YAML"
            continue
        if field.required and name not in schema.get("required", []) and "default" not in properties[name]:
            yield f"{path}: the view needs it, the YAML does not"
        yield from field_differences(field, properties[name], path)


def field_differences(field: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """What one field of a view and its schema say differently."""
    declared = schema.get("default", {})
    default = msgspec.to_builtins(field.default, builtin_types=()) if field.default is not msgspec.NODEFAULT else None
    default = list(default) if isinstance(default, tuple) else default
    if declared not in ({}, default):  # {}: the parts have defaults of their own
        yield f"{path}: default {declared!r} in the YAML, {default!r} in the view"
    yield from type_differences(optional(field.type), schema, path)


SCALARS = {str: "string", int: "integer", bool: "boolean"}


def type_differences(annotation: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """What a type and a schema say differently."""
    origin = get_origin(annotation)
    if origin is tuple:
        if schema.get("type") != "array":
            yield f"{path}: a list in the view, {schema.get('type')} in the YAML"
        else:
            yield from type_differences(get_args(annotation)[0], schema["items"], f"{path}[]")
    elif origin is not None and issubclass(origin, Mapping):
        if "additionalProperties" not in schema:
            yield f"{path}: a map in the view, not in the YAML"
    elif issubclass(annotation, View):
        yield from differences(annotation, schema, path)
    elif issubclass(annotation, enum.Enum):
        extra = ENUM_ONLY_IN_VIEW.get(path, set())
        if set(schema.get("enum", ())) != {member.value for member in annotation} - extra:
            yield f"{path}: enum {schema.get('enum')} in the YAML, {[m.value for m in annotation]} in the view"
    elif SCALARS[annotation] != schema.get("type"):
        yield f"{path}: {annotation.__name__} in the view, {schema.get('type')} in the YAML"


@pytest.mark.parametrize("name", KINDS)
def test_view_and_schema_say_the_same(name: str) -> None:
    assert list(differences(KINDS[name], schema_of(name), name)) == []


def without_rules(schema: Any) -> Any:
    """A schema without its CEL rules."""
    if isinstance(schema, dict):
        return {key: without_rules(value) for key, value in schema.items() if key != "x-kubernetes-validations"}
    if isinstance(schema, list):
        return [without_rules(value) for value in schema]
    return schema


@pytest.mark.parametrize("part", ["application", "checks", "probe", "drain", "failover", "maintenance"])
def test_a_member_carries_what_its_cluster_says(part: str) -> None:
    cluster, member = (
        without_rules(schema_of(name)["properties"]["spec"]["properties"][part]) for name in ("farmcluster", "member")
    )
    if part == "application":
        del cluster["properties"]["scripts"]["properties"]["configMap"]
        del member["properties"]["scripts"]["properties"]["files"]
    assert member == cluster


def unbounded(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Paths of strings, lists and maps without a bound; CEL's cost limit counts on bounds."""
    match schema.get("type"):
        case "string" if not {"maxLength", "enum", "format"} & schema.keys():
            yield path
        case "array":
            if "maxItems" not in schema:
                yield path
            yield from unbounded(schema["items"], f"{path}[]")
        case "object":
            if "additionalProperties" in schema and "maxProperties" not in schema:
                yield path
            for name, value in schema.get("properties", {}).items():
                if (path, name) not in {("", "apiVersion"), ("", "kind"), ("", "metadata")}:
                    yield from unbounded(value, f"{path}.{name}")


@pytest.mark.parametrize("name", KINDS)
def test_everything_is_bounded(name: str) -> None:
    assert list(unbounded(schema_of(name), "")) == []


def test_a_difference_is_found() -> None:
    class Wrong(View, frozen=True):
        nameless: int = 3

    found = list(differences(Wrong, {"properties": {"other": {"type": "string"}}}, "x"))
    assert found == ["x.other: in the YAML, not in the view Wrong", "x.nameless: in the view Wrong, not in the YAML"]


def test_hints_resolve() -> None:
    for view in KINDS.values():
        assert typing.get_type_hints(view)


def undescribed(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Paths of fields that `kubectl explain` would say nothing about."""
    if "description" not in schema:
        yield path
    for name, value in schema.get("properties", {}).items():
        yield from undescribed(value, f"{path}.{name}")
        yield from undescribed({"description": "of the list"} | value.get("items", {}), f"{path}.{name}[]")


@pytest.mark.parametrize("name", KINDS)
def test_every_field_of_a_spec_is_explained(name: str) -> None:
    assert list(undescribed(schema_of(name)["properties"]["spec"], f"{name}.spec")) == []
