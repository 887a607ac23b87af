"""The items of one cluster in a load balancer, as Azure's JSON: frontend, pool, probe, a rule per listener. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from farmstead_api import names
from farmstead_api.common import Switch
from farmstead_api.farmcluster import Affinity, Listener, Protocol
from farmstead_operator.azure.document import ABSENT, Json
from farmstead_operator.azure.names import frontend_item, item_name
from farmstead_operator.azure.shares import ClusterShare, LoadBalancerKey

FRONTENDS = "frontendIPConfigurations"
POOLS = "backendAddressPools"
PROBES = "probes"
RULES = "loadBalancingRules"
COLLECTIONS = (FRONTENDS, POOLS, PROBES, RULES)
"""What we write."""
OTHER_COLLECTIONS = ("inboundNatRules", "inboundNatPools", "outboundRules")
"""What is never ours."""

_DISTRIBUTION = {
    Affinity.NONE: "Default",
    Affinity.CLIENT_IP: "SourceIP",
    Affinity.CLIENT_IP_PROTOCOL: "SourceIPProtocol",
}
_PROTOCOL = {Protocol.TCP: "Tcp", Protocol.UDP: "Udp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """One cluster's items by collection."""

    frontend: str = ""
    """Name of the frontend that it uses; another one's is not among its items."""
    frontends: list[Json] = field(default_factory=list)
    pools: list[Json] = field(default_factory=list)
    probes: list[Json] = field(default_factory=list)
    rules: list[Json] = field(default_factory=list)

    def of(self, collection: str) -> list[Json]:
        """The items of a collection."""
        return {FRONTENDS: self.frontends, POOLS: self.pools, PROBES: self.probes, RULES: self.rules}[collection]


def frontend(share: ClusterShare, *, public_ip_id: str | None) -> Json:
    """The frontend that a share wants, were it alone; its name holds its address."""
    wanted = share.frontend
    prefix = share.cluster.prefix
    if public_ip_id is not None:
        properties: Json = {"publicIPAddress": {"id": public_ip_id}, "subnet": ABSENT}
        return {"name": item_name(prefix, frontend_item(public_ip_id)), "properties": properties}
    static = wanted.private_ip_address
    properties = {
        "subnet": {"id": wanted.subnet_id},
        "publicIPAddress": ABSENT,
        "privateIPAllocationMethod": "Static" if static else "Dynamic",
    }
    if static:
        properties["privateIPAddress"] = static
    address = f"{wanted.subnet_id}|{static or 'dynamic'}"
    item: Json = {"name": item_name(prefix, frontend_item(address)), "properties": properties}
    if wanted.zones:
        item["zones"] = list(wanted.zones)
    return item


def address_of(item: Json) -> str | None:
    """What of a frontend Azure gives to one frontend of a load balancer alone; None while Azure chooses it."""
    properties = item.get("properties") or {}
    if public := (properties.get("publicIPAddress") or {}).get("id"):
        return str(public).casefold()
    static = properties.get("privateIPAllocationMethod") == "Static" and properties.get("privateIPAddress")
    subnet = (properties.get("subnet") or {}).get("id")
    return f"{subnet}|{static}".casefold() if static and subnet else None


def build(key: LoadBalancerKey, share: ClusterShare, *, frontend_item: Json, own_frontend: bool) -> Items:
    """All that a share wants, with its rules on the given frontend."""
    pool = _pool(share)
    probe = _probe(share)
    references = {
        "frontendIPConfiguration": {"id": key.item_id(FRONTENDS, frontend_item["name"])},
        "backendAddressPool": {"id": key.item_id(POOLS, pool["name"])},
        "backendAddressPools": [{"id": key.item_id(POOLS, pool["name"])}],
        "probe": {"id": key.item_id(PROBES, probe["name"])},
    }
    return Items(
        frontend=frontend_item["name"],
        frontends=[frontend_item] if own_frontend else [],
        pools=[pool],
        probes=[probe],
        rules=[_rule(share, listener, references) for listener in share.listeners],
    )


def _pool(share: ClusterShare) -> Json:
    return {
        "name": item_name(share.cluster.prefix, "pool"),
        "properties": {
            "loadBalancerBackendAddresses": [
                {
                    "name": names.azure_name(node),
                    "properties": {
                        "ipAddress": address,
                        "virtualNetwork": {"id": share.virtual_network_id},
                        "adminState": "None",
                    },
                }
                for node, address in share.backends
            ]
        },
    }


def _probe(share: ClusterShare) -> Json:
    return {
        "name": item_name(share.cluster.prefix, "probe"),
        "properties": {
            "protocol": "Http",
            "port": share.probe.port,
            "requestPath": names.probe_path(*share.cluster),
            "intervalInSeconds": share.probe.interval_seconds,
            "numberOfProbes": share.probe.threshold,
            "probeThreshold": share.probe.threshold,
            "noHealthyBackendsBehavior": share.no_healthy_backends.value,
        },
    }


def _rule(share: ClusterShare, listener: Listener, references: Json) -> Json:
    tcp = listener.protocol is Protocol.TCP
    return {
        "name": share.rule_name(listener.name),
        "properties": {
            **references,
            "protocol": _PROTOCOL[listener.protocol],
            "frontendPort": listener.port,
            "backendPort": listener.effective_backend_port,
            "idleTimeoutInMinutes": listener.idle_timeout_seconds // 60,
            "loadDistribution": _DISTRIBUTION[listener.affinity],
            "enableFloatingIP": False,
            "enableTcpReset": tcp and listener.tcp_reset is Switch.ENABLED,
            "disableOutboundSnat": True,
        },
    }
