"""Addresses: public ones from a configured range, private ones from their subnet.

Pure. A public address is given once and comes back when its resource goes; the lowest free one is taken, so
that a story gives the same addresses each time. Putting an address on an interface is the data plane's work.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from testbed.azure.errors import ArmError, Json, bad_request
from testbed.azure.ids import LOAD_BALANCERS, PUBLIC_IPS, ResourceId, parse_id
from testbed.azure.store import Store

# Azure keeps the first four addresses of a subnet and the last one to itself.
_RESERVED = 4


def public_address(store: Store, frontends: str) -> str:
    """The lowest address of the range that no public IP address has.

    Raises ArmError where the range is used up.
    """
    taken = {one.body["properties"].get("ipAddress") for one in store.of_type(PUBLIC_IPS)}
    free = _first_free(ipaddress.ip_network(frontends).hosts(), taken)
    if free is None:
        text = "Cannot create more public IP addresses: the range of this region is used up."
        raise ArmError(400, "PublicIPCountLimitReached", text, details=())
    return free


def private_address(store: Store, subnet: ResourceId, *, promised: Collection[str] = ()) -> str:
    """The lowest free address of a subnet that is not `promised` to another frontend of the same write.

    Raises ArmError where the subnet is full.
    """
    network = subnet_network(store, subnet)
    taken = {*private_addresses(store, subnet), *promised}
    hosts = (one for one in network if _usable(one, network))
    free = _first_free(hosts, taken)
    if free is None:
        text = f"Subnet {subnet.child} with address prefix {network} does not have enough capacity for 1 IP addresses."
        raise bad_request("SubnetIsFull", text)
    return free


def private_address_error(rid: ResourceId, frontend: Json, store: Store) -> ArmError | None:
    """Why a frontend can't have the private address that it asks for."""
    subnet = parse_id(frontend["subnet"]["id"])
    if subnet is None or not subnet.child:
        return None
    wanted = frontend["privateIPAddress"]
    network = subnet_network(store, subnet)
    address = ipaddress.ip_address(wanted)
    if address not in network:
        text = f"Private static IP address {wanted} does not belong to the range of subnet prefix {network}."
        return bad_request("PrivateIPAddressNotInSubnet", text)
    if not _usable(address, network):
        text = f"Private static IP address {wanted} falls within reserved IP range of subnet prefix {network}."
        return bad_request("PrivateIPAddressInReservedRange", text)
    other = private_addresses(store, subnet).get(wanted)
    if other is not None and other.lower() != rid.key:
        text = (
            f"IP configuration {rid.text} is using the private IP address {wanted} which is already "
            "allocated to "
            f"resource {other}."
        )
        return bad_request("PrivateIPAddressIsAllocated", text)
    return None


def private_addresses(store: Store, subnet: ResourceId) -> dict[str, str]:
    """Address -> id of the frontend that holds it."""
    held: dict[str, str] = {}
    for balancer in store.of_type(LOAD_BALANCERS):
        for item in balancer.body["properties"]["frontendIPConfigurations"]:
            properties = item["properties"]
            if (properties.get("subnet") or {}).get("id", "").lower() == subnet.key:
                rid = balancer.id.with_child("frontendIPConfigurations", item["name"])
                held[properties.get("privateIPAddress", "")] = rid.text
    return held


def subnet_network(store: Store, subnet: ResourceId) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    child = store.child(subnet)
    properties = child["properties"] if child else {}
    prefix = properties.get("addressPrefix") or next(iter(properties.get("addressPrefixes") or ["0.0.0.0/0"]))
    return ipaddress.ip_network(prefix)


def _usable(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> bool:
    offset = int(address) - int(network.network_address)
    return offset >= _RESERVED and address != network.broadcast_address


def _first_free(
    hosts: Iterable[ipaddress.IPv4Address | ipaddress.IPv6Address], taken: Iterable[str | None]
) -> str | None:
    used = set(taken)
    return next((str(one) for one in hosts if str(one) not in used), None)
