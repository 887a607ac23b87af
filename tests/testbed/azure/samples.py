"""Bodies of a small load balancer and what it stands on, for tests of the emulator and of its clients."""

from __future__ import annotations

from azure.mgmt.network import models
from azure.mgmt.network.aio import NetworkManagementClient

from testbed.azure.errors import Json
from testbed.azure.ids import LOAD_BALANCERS, ResourceId

LOCATION = "eastus"


def public_ip() -> Json:
    """A standard public IP address."""
    return {
        "location": LOCATION,
        "sku": {"name": "Standard"},
        "properties": {"publicIPAllocationMethod": "Static"},
    }


def virtual_network(prefix: str = "127.0.0.0/8") -> Json:
    """A virtual network of one subnet; loopback by default, so that its machines are this one."""
    return {
        "location": LOCATION,
        "properties": {
            "addressSpace": {"addressPrefixes": [prefix]},
            "subnets": [{"name": "members", "properties": {"addressPrefix": prefix}}],
        },
    }


def load_balancer(
    subscription: str,
    *,
    group: str = "rg",
    name: str = "lb",
    frontend_ip: str,
    network: str,
    members: tuple[str, ...] = ("127.0.0.1",),
    frontend_port: int = 80,
    backend_port: int = 80,
    probe: Json | None = None,
    rule: Json | None = None,
) -> Json:
    """One frontend, one pool by address, one HTTP probe, one rule; `probe` and `rule` override properties."""
    rid = ResourceId(subscription, group, LOAD_BALANCERS, name)
    frontend = rid.with_child("frontendIPConfigurations", "frontend").text
    addresses = [
        {"name": f"member-{n}", "properties": {"ipAddress": address, "virtualNetwork": {"id": network}}}
        for n, address in enumerate(members)
    ]
    rule_properties = {
        "protocol": "Tcp",
        "frontendPort": frontend_port,
        "backendPort": backend_port,
        "frontendIPConfiguration": {"id": frontend},
        "backendAddressPool": {"id": rid.with_child("backendAddressPools", "pool").text},
        "probe": {"id": rid.with_child("probes", "probe").text},
        "disableOutboundSnat": True,
    }
    probe_properties = {
        "protocol": "Http",
        "port": backend_port,
        "requestPath": "/",
        "intervalInSeconds": 5,
        "probeThreshold": 1,
    }
    return {
        "location": LOCATION,
        "sku": {"name": "Standard"},
        "properties": {
            "frontendIPConfigurations": [{"name": "frontend", "properties": {"publicIPAddress": {"id": frontend_ip}}}],
            "backendAddressPools": [{"name": "pool", "properties": {"loadBalancerBackendAddresses": addresses}}],
            "probes": [{"name": "probe", "properties": probe_properties | (probe or {})}],
            "loadBalancingRules": [{"name": "rule", "properties": rule_properties | (rule or {})}],
        },
    }


async def create_foundations(client: NetworkManagementClient, *, group: str = "rg") -> tuple[str, str]:
    """Create a public IP address `ip` and a virtual network `vnet`; their ids."""
    address = await client.public_ip_addresses.begin_create_or_update(group, "ip", models.PublicIPAddress(public_ip()))
    network = await client.virtual_networks.begin_create_or_update(
        group, "vnet", models.VirtualNetwork(virtual_network())
    )
    ids = (await address.result()).id, (await network.result()).id
    assert ids[0], ids
    assert ids[1], ids
    return ids[0], ids[1]
