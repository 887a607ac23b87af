"""What the service makes of a client's body: read-only fields dropped, references cut to ids, defaults.

Pure. The result is the stored goal; `rendering` adds to it what Azure computes (ids, etags, back references).
Unknown fields stay where they are. Nothing is refused here: that is `rules`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from testbed.azure.errors import Json
from testbed.azure.ids import CHILDREN, LOAD_BALANCERS, PUBLIC_IPS, VIRTUAL_NETWORKS

# Properties that only the service writes, by collection. Clients send them back after a GET; they mean
# nothing then.
_COMPUTED: dict[str, frozenset[str]] = {
    "frontendIPConfigurations": frozenset(
        {"inboundNatRules", "inboundNatPools", "outboundRules", "loadBalancingRules", "provisioningState"}
    ),
    "backendAddressPools": frozenset(
        {
            "backendIPConfigurations",
            "loadBalancingRules",
            "outboundRule",
            "outboundRules",
            "inboundNatRules",
            "provisioningState",
        }
    ),
    "probes": frozenset({"loadBalancingRules", "provisioningState"}),
    "inboundNatRules": frozenset({"backendIPConfiguration", "provisioningState"}),
    "subnets": frozenset({"ipConfigurations", "provisioningState", "privateEndpoints", "purpose"}),
    PUBLIC_IPS: frozenset({"ipConfiguration", "provisioningState", "resourceGuid"}),
}
_ALWAYS_COMPUTED = frozenset({"provisioningState", "resourceGuid"})

# Whole objects may be given; the service keeps the id alone.
_REFERENCES = frozenset(
    {
        "publicIPAddress",
        "subnet",
        "publicIPPrefix",
        "gatewayLoadBalancer",
        "frontendIPConfiguration",
        "backendAddressPool",
        "probe",
        "virtualNetwork",
        "loadBalancerFrontendIPConfiguration",
    }
)
_REFERENCE_LISTS = {
    "loadBalancingRules": "backendAddressPools",
    "outboundRules": "frontendIPConfigurations",
}

_DEFAULTS: dict[str, Json] = {
    "probes": {
        "intervalInSeconds": 15,
        "numberOfProbes": 2,
        "probeThreshold": 1,
        "noHealthyBackendsBehavior": "AllProbedDown",
    },
    "loadBalancingRules": {
        "enableFloatingIP": False,
        "idleTimeoutInMinutes": 4,
        "enableTcpReset": False,
        "loadDistribution": "Default",
        "disableOutboundSnat": False,
        "enableConnectionTracking": False,
    },
    "inboundNatRules": {"enableFloatingIP": False, "idleTimeoutInMinutes": 4, "enableTcpReset": False},
    "outboundRules": {"allocatedOutboundPorts": 0, "idleTimeoutInMinutes": 4, "enableTcpReset": False},
    "backendAddressPools": {"loadBalancerBackendAddresses": []},
    "subnets": {
        "delegations": [],
        "privateEndpointNetworkPolicies": "Disabled",
        "privateLinkServiceNetworkPolicies": "Enabled",
    },
    PUBLIC_IPS: {
        "publicIPAddressVersion": "IPv4",
        "publicIPAllocationMethod": "Dynamic",
        "idleTimeoutInMinutes": 4,
        "ipTags": [],
    },
    VIRTUAL_NETWORKS: {
        "addressSpace": {"addressPrefixes": []},
        "privateEndpointVNetPolicies": "Disabled",
        "subnets": [],
        "virtualNetworkPeerings": [],
        "enableDdosProtection": False,
    },
}


def normalise(resource_type: str, body: Json) -> Json:
    """The goal that a PUT of a whole top-level resource leaves in the store."""
    kept = {
        key: copy.deepcopy(value)
        for key, value in body.items()
        if key not in ("id", "name", "type", "etag", "properties") and value is not None
    }
    properties = _known(body.get("properties"))
    drop = _ALWAYS_COMPUTED | _COMPUTED.get(resource_type, frozenset())
    goal = {key: copy.deepcopy(value) for key, value in properties.items() if key not in drop}
    for collection in CHILDREN[resource_type]:
        items = goal.get(collection) or []
        goal[collection] = [normalise_child(collection, item) for item in items]
    _fill(goal, _DEFAULTS.get(resource_type, {}))
    kept["properties"] = goal
    _SHAPES[resource_type](kept)
    return kept


def normalise_child(collection: str, item: Json, *, name: str | None = None) -> Json:
    """The goal of one child; `name` is that of the path where the child is written on its own."""
    kept = {key: copy.deepcopy(value) for key, value in item.items() if key not in ("id", "type", "etag")}
    kept["name"] = name or item.get("name") or str(item.get("id", "")).rpartition("/")[2]
    drop = _ALWAYS_COMPUTED | _COMPUTED.get(collection, frozenset())
    properties = {
        key: _reference(value) if key in _REFERENCES else copy.deepcopy(value)
        for key, value in _known(item.get("properties")).items()
        if key not in drop
    }
    listed = _REFERENCE_LISTS.get(collection)
    if listed and properties.get(listed):
        properties[listed] = [_reference(value) for value in properties[listed]]
    _fill(properties, _DEFAULTS.get(collection, {}))
    shape = _CHILD_SHAPES.get(collection)
    if shape is not None:
        shape(properties)
    kept["properties"] = properties
    return kept


def _load_balancer(body: Json) -> None:
    _fill(body.setdefault("sku", {}), {"name": "Basic", "tier": "Regional"})


def _public_ip(body: Json) -> None:
    sku = body.setdefault("sku", {})
    _fill(sku, {"name": "Basic", "tier": "Regional"})
    if sku["name"] == "Standard":
        _fill(body["properties"], {"ddosSettings": {"protectionMode": "VirtualNetworkInherited"}})


def _virtual_network(body: Json) -> None:
    """Nothing beyond the defaults: a virtual network has no sku."""


def _rule(properties: Json) -> None:
    """The older field names one pool, the newer lists pools: Azure answers with both."""
    pools = properties.get("backendAddressPools")
    one = properties.get("backendAddressPool")
    if pools:
        properties["backendAddressPool"] = dict(pools[0])
    elif one:
        properties["backendAddressPools"] = [dict(one)]


def _pool(properties: Json) -> None:
    addresses = []
    for address in properties.get("loadBalancerBackendAddresses") or []:
        inner = {
            key: _reference(value) if key in _REFERENCES else value
            for key, value in _known(address.get("properties")).items()
            if key not in ("networkInterfaceIPConfiguration", "inboundNatRulesPortMapping")
        }
        addresses.append({**address, "properties": inner})
    properties["loadBalancerBackendAddresses"] = addresses


def _frontend(properties: Json) -> None:
    if properties.get("subnet"):
        static = bool(properties.get("privateIPAddress")) and (properties.get("privateIPAllocationMethod") != "Dynamic")
        _fill(properties, {"privateIPAddressVersion": "IPv4"})
        _fill(properties, {"privateIPAllocationMethod": "Static" if static else "Dynamic"})
    else:
        _fill(properties, {"privateIPAllocationMethod": "Dynamic"})


def _fill(target: Json, defaults: Json) -> None:
    for key, value in defaults.items():
        if target.get(key) is None:
            target[key] = copy.deepcopy(value)


def _known(properties: Any) -> Json:
    return {key: value for key, value in (properties or {}).items() if value is not None}


def _reference(value: Any) -> Any:
    return {"id": value["id"]} if isinstance(value, dict) and "id" in value else value


_SHAPES: dict[str, Callable[[Json], None]] = {
    LOAD_BALANCERS: _load_balancer,
    PUBLIC_IPS: _public_ip,
    VIRTUAL_NETWORKS: _virtual_network,
}
_CHILD_SHAPES: dict[str, Callable[[Json], None]] = {
    "loadBalancingRules": _rule,
    "backendAddressPools": _pool,
    "frontendIPConfigurations": _frontend,
}
