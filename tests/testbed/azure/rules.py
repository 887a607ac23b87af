"""What Azure refuses: listed chains of small checks, each with Azure's own code and words.

Pure: a check sees one intended write (the normalised goal, what is there now, the rest of the subscription)
and returns the error or nothing. The first error wins. Order is that of the service: shape, names,
references, rules.
"""

from __future__ import annotations

import re
from typing import Any

from testbed.azure.errors import (
    ArmError,
    bad_request,
    cannot_parse,
)
from testbed.azure.ids import CHILDREN, LOAD_BALANCERS, PUBLIC_IPS, VIRTUAL_NETWORKS, ResourceId
from testbed.azure.reference_rules import (
    inner_references_exist,
    outer_references_are_ready,
    outer_references_exist,
    private_addresses_fit,
    public_addresses_are_free,
    skus_match,
    subnets_fit,
)
from testbed.azure.writes import Check, Write, plain_location

_NAME = re.compile(r"^\w(?:[\w.-]*\w)?$", re.ASCII)
_LIMITS = {"frontendIPConfigurations": 600, "loadBalancingRules": 1500}
_POOL_LIMIT = 5000
_ANY_PORT = 0


def first_error(write: Write) -> ArmError | None:
    """The first check of the resource's type that refuses."""
    for check in CHAINS[write.id.type]:
        error = check(write)
        if error is not None:
            return error
    return None


def has_location(write: Write) -> ArmError | None:
    if not write.goal.get("location"):
        return ArmError(400, "LocationRequired", "The location property is required for this definition.")
    if write.before is None or plain_location(write.before.body["location"]) == plain_location(write.goal["location"]):
        return None
    text = (
        f"The resource '{write.id.name}' already exists in location '{write.before.body['location']}' in "
        "resource "
        f"group '{write.id.group}'. A resource with the same name cannot be created in location "
        f"'{write.goal['location']}'. Please select a new resource name."
    )
    return ArmError(409, "InvalidResourceLocation", text)


def keeps_sku(write: Write) -> ArmError | None:
    if write.before is None or write.before.body.get("sku") == write.goal.get("sku"):
        return None
    old, new = write.before.body["sku"]["name"], write.goal["sku"]["name"]
    text = f"Sku of resource {write.id.text} cannot be updated from {old} to {new}."
    return bad_request("SkuUpdateNotAllowed", text)


def names_are_valid(write: Write) -> ArmError | None:
    names = [write.id.name]
    names += [item["name"] for kind in CHILDREN[write.id.type] for item in write.goal["properties"].get(kind, [])]
    for name in names:
        if len(name) > 80 or not _NAME.match(name):
            text = (
                f"Resource name {name} is invalid. The name can be up to 80 characters long. It must begin "
                "with a "
                "word character, and it must end with a word character or with '_'. The name may contain "
                "word "
                "characters or '.', '-', '_'."
            )
            return bad_request("InvalidResourceName", text)
    return None


def names_are_unique(write: Write) -> ArmError | None:
    for collection in CHILDREN[write.id.type]:
        seen: set[str] = set()
        for rid, _ in write.children(collection):
            if rid.child.lower() in seen:
                text = f"Resource {write.id.text} has two child resources with the same name ({rid.child})."
                return cannot_parse("DuplicateResourceName", text)
            seen.add(rid.child.lower())
    return None


def counts_are_within_limits(write: Write) -> ArmError | None:
    for collection, limit in _LIMITS.items():
        count = len(write.goal["properties"].get(collection, []))
        if count > limit:
            return _too_many(write.id, collection, count=count, limit=limit)
    for rid, pool in write.children("backendAddressPools"):
        count = len(pool["loadBalancerBackendAddresses"])
        if count > _POOL_LIMIT:
            return _too_many(rid, "loadBalancerBackendAddresses", count=count, limit=_POOL_LIMIT)
    return None


def frontends_have_one_address(write: Write) -> ArmError | None:
    for rid, frontend in write.children("frontendIPConfigurations"):
        public = frontend.get("publicIPAddress") or frontend.get("publicIPPrefix")
        subnet = frontend.get("subnet")
        start = f"Frontend IP Configuration {rid.text} must"
        if not public and not subnet:
            text = f"{start} reference either a Subnet or a Public IP Address."
            return bad_request("FrontendIPConfigHasNoSubnetOrPublicIP", text)
        if public and subnet:
            text = f"{start} not reference both a Subnet and a Public IP Address."
            return bad_request("FrontendIPConfigHasBothSubnetAndPublicIP", text)
    return None


def required_fields_are_there(write: Write) -> ArmError | None:
    required: dict[str, tuple[str, ...]] = {
        "probes": ("protocol", "port"),
        "loadBalancingRules": ("protocol", "frontendPort"),
    }
    required["loadBalancingRules"] += ("frontendIPConfiguration",)
    for collection, fields in required.items():
        for rid, item in write.children(collection):
            for name in fields:
                if item.get(name) is None:
                    text = f"Required property '{name}' not found in JSON. Resource {rid.text}."
                    return cannot_parse("MissingJsonReferenceId" if name.endswith("tion") else "InvalidJson", text)
    return None


def ports_and_times_are_in_range(write: Write) -> ArmError | None:
    standard = write.goal["sku"]["name"] != "Basic"
    for rid, rule in write.children("loadBalancingRules"):
        lowest = _ANY_PORT if rule["protocol"] == "All" else 1
        for name in ("frontendPort", "backendPort"):
            error = _outside(rid, name, rule.get(name, lowest), lowest=lowest, highest=65535)
            if error:
                return error
        error = _outside(
            rid,
            "idleTimeoutInMinutes",
            rule["idleTimeoutInMinutes"],
            lowest=4,
            highest=100 if standard else 30,
        )
        if error:
            return error
    for rid, probe in write.children("probes"):
        for name, lowest, highest in (
            ("port", 1, 65535),
            ("intervalInSeconds", 5, 2147483646),
            ("probeThreshold", 1, 100),
        ):
            error = _outside(rid, name, probe[name], lowest=lowest, highest=highest)
            if error:
                return error
    return None


def enums_are_known(write: Write) -> ArmError | None:
    for collection, name, known in (
        ("probes", "protocol", ("Http", "Https", "Tcp")),
        ("probes", "noHealthyBackendsBehavior", ("AllProbedDown", "AllProbedUp")),
        ("loadBalancingRules", "protocol", ("Tcp", "Udp", "All", "Quic")),
        ("loadBalancingRules", "loadDistribution", ("Default", "SourceIP", "SourceIPProtocol")),
    ):
        for rid, item in write.children(collection):
            if str(item[name]).lower() not in {one.lower() for one in known}:
                text = f"Error converting value \"{item[name]}\" to property '{name}' of resource {rid.text}."
                return cannot_parse("InvalidJson", text)
    return None


def http_probes_have_a_path(write: Write) -> ArmError | None:
    for rid, probe in write.children("probes"):
        if probe["protocol"] == "Tcp" and probe.get("requestPath"):
            text = f"Probe {rid.text} with protocol Tcp cannot have a request path."
            return bad_request("ProbeRequestPathNotSupported", text)
        if probe["protocol"] != "Tcp" and not probe.get("requestPath"):
            text = f"Probe {rid.text} with protocol {probe['protocol']} must have a request path."
            return bad_request("ProbeRequestPathMissing", text)
    return None


def frontends_are_not_shared(write: Write) -> ArmError | None:
    seen: dict[tuple[str, str, int], ResourceId] = {}
    for rid, rule in write.children("loadBalancingRules"):
        key = (rule["frontendIPConfiguration"]["id"].lower(), rule["protocol"], rule["frontendPort"])
        other = seen.setdefault(key, rid)
        if other is not rid:
            text = (
                f"Load balancing rules {other.text} and {rid.text} use the same frontend port "
                f"{rule['frontendPort']} and protocol {rule['protocol']} with the same frontend IP "
                "configuration "
                f"{rule['frontendIPConfiguration']['id']}."
            )
            return bad_request("RulesUseSameFrontendPortProtocolAndIPConfig", text)
    return None


def backends_are_not_shared(write: Write) -> ArmError | None:
    seen: dict[tuple[str, str, int], ResourceId] = {}
    for rid, rule in write.children("loadBalancingRules"):
        if rule["enableFloatingIP"]:
            continue
        for pool in rule.get("backendAddressPools") or []:
            key = (pool["id"].lower(), rule["protocol"], rule.get("backendPort", _ANY_PORT))
            other = seen.setdefault(key, rid)
            if other is not rid:
                text = (
                    f"Load balancing rules {other.text} and {rid.text} with floating IP disabled use the "
                    "same "
                    f"protocol {rule['protocol']} and backend port {key[2]}, and must not be used with the "
                    "same "
                    f"backend address pool {pool['id']}."
                )
                return bad_request("RulesUseSameBackendPortProtocolAndPool", text)
    return None


def pools_are_of_one_kind(write: Write) -> ArmError | None:
    for rid, pool in write.children("backendAddressPools"):
        networks: set[str] = set()
        for address in pool["loadBalancerBackendAddresses"]:
            properties = address["properties"]
            if not properties.get("ipAddress"):
                continue
            if write.goal["sku"]["name"] == "Basic":
                text = f"Backend address pool {rid.text} with IP addresses requires Standard sku load balancer."
                return bad_request("BackendAddressPoolIPAddressesNotSupportedForBasicSku", text)
            network = properties.get("virtualNetwork") or properties.get("subnet") or pool.get("virtualNetwork") or {}
            if not network.get("id"):
                text = f"Backend address {address.get('name')} of {rid.text} must reference a virtual network."
                return bad_request("LoadBalancerBackendAddressMissingVirtualNetwork", text)
            networks.add(network["id"].lower().partition("/subnets/")[0])
        if len(networks) > 1:
            text = f"Backend address pool {rid.text} has addresses of more than one virtual network."
            return bad_request("BackendAddressPoolHasMultipleVirtualNetworks", text)
    return None


def addresses_are_unique(write: Write) -> ArmError | None:
    for rid, pool in write.children("backendAddressPools"):
        seen: set[str] = set()
        for address in pool["loadBalancerBackendAddresses"]:
            if not address.get("name"):
                text = f"Backend address of {rid.text} must have a name."
                return cannot_parse("InvalidJson", text)
            for mark in (
                f"name {address['name']}".lower(),
                f"address {address['properties'].get('ipAddress')}",
            ):
                if mark in seen and not mark.endswith(" None"):
                    text = f"Backend address pool {rid.text} has two backend addresses with the same {mark}."
                    return bad_request("DuplicateLoadBalancerBackendAddress", text)
                seen.add(mark)
    return None


_COMMON: tuple[Check, ...] = (has_location, names_are_valid, names_are_unique)
CHAINS: dict[str, tuple[Check, ...]] = {
    LOAD_BALANCERS: (
        *_COMMON,
        keeps_sku,
        required_fields_are_there,
        enums_are_known,
        counts_are_within_limits,
        frontends_have_one_address,
        inner_references_exist,
        outer_references_exist,
        outer_references_are_ready,
        skus_match,
        public_addresses_are_free,
        private_addresses_fit,
        ports_and_times_are_in_range,
        http_probes_have_a_path,
        frontends_are_not_shared,
        backends_are_not_shared,
        pools_are_of_one_kind,
        addresses_are_unique,
    ),
    PUBLIC_IPS: (*_COMMON, keeps_sku),
    VIRTUAL_NETWORKS: (*_COMMON, subnets_fit),
}


def _too_many(rid: ResourceId, what: str, *, count: int, limit: int) -> ArmError:
    text = f"Resource {rid.text} has {count} {what}, which is more than the limit of {limit}."
    return bad_request("ResourceLimitExceeded", text)


def _outside(rid: ResourceId, name: str, value: Any, *, lowest: int, highest: int) -> ArmError | None:
    if isinstance(value, int) and lowest <= value <= highest:
        return None
    text = f"Value {value} of property {name} of resource {rid.text} is not in the range {lowest} - {highest}."
    return cannot_parse("ValueOutOfRange", text)
