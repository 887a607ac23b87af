"""Every scripted fault of Azure, on create, update and delete, as kubectl shows it.

All at once, each on a load balancer of its own: a fault holds until the cluster's conditions have told of it in
Azure's words, then it goes, and everything has to end as wanted with no person's help.
"""

from dataclasses import dataclass, replace

from testbed.azure import Fault, Kind
from testbed.azure_farm import AzureFarm
from testbed.history import Said

HELD = 100_000
"""Times: until the test lets go."""


@dataclass(frozen=True)
class Case:
    """One fault. `words`: what the conditions have to say meanwhile; empty: it is over at once."""

    fault: Fault
    words: str = ""
    target: str = "loadBalancers"


CASES = {
    "throttled-hint": Case(Fault(Kind.THROTTLED, retry_after=1), "SubscriptionRequestsThrottled"),
    "throttled": Case(Fault(Kind.THROTTLED), "SubscriptionRequestsThrottled"),
    "retryable": Case(Fault(Kind.RETRYABLE), "RetryableErrorDueToAnotherOperation"),
    "conflict": Case(Fault(Kind.CONFLICT), "AnotherOperationInProgress"),
    "foreign": Case(Fault(Kind.FOREIGN_WRITE), "PreconditionFailed"),
    "error": Case(Fault(Kind.STATUS), "InternalServerError"),
    "unavailable": Case(Fault(Kind.STATUS, status=503, code="ServiceUnavailable", retry_after=1), "ServiceUnavailable"),
    "failed": Case(Fault(Kind.OPERATION_FAILED), "InternalServerError"),
    "failed-undone": Case(Fault(Kind.OPERATION_FAILED, applied=False), "InternalServerError"),
    "canceled": Case(Fault(Kind.OPERATION_CANCELED), "Operation was canceled"),
    "canceled-kept": Case(Fault(Kind.OPERATION_CANCELED, applied=True), "Operation was canceled"),
    "cut-before": Case(Fault(Kind.DROP_BEFORE), "Azure can't be reached"),
    "cut-after": Case(Fault(Kind.DROP_AFTER)),
    "expired": Case(Fault(Kind.EXPIRED_TOKEN), "ExpiredAuthenticationToken"),
    "unreadable": Case(Fault(Kind.STATUS, method="GET"), "InternalServerError"),
    "unwatchable": Case(Fault(Kind.STATUS, method="GET", times=3), target="operations"),
    "forbidden": Case(Fault(Kind.STATUS, status=403, code="AuthorizationFailed"), "Give the operator's identity"),
    "address": Case(Fault(Kind.STATUS), "InternalServerError", target="publicIPAddresses"),
}


def arm(farm: AzureFarm, method: str, *, without: frozenset[str] = frozenset()) -> None:
    """Have every fault hold."""
    for name, case in CASES.items():
        if name in without:
            continue
        fault = case.fault
        path = {
            "loadBalancers": farm.balancer_id(farm.own_balancer(name)),
            "publicIPAddresses": f"publicIPAddresses/{name}-ip",
            "operations": "/operations/",
        }[case.target]
        farm.azure.fail(
            replace(
                fault,
                path=path,
                method=fault.method if fault.method == "GET" else method,
                times=HELD if fault.times == 1 else fault.times,
            )
        )


async def told(farm: AzureFarm, generation: int, *, without: frozenset[str] = frozenset()) -> None:
    """Wait until each cluster has told of its fault, and not called itself Ready meanwhile."""

    def said() -> dict[str, list[Said]]:
        return {
            name: [
                entry
                for entry in farm.history.said
                if entry.name == name
                and entry.type == "LoadBalancerReady"
                and case.words in entry.message
                and entry.generation == generation
                and entry.status != "True"
            ]
            for name, case in CASES.items()
            if case.words and name not in without
        }

    await farm.until_history(
        lambda: all(said().values()), lambda: f"words of {[k for k, v in said().items() if not v]}"
    )
    for name, entries in said().items():
        assert all(entry.reason for entry in entries)
        assert not [
            entry
            for entry in farm.history.said
            if entry.name == name
            and entry.type == "Ready"
            and entry.generation == generation
            and entry.status == "True"
        ], f"{name} called itself Ready before it was"


async def test_every_fault_ends_as_wanted_and_is_told_meanwhile(farm: AzureFarm) -> None:
    await farm.operator(azure={"stalledSeconds": 2, "driftSeconds": 3600})
    frontends = {name: farm.internal(f"10.0.4.{10 + number}") for number, name in enumerate(CASES)}
    frontends["address"] = {"publicIPAddress": {"name": "address-ip"}}

    # A foreign writer needs something to write to, a public address is there after the creation.
    unborn, settled = frozenset({"foreign"}), frozenset({"address"})
    arm(farm, "PUT", without=unborn)
    await farm.apply(*(farm.manifest(name, frontend=frontends[name]) for name in CASES))
    await told(farm, 1, without=unborn)
    farm.azure.faults.clear()
    await farm.wait_ready("all created after their faults")

    arm(farm, "PUT", without=settled)
    await farm.apply(*(farm.manifest(name, frontend=frontends[name], port=81) for name in CASES))
    await told(farm, 2, without=settled)
    farm.azure.faults.clear()
    await farm.wait_ready("all changed after their faults")
    for name in CASES:
        balancer = farm.balancer(farm.own_balancer(name))
        assert balancer is not None
        assert [rule["properties"]["frontendPort"] for rule in balancer["properties"]["loadBalancingRules"]] == [81]

    arm(farm, "DELETE")
    await farm.remove(*CASES)
    await told(farm, 3)
    farm.azure.faults.clear()
    await farm.wait_gone(*CASES)
    assert farm.resources() == set()
    print(f"\n{len(CASES)} faults on create, update and delete: {farm.azure.log.counters()}")
