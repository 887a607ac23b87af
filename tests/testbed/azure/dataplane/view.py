"""What the model asks of the data plane: rules with frontend, members and probe, as frozen views.

Pure. Taken from the last goal whose operation has succeeded, so that traffic moves when Azure says
'Succeeded'.
"""

from __future__ import annotations

from dataclasses import dataclass

from testbed.azure.errors import Json
from testbed.azure.ids import LOAD_BALANCERS, ResourceId, parse_id
from testbed.azure.store import Resource, Store, find_named

# Longer intervals don't make a probe more patient.
_LONGEST_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe. Times in seconds; `threshold` results in a row move a member up or down."""

    key: str
    protocol: str
    port: int
    path: str
    interval: float
    threshold: int
    all_down_is_up: bool

    @property
    def timeout(self) -> float:
        return min(self.interval, _LONGEST_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Member:
    """One backend; `admin` is Up, Down or None."""

    address: str
    admin: str = "None"


@dataclass(frozen=True, slots=True)
class Rule:
    """One TCP rule."""

    key: str
    frontend: str
    port: int
    backend_port: int
    members: tuple[Member, ...]
    probe: Probe | None
    affinity: str
    idle_seconds: float
    reset_when_idle: bool


def rules_of(store: Store) -> tuple[Rule, ...]:
    """Every TCP rule of every load balancer that carries traffic."""
    found: list[Rule] = []
    for balancer in store.of_type(LOAD_BALANCERS):
        if balancer.applied is not None:
            found.extend(_rules_of_one(balancer, balancer.applied, store))
    return tuple(found)


def _rules_of_one(balancer: Resource, body: Json, store: Store) -> list[Rule]:
    found: list[Rule] = []
    for item in body["properties"]["loadBalancingRules"]:
        properties = item["properties"]
        frontend = _frontend_address(body, properties["frontendIPConfiguration"]["id"], store)
        if properties["protocol"].lower() != "tcp" or frontend is None:
            continue
        found.append(
            Rule(
                key=balancer.id.with_child("loadBalancingRules", item["name"]).key,
                frontend=frontend,
                port=properties["frontendPort"],
                backend_port=properties.get("backendPort") or properties["frontendPort"],
                members=_members(body, properties),
                probe=_probe(balancer.id, body, properties),
                affinity=properties["loadDistribution"],
                idle_seconds=60.0 * properties["idleTimeoutInMinutes"],
                reset_when_idle=properties["enableTcpReset"],
            )
        )
    return found


def _frontend_address(body: Json, reference: str, store: Store) -> str | None:
    frontend = _named(body, "frontendIPConfigurations", reference)
    if frontend is None:
        return None
    properties = frontend["properties"]
    public = parse_id((properties.get("publicIPAddress") or {}).get("id", ""))
    if public is None:
        found: str | None = properties.get("privateIPAddress")
    else:
        address = store.get(public)
        found = address.body["properties"].get("ipAddress") if address else None
    return found


def _members(body: Json, rule: Json) -> tuple[Member, ...]:
    members: list[Member] = []
    for reference in rule.get("backendAddressPools") or []:
        pool = _named(body, "backendAddressPools", reference["id"])
        for address in pool["properties"]["loadBalancerBackendAddresses"] if pool else []:
            inner = address["properties"]
            if inner.get("ipAddress"):
                members.append(Member(inner["ipAddress"], inner.get("adminState") or "None"))
    return tuple(members)


def _probe(balancer: ResourceId, body: Json, rule: Json) -> Probe | None:
    probe = _named(body, "probes", (rule.get("probe") or {}).get("id", ""))
    if probe is None:
        return None
    properties = probe["properties"]
    return Probe(
        key=balancer.with_child("probes", probe["name"]).key,
        protocol=properties["protocol"].lower(),
        port=properties["port"],
        path=properties.get("requestPath") or "/",
        interval=float(properties["intervalInSeconds"]),
        threshold=properties["probeThreshold"],
        all_down_is_up=properties["noHealthyBackendsBehavior"] == "AllProbedUp",
    )


def _named(body: Json, collection: str, reference: str) -> Json | None:
    found = parse_id(reference)
    return find_named(body["properties"][collection], found.child) if found else None
