"""What Azure refuses about references: to what is missing, not ready, in use or of another kind.

Pure checks for the chains of `rules`, and the reasons why something in use can't be deleted.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.azure.addresses import private_address_error
from testbed.azure.errors import (
    ArmError,
    bad_request,
    invalid_reference,
    not_provisioned,
)
from testbed.azure.ids import CHILDREN, PUBLIC_IPS, VIRTUAL_NETWORKS, ResourceId, parse_id
from testbed.azure.rendering import frontends_by_reference
from testbed.azure.store import SUCCEEDED, Resource, Store
from testbed.azure.writes import Write, plain_location


def inner_references_exist(write: Write) -> ArmError | None:
    there = {rid.key for collection in CHILDREN[write.id.type] for rid, _ in write.children(collection)}
    for rid, used in _inner_references(write):
        if used.lower() not in there:
            return invalid_reference(used=used, user=rid.text)
    return None


def outer_references_exist(write: Write) -> ArmError | None:
    for rid, used in _outer_references(write):
        found = parse_id(used)
        target = write.store.get(found) if found else None
        if found is None or target is None or (found.child and write.store.child(found) is None):
            return invalid_reference(used=used, user=rid.text)
        if plain_location(target.body["location"]) != plain_location(write.goal["location"]):
            return invalid_reference(used=used, user=rid.text)
    return None


def outer_references_are_ready(write: Write) -> ArmError | None:
    for rid, used in _outer_references(write):
        found = parse_id(used)
        target = write.store.get(found) if found else None
        if target is not None and target.state != SUCCEEDED:
            return not_provisioned(used=used, user=rid.text, state=target.state, operation=target.operation)
    return None


def skus_match(write: Write) -> ArmError | None:
    sku = write.goal["sku"]["name"]
    for _, used in _public_addresses(write):
        found = parse_id(used)
        address = write.store.get(found) if found else None
        other = address.body["sku"]["name"] if address else sku
        if other != sku:
            text = f"{sku} sku load balancer {write.id.text} cannot reference {other} sku publicIP {used}."
            return bad_request("PublicIPAndLBSkuDoNotMatch", text)
    return None


def public_addresses_are_free(write: Write) -> ArmError | None:
    users = frontends_by_reference(write.store)
    own = write.id.parent.key + "/"
    seen: dict[str, str] = {}
    for rid, used in _public_addresses(write):
        others = [user for user in users.get(used.lower(), []) if not user.lower().startswith(own)]
        other = next(iter(others), seen.get(used.lower()))
        if other:
            text = (
                f"Resource {rid.text} is referencing public IP address {used} that is already allocated to "
                f"resource {other}."
            )
            return bad_request("PublicIPAddressInUse", text)
        seen[used.lower()] = rid.text
    return None


def private_addresses_fit(write: Write) -> ArmError | None:
    for rid, frontend in write.children("frontendIPConfigurations"):
        if frontend.get("subnet") and frontend.get("privateIPAddress"):
            error = private_address_error(rid, frontend, write.store)
            if error is not None:
                return error
    return None


def subnets_fit(write: Write) -> ArmError | None:
    """A subnet that holds a frontend can't vanish."""
    users = frontends_by_reference(write.store)
    left = {rid.key for rid, _ in write.children("subnets")}
    if write.before is None:
        return None
    for item in write.before.body["properties"]["subnets"]:
        rid = write.id.with_child("subnets", item["name"])
        if rid.key not in left and users.get(rid.key):
            return subnet_in_use(rid, users[rid.key][0])
    return None


def subnet_in_use(subnet: ResourceId, user: str) -> ArmError:
    text = (
        f"Subnet {subnet.child} is in use by {user} and cannot be deleted. In order to delete the subnet, "
        "delete "
        "all the resources within the subnet. See aka.ms/deletesubnet."
    )
    return bad_request("InUseSubnetCannotBeDeleted", text)


def delete_error(resource: Resource, store: Store) -> ArmError | None:
    """Why a top-level resource can't be deleted now."""
    users = frontends_by_reference(store)
    if resource.id.type == PUBLIC_IPS and users.get(resource.id.key):
        text = (
            f"Public IP address {resource.id.text} can not be deleted since it is still allocated to "
            "resource "
            f"{users[resource.id.key][0]}. In order to delete the public IP, disassociate/detach the Public "
            "IP "
            "address from the resource. To learn how to do this, see aka.ms/deletepublicip."
        )
        return bad_request("PublicIPAddressCannotBeDeleted", text)
    if resource.id.type == VIRTUAL_NETWORKS:
        for item in resource.body["properties"]["subnets"]:
            rid = resource.id.with_child("subnets", item["name"])
            if users.get(rid.key):
                return subnet_in_use(rid, users[rid.key][0])
    return None


def _inner_references(write: Write) -> Iterator[tuple[ResourceId, str]]:
    for collection in ("loadBalancingRules", "inboundNatRules", "inboundNatPools", "outboundRules"):
        for rid, item in write.children(collection):
            for name in ("frontendIPConfiguration", "probe", "backendAddressPool"):
                if item.get(name):
                    yield rid, item[name]["id"]
            for name in ("backendAddressPools", "frontendIPConfigurations"):
                for reference in item.get(name) or []:
                    yield rid, reference["id"]


def _outer_references(write: Write) -> Iterator[tuple[ResourceId, str]]:
    yield from _public_addresses(write)
    for rid, frontend in write.children("frontendIPConfigurations"):
        if frontend.get("subnet"):
            yield rid, frontend["subnet"]["id"]
    for rid, pool in write.children("backendAddressPools"):
        seen: set[str] = set()
        for address in (pool, *(one["properties"] for one in pool["loadBalancerBackendAddresses"])):
            for name in ("virtualNetwork", "subnet"):
                used = (address.get(name) or {}).get("id")
                if used and used not in seen:
                    seen.add(used)
                    yield rid, used


def _public_addresses(write: Write) -> Iterator[tuple[ResourceId, str]]:
    for rid, frontend in write.children("frontendIPConfigurations"):
        if frontend.get("publicIPAddress"):
            yield rid, frontend["publicIPAddress"]["id"]
