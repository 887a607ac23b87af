"""What a GET prints: the stored goal plus what Azure computes: ids, etags, states, back references.

Pure. Back references are looked up here and never stored, so they can't be stale: a frontend names the rules
on it, a pool and a probe the rules that use them, a public IP address and a subnet the frontend that holds an
address.
"""

from __future__ import annotations

import copy
from typing import Any

from testbed.azure.errors import Json
from testbed.azure.ids import CHILDREN, LOAD_BALANCERS, PUBLIC_IPS, VIRTUAL_NETWORKS, ResourceId
from testbed.azure.store import Resource, Store, find_named

_TOP = ("location", "extendedLocation", "tags", "zones")


def render(resource: Resource, store: Store, *, reduced: bool = False) -> Json:
    """A whole resource. `reduced` leaves the back references out, as detailLevel=Reduced does."""
    rid = resource.id
    answer: Json = {
        "name": rid.name,
        "id": rid.text,
        "etag": resource.etag_text,
        "type": rid.full_type,
    }
    answer |= {key: copy.deepcopy(resource.body[key]) for key in _TOP if key in resource.body}
    properties: Json = {"provisioningState": resource.state, "resourceGuid": resource.guid}
    back = {} if reduced else _back_references(resource, store)
    for key, value in resource.body["properties"].items():
        if key not in CHILDREN[rid.type]:
            properties[key] = copy.deepcopy(value)
    if rid.key in back:
        properties |= back[rid.key]
    for collection in CHILDREN[rid.type]:
        items = resource.body["properties"].get(collection, [])
        properties[collection] = [
            _child(resource, rid.with_child(collection, item["name"]), item, back) for item in items
        ]
    answer["properties"] = properties
    rest = {key: value for key, value in resource.body.items() if key not in (*_TOP, "properties")}
    return answer | copy.deepcopy(rest)


def render_child(resource: Resource, child: ResourceId, store: Store, *, reduced: bool = False) -> Json | None:
    """One child as it stands in its parent, or None."""
    item = find_named(resource.body["properties"].get(child.child_type, []), child.child)
    if item is None:
        return None
    back = {} if reduced else _back_references(resource, store)
    return _child(resource, resource.id.with_child(child.child_type, item["name"]), item, back)


def render_children(resource: Resource, collection: str, store: Store) -> list[Json]:
    back = _back_references(resource, store)
    return [
        _child(resource, resource.id.with_child(collection, item["name"]), item, back)
        for item in resource.body["properties"].get(collection, [])
    ]


def _child(resource: Resource, rid: ResourceId, item: Json, back: dict[str, Json]) -> Json:
    properties = {"provisioningState": resource.state} | copy.deepcopy(item["properties"])
    rest = {key: copy.deepcopy(value) for key, value in item.items() if key not in ("name", "properties")}
    return {
        "name": item["name"],
        "id": rid.text,
        "etag": resource.etag_text,
        "type": rid.full_type,
        **rest,
        "properties": properties | back.get(rid.key, {}),
    }


def _back_references(resource: Resource, store: Store) -> dict[str, Json]:
    """What points at this resource or its children: id key -> properties to add."""
    if resource.id.type == LOAD_BALANCERS:
        return _inside_load_balancer(resource)
    users = frontends_by_reference(store)
    if resource.id.type == PUBLIC_IPS:
        found = users.get(resource.id.key, [])
        return {resource.id.key: {"ipConfiguration": {"id": found[0]}}} if found else {}
    if resource.id.type == VIRTUAL_NETWORKS:
        return {
            key: {"ipConfigurations": [{"id": one} for one in ids]}
            for key, ids in users.items()
            if key.startswith(resource.id.key + "/")
        }
    return {}


def _inside_load_balancer(resource: Resource) -> dict[str, Json]:
    back: dict[str, Json] = {}

    def add(reference: Any, name: str, user: ResourceId) -> None:
        if isinstance(reference, dict) and "id" in reference:
            back.setdefault(reference["id"].lower(), {}).setdefault(name, []).append({"id": user.text})

    for collection in ("loadBalancingRules", "inboundNatRules", "inboundNatPools", "outboundRules"):
        for item in resource.body["properties"].get(collection, []):
            user = resource.id.with_child(collection, item["name"])
            properties = item["properties"]
            add(properties.get("frontendIPConfiguration"), collection, user)
            add(properties.get("probe"), collection, user)
            for frontend in properties.get("frontendIPConfigurations") or []:
                add(frontend, collection, user)
            for pool in properties.get("backendAddressPools") or [properties.get("backendAddressPool")]:
                add(pool, collection, user)
    return back


def frontends_by_reference(store: Store) -> dict[str, list[str]]:
    """Key of a public IP address or subnet -> ids of the frontends that use it."""
    users: dict[str, list[str]] = {}
    for balancer in store.of_type(LOAD_BALANCERS):
        for frontend in balancer.body["properties"]["frontendIPConfigurations"]:
            user = balancer.id.with_child("frontendIPConfigurations", frontend["name"]).text
            for name in ("publicIPAddress", "subnet"):
                reference = frontend["properties"].get(name)
                if reference:
                    users.setdefault(reference["id"].lower(), []).append(user)
    return users
