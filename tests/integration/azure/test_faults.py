"""Each scripted fault ends in the desired state without a person, and the state says meanwhile what is going on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from farmstead_api.farmcluster import Frontend, Listener
from farmstead_operator.azure.shares import ClusterShare
from integration.azure.rig import Site
from testbed.azure import Availability, Fault, Kind

FAULTS = {
    "429 with Retry-After": Fault(Kind.THROTTLED, retry_after=1),
    "429 without Retry-After": Fault(Kind.THROTTLED, times=2),
    "429 that is no throttling": Fault(Kind.RETRYABLE),
    "409": Fault(Kind.CONFLICT, times=2),
    "500": Fault(Kind.STATUS, times=2),
    "503 with Retry-After": Fault(Kind.STATUS, status=503, code="ServiceUnavailable", retry_after=1),
    "412 from a foreign writer": Fault(Kind.FOREIGN_WRITE, patch={"tags": {"seen": "yes"}}),
    "Failed operation": Fault(Kind.OPERATION_FAILED),
    "Failed operation that left nothing": Fault(Kind.OPERATION_FAILED, applied=False),
    "Canceled operation": Fault(Kind.OPERATION_CANCELED),
    "Canceled operation that stayed": Fault(Kind.OPERATION_CANCELED, applied=True),
    "connection cut before": Fault(Kind.DROP_BEFORE),
    "connection cut after the PUT was applied": Fault(Kind.DROP_AFTER, times=3),
    "expired token": Fault(Kind.EXPIRED_TOKEN),
    "read fails": Fault(Kind.STATUS, method="GET", times=2),
    "poll fails": Fault(Kind.STATUS, method="GET", path="/operations/", status=500),
}


@pytest.mark.parametrize("when", ["create", "update", "withdraw"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_ends_in_the_desired_state(site: Site, name: str, when: str) -> None:
    fault = FAULTS[name]
    if not fault.path:
        fault = replace(fault, path="loadBalancers/lb")
    share, other = site.public_share("web"), site.share("other")
    if when != "create":
        await site.declare(share)
        await site.in_place(share)
    if when == "withdraw":
        site.azure.fail(fault if fault.method == "GET" else replace(fault, method="DELETE"))
        await site.withdraw(share)
        await site.gone(share)
        assert site.model() is None
        assert site.public_ip_names() == []
    else:
        site.azure.fail(fault)
        await site.declare(share, other)
        await site.in_place(share, other)
        await undisturbed(site, share, other)


async def undisturbed(site: Site, *shares: ClusterShare) -> None:
    """A fresh operator finds nothing to do: the desired state is what Azure holds."""
    model = site.azure.snapshot()
    await site.restart()
    site.azure.faults.clear()
    site.azure.log.clear()
    await site.declare(*shares)
    await site.in_place(*shares)
    assert site.puts() == []
    assert site.azure.snapshot() == model


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.OPERATION_FAILED, Kind.DROP_AFTER, Kind.THROTTLED])
async def test_a_public_address_is_created_in_the_end(site: Site, kind: Kind) -> None:
    site.azure.fail(Fault(kind, path="publicIPAddresses/web-ip", times=2))
    share, other = site.public_share("web"), site.share("other")
    await site.declare(share, other)
    await site.in_place(share, other)
    assert site.state(share).frontend_address


async def test_the_state_says_what_is_going_on(site: Site) -> None:
    site.azure.fail(Fault(Kind.THROTTLED, path="loadBalancers/lb", retry_after=1))
    share = site.share()
    await site.declare(share)
    await site.until(lambda: site.state(share).problem is not None, "a word")
    problem = site.state(share).problem
    assert problem is not None
    assert problem.reason == "SubscriptionRequestsThrottled"
    assert not problem.permanent
    assert "Azure:" in problem.message
    await site.in_place(share)
    assert site.state(share).problem is None
    assert ("PUT", 429, True) in site.calls


async def test_a_429_for_something_that_is_not_ready_is_not_counted_as_throttling(site: Site) -> None:
    site.azure.fail(Fault(Kind.RETRYABLE, path="loadBalancers/lb"))
    share = site.share()
    await site.declare(share)
    await site.in_place(share)
    assert ("PUT", 429, False) in site.calls
    assert not any(throttled for _, _, throttled in site.calls)


async def test_a_person_s_mistake_is_stalled_in_azure_s_words_and_heals(site: Site) -> None:
    missing = site.share(frontend=Frontend(subnet_id=site.subnet("nowhere")))
    await site.declare(missing)
    await site.until(lambda: site.state(missing).stalled, "the stall")
    problem = site.state(missing).problem
    assert problem is not None
    assert problem.reason == "InvalidResourceReference"
    assert "nowhere" in problem.message
    assert "subnetID" in problem.message

    def add(body: dict[str, Any]) -> None:
        body["properties"]["subnets"].append({"name": "nowhere", "properties": {"addressPrefix": "10.0.9.0/24"}})

    site.azure.edit_as_other_client(missing.virtual_network_id, add)
    await site.in_place(missing)


async def test_one_cluster_s_mistake_does_not_hold_the_others(site: Site) -> None:
    bad = site.share("bad", frontend=Frontend(subnet_id=site.subnet("nowhere")))
    good = [site.share(f"good-{number}") for number in range(7)]
    await site.declare(bad, *good)
    await site.in_place(*good)
    await site.until(lambda: site.state(bad).stalled, "the stall")
    assert [site.state(one).problem for one in good] == [None] * len(good)
    late = site.share("late")
    await site.declare(late)
    await site.in_place(late)


async def test_a_refusal_that_names_nobody_is_traced_to_its_cause(site: Site) -> None:
    """Azure's message says nothing of whose item it is: the halves find it."""
    site.azure.fail(Fault(Kind.STATUS, path="loadBalancers/lb", status=400, code="Strange", message="No.", times=3))
    shares = [site.share(f"web-{number}") for number in range(4)]
    await site.declare(*shares)
    await site.in_place(*shares)


async def test_a_port_that_another_cluster_has(site: Site) -> None:
    first = site.public_share("web", "both")
    await site.declare(first)
    await site.in_place(first)
    second = site.public_share("api", "both")
    await site.declare(second)
    await site.until(lambda: site.state(second).stalled, "the stall")
    problem = site.state(second).problem
    assert problem is not None
    assert problem.reason == "FrontendPortInUse"
    assert site.state(first).in_place
    moved = replace(second, listeners=(Listener(name="http", port=81),))
    await site.declare(moved)
    await site.in_place(moved)


async def test_a_public_address_in_use_elsewhere(site: Site) -> None:
    owner = site.public_share("owner")
    await site.declare(owner, key=site.key("other-lb"))
    await site.until(lambda: site.state(owner, site.key("other-lb")).in_place, "the owner")
    thief, good = site.public_share("thief"), site.share("good")
    await site.declare(thief, good)
    await site.in_place(good)
    await site.until(lambda: site.state(thief).stalled, "the stall")
    problem = site.state(thief).problem
    assert problem is not None
    assert problem.reason == "PublicIPAddressInUse"
    await site.writers.withdraw(site.key("other-lb"), owner.cluster)
    await site.in_place(thief)


async def test_no_rights(site: Site) -> None:
    refused = Fault(
        Kind.STATUS, method="*", path="loadBalancers", status=403, code="AuthorizationFailed", message="No.", times=6
    )
    site.azure.fail(refused)
    share = site.share()
    await site.declare(share)
    await site.until(lambda: site.state(share).stalled, "the stall")
    problem = site.state(share).problem
    assert problem is not None
    assert problem.reason == "AuthorizationFailed"
    assert "docs/azure.md" in problem.message
    await site.in_place(share)


async def test_a_wrong_secret(site: Site) -> None:
    site.azure.client_secret, right = "changed", site.azure.client_secret
    site.azure.identity.client_secret = "changed"
    share = site.share()
    await site.declare(share)
    await site.until(lambda: site.state(share).stalled, "the stall")
    problem = site.state(share).problem
    assert problem is not None
    assert problem.reason == "AuthenticationFailed"
    assert "AADSTS7000215" in problem.message
    site.azure.identity.client_secret = right
    await site.in_place(share)


async def test_azure_down_at_the_start(site: Site) -> None:
    """The token endpoint with it."""
    await site.azure.set_availability(Availability.REFUSE)
    share = site.share()
    await site.declare(share)
    await site.until(lambda: site.state(share).problem is not None, "a word")
    problem = site.state(share).problem
    assert problem is not None
    assert (problem.reason, problem.permanent) == ("AzureUnreachable", False)
    await site.azure.set_availability(Availability.UNAVAILABLE)
    await site.asked(2, or_else=lambda: False)
    await site.azure.set_availability(Availability.UP)
    await site.in_place(share)


async def test_azure_down_during_a_withdrawal(site: Site) -> None:
    share = site.public_share()
    await site.declare(share)
    await site.in_place(share)
    await site.azure.set_availability(Availability.REFUSE)
    await site.withdraw(share)
    await site.until(lambda: site.state(share).problem is not None, "a word")
    problem = site.state(share).problem
    assert problem is not None
    assert problem.reason == "AzureUnreachable"
    assert not site.state(share).gone
    await site.azure.set_availability(Availability.UP)
    await site.gone(share)
    assert site.model() is None
    assert site.public_ip_names() == []


async def test_health_becomes_unknown_when_azure_is_away(site: Site) -> None:
    share = site.share()
    await site.declare(share)
    await site.until(lambda: len(site.state(share).backends) == 2, "the backends")
    await site.azure.set_availability(Availability.REFUSE)
    await site.until(lambda: {one.state for one in site.state(share).backends} == {"Unknown"}, "the doubt")
    assert site.state(share).in_place


async def test_a_foreign_writer_who_does_not_stop(site: Site) -> None:
    """Their items stay, ours come."""
    site.azure.set_delay(0.05)
    share = site.share()
    await site.declare(share)
    await site.in_place(share)
    site.azure.fail(Fault(Kind.FOREIGN_WRITE, path="loadBalancers/lb", times=5, patch={"tags": {"theirs": "yes"}}))
    other = site.share("other")
    await site.declare(other)
    await site.in_place(other)
    model = site.model()
    assert model is not None
    assert model["tags"]["theirs"] == "yes"


async def test_a_superseded_operation_is_written_again(site: Site) -> None:
    site.azure.set_delay(0.5)
    share = site.share()
    await site.declare(share)
    await site.until(lambda: site.state(share).pending_operation is not None, "the operation")
    site.put("loadBalancers", "lb", {"location": "eastus", "sku": {"name": "Standard"}, "properties": {}})
    await site.in_place(share)
    assert len(site.puts()) == 2
