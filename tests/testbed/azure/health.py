"""Rule health as Azure words it: states and reasons of backends, and a scripted source of them.

Reason codes are those of Azure's health status page. Where a data plane runs, it is the source;
`ScriptedStates` stands in where there is none, so that the answer can be set by a test.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from testbed.azure.errors import Json
from testbed.azure.ids import ResourceId, parse_id
from testbed.azure.store import Store, find_named

UP, DOWN = "Up", "Down"
UP_SUCCESS = "Up_Probe_Success"
UP_ALL_DOWN = "Up_Probe_AllDownIsUp"
UP_APPROACHING_DOWN = "Up_Probe_ApproachingUnhealthyThreshold"
UP_ADMIN = "Up_Admin"
DOWN_APPROACHING_UP = "Down_Probe_ApproachingHealthyThreshold"
DOWN_STATUS = "Down_Probe_HttpStatusCodeError"
DOWN_UNREACHABLE = "Down_Probe_HttpEndpointUnreachable"
DOWN_TCP_TIMEOUT = "Down_Probe_TcpProbeTimeout"
DOWN_NO_RESPONSE = "Down_Probe_HttpNoResponse"
DOWN_ADMIN = "Down_Admin"
NOT_PROBED = "NA"


def health_answer(backends: list[tuple[str, str, str]]) -> Json:
    """The body of a health answer from (address, state, reason)."""
    return {
        "up": sum(state == UP for _, state, _ in backends),
        "down": sum(state == DOWN for _, state, _ in backends),
        "loadBalancerBackendAddresses": [
            {"ipAddress": address, "state": state, "reason": reason} for address, state, reason in backends
        ],
    }


def rule_backends(store: Store, rule: ResourceId) -> list[tuple[str, str]]:
    """(address, adminState) of every backend of a rule, in order."""
    balancer, properties = store.get(rule), (store.child(rule) or {}).get("properties", {})
    found: list[tuple[str, str]] = []
    for reference in properties.get("backendAddressPools") or []:
        pool_id = parse_id(reference["id"])
        if balancer is None or pool_id is None:
            continue
        pool = find_named(balancer.body["properties"]["backendAddressPools"], pool_id.child)
        for address in pool["properties"]["loadBalancerBackendAddresses"] if pool else []:
            inner = address["properties"]
            if inner.get("ipAddress"):
                found.append((inner["ipAddress"], inner.get("adminState", "None")))
    return found


@dataclass(slots=True)
class ScriptedStates:
    """Health as a test sets it: every backend is up unless said otherwise or its adminState is Down."""

    store: Store | None = None
    states: dict[str, tuple[str, str]] = field(default_factory=dict)

    def set(self, address: str, state: str, reason: str) -> None:
        """From now on this is the state of a backend address, in every rule."""
        self.states[address] = (state, reason)

    def rule_health(self, rule: ResourceId) -> Json:
        assert self.store is not None
        backends = []
        for address, admin in rule_backends(self.store, rule):
            state, reason = self.states.get(address, (UP, UP_SUCCESS))
            if admin == "Down":
                state, reason = DOWN, DOWN_ADMIN
            elif admin == "Up":
                state, reason = UP, UP_ADMIN
            backends.append((address, state, reason))
        return health_answer(backends)
