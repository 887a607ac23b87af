"""Shares and documents for the tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from farmstead_api.common import Probe
from farmstead_api.farmcluster import Frontend, Listener, NoHealthyBackends
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.load_balancer.spec import MANAGED_BY_TAG
from farmstead_operator.azure.shares import BackendAddress, ClusterName, ClusterShare, LoadBalancerKey

KEY = LoadBalancerKey("sub", "group", "lb")
NETWORK = f"{KEY.group_id}/providers/Microsoft.Network/virtualNetworks/net"
SUBNET = f"{NETWORK}/subnets/front"
INSTANCE = "this-operator"
OURS = {MANAGED_BY_TAG: INSTANCE}


def share(name: str = "web", namespace: str = "shop", **changes: Any) -> ClusterShare:
    """An internal share with one listener and one machine."""
    wanted = ClusterShare(
        cluster=ClusterName(namespace, name),
        uid="uid",
        location="eastus",
        frontend=Frontend(subnet_id=SUBNET),
        listeners=(Listener(name="http", port=80),),
        probe=Probe(),
        no_healthy_backends=NoHealthyBackends.ALL_PROBED_DOWN,
        virtual_network_id=NETWORK,
        backends=(BackendAddress("vm1", "10.0.1.4"),),
    )
    return replace(wanted, **changes)


def document(*, tags: dict[str, str] | None = None, sku: str = "Standard", **collections: list[Json]) -> Json:
    """A load balancer as Azure would show it."""
    properties: Json = {"provisioningState": "Succeeded", "frontendIPConfigurations": [], "backendAddressPools": []}
    properties |= {"loadBalancingRules": [], "probes": [], "inboundNatRules": [], "outboundRules": []}
    return {
        "id": KEY.id,
        "name": KEY.name,
        "etag": 'W/"1"',
        "location": "eastus",
        "sku": {"name": sku, "tier": "Regional"},
        "tags": tags or {},
        "properties": properties | collections,
    }
