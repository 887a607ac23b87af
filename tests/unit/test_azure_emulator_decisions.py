"""The emulator's pure parts: thresholds, verdicts, affinity, token buckets, fault matching, ids, defaults."""

from __future__ import annotations

import collections
import dataclasses

import pytest

from testbed.azure import health
from testbed.azure.dataplane.affinity import Flow, choose
from testbed.azure.dataplane.selection import MemberHealth, ProbeResult, judge
from testbed.azure.dataplane.view import Member, Probe, Rule
from testbed.azure.defaults import normalise
from testbed.azure.faults import Fault, Faults, Kind
from testbed.azure.ids import parse_id
from testbed.azure.operations import IN_PROGRESS, Operations
from testbed.azure.service import Network
from testbed.azure.throttling import Throttle

PASS, FAIL = ProbeResult(passed=True), ProbeResult(passed=False, reason=health.DOWN_STATUS)
LB = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/loadBalancers/lb"


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("threshold", "results", "states"),
    [
        (1, "+-+", "+-+"),
        (2, "++--++", "-++--+"),
        (2, "++-+--", "-++++-"),
        (3, "+++--+---", "--++++++-"),
        (2, "+-+-+-", "------"),
    ],
)
def test_so_many_results_in_a_row_move_a_member(threshold: int, results: str, states: str) -> None:
    member = MemberHealth()
    seen = ""
    for result in results:
        member.observe(PASS if result == "+" else FAIL, threshold)
        seen += "+" if member.up else "-"
    assert seen == states


def test_a_member_says_what_it_is_on_the_way_to() -> None:
    member = MemberHealth()
    reasons = [member.reason]
    for result in (PASS, PASS, FAIL, FAIL, PASS):
        member.observe(result, 2)
        reasons.append(member.reason)
    assert reasons == [
        health.NOT_PROBED,
        health.DOWN_APPROACHING_UP,
        health.UP_SUCCESS,
        health.UP_APPROACHING_DOWN,
        health.DOWN_STATUS,
        health.DOWN_APPROACHING_UP,
    ]


def _rule(*members: Member, all_down_is_up: bool = False, probed: bool = True) -> Rule:
    probe = Probe("probe", "http", 80, "/", 5, 1, all_down_is_up) if probed else None
    return Rule("rule", "127.0.0.9", 80, 80, members, probe, "Default", 240, reset_when_idle=False)


@pytest.mark.parametrize(
    ("rule", "up", "verdicts"),
    [
        (_rule(Member("a"), Member("b")), {"a"}, ["Up", "Down"]),
        (_rule(Member("a", "Down"), Member("b", "Up")), {"a"}, ["Down", "Up"]),
        (_rule(Member("a"), Member("b")), set(), ["Down", "Down"]),
        (_rule(Member("a"), Member("b"), all_down_is_up=True), set(), ["Up", "Up"]),
        (_rule(Member("a"), Member("b", "Down"), all_down_is_up=True), set(), ["Up", "Down"]),
        (_rule(Member("a"), Member("b"), all_down_is_up=True), {"b"}, ["Down", "Up"]),
        (_rule(Member("a"), probed=False), set(), ["Up"]),
    ],
)
def test_admin_state_and_all_down_override_the_probe(rule: Rule, up: set[str], verdicts: list[str]) -> None:
    found = judge(rule, lambda address: MemberHealth(up=address in up))
    assert [one.state for one in found] == verdicts


def test_flows_spread_evenly_and_few_move_when_a_member_goes() -> None:
    members = ("10.0.0.4", "10.0.0.5", "10.0.0.6")
    flows = [Flow("10.9.0.1", port, "20.0.0.1", 80) for port in range(10000, 13000)]
    chosen = {flow: choose(flow, members, "Default") for flow in flows}
    assert all(850 < count < 1150 for count in collections.Counter(chosen.values()).values())
    after = {flow: choose(flow, members[:2], "Default") for flow in flows}
    assert all(after[flow] == member for flow, member in chosen.items() if member != members[2])
    assert choose(flows[0], (), "Default") is None


def test_client_affinity_looks_at_addresses_alone() -> None:
    members = ("10.0.0.4", "10.0.0.5", "10.0.0.6")
    one = Flow("10.9.0.1", 1, "20.0.0.1", 80)
    for port in range(2, 50):
        other = dataclasses.replace(one, source_port=port, destination_port=port)
        assert choose(other, members, "SourceIP") == choose(one, members, "SourceIP")


@pytest.mark.parametrize(("method", "size", "per_second"), [("GET", 250, 25), ("PUT", 200, 10), ("DELETE", 200, 10)])
def test_buckets_have_azures_sizes_and_fill_at_its_rates(method: str, size: int, per_second: int) -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.take(method, "me") for _ in range(size)] == [None] * size
    assert throttle.take(method, "me") == 1
    assert throttle.take(method, "somebody else") is None
    clock.now += 1
    assert [throttle.take(method, "me") for _ in range(per_second)] == [None] * per_second
    assert throttle.take(method, "me") == 1


def test_the_network_provider_stops_writes_at_a_thousand_in_five_minutes() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    taken = 0
    for _ in range(3000):
        clock.now += 0.1
        taken += throttle.take("PUT", "me") is None
    assert 1900 < taken < 2100, "1,000 at once and 1,000 more in the five minutes that pass here"


def test_a_fault_hits_its_nth_match_so_many_times_and_is_gone() -> None:
    faults = Faults()
    faults.add(Fault(Kind.CONFLICT, method="PUT", path="/LOADBALANCERS/", nth=2, times=2))
    hits = [
        faults.take(method, path) is not None
        for method, path in [
            ("PUT", "/x/loadBalancers/lb"),
            ("GET", "/x/loadBalancers/lb"),
            ("PUT", "/x/publicIPAddresses/ip"),
            ("PUT", "/x/loadBalancers/lb"),
            ("PUT", "/x/loadBalancers/lb/backendAddressPools/p"),
            ("PUT", "/x/loadBalancers/lb"),
        ]
    ]
    assert hits == [False, False, False, True, True, False]
    assert faults.waiting == []


def test_a_fault_travels_as_json() -> None:
    fault = Fault(Kind.FOREIGN_WRITE, path="lb", nth=3, patch={"tags": {"a": "b"}})
    assert Fault.from_json(fault.to_json()) == fault
    with pytest.raises(ValueError, match="Hiccup"):
        Fault.from_json({"kind": "Hiccup"})


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (LB, True),
        (LB.upper(), True),
        (f"{LB}/probes/p", True),
        (f"{LB}/PROBES/p", True),
        (f"{LB}/probes", False),
        (f"{LB}/wheels/p", False),
        (LB.replace("Microsoft.Network", "Microsoft.Compute"), False),
        ("", False),
    ],
)
def test_ids_are_read_in_any_case_and_nonsense_is_not(text: str, good: bool) -> None:
    found = parse_id(text)
    assert (found is not None) is good
    if found is not None:
        assert found.key == text.lower()


def test_what_only_the_service_writes_is_dropped_from_a_body() -> None:
    back = {"loadBalancingRules": [{"id": "x"}], "provisioningState": "Succeeded"}
    probe = {"name": "p", "etag": "old", "properties": {"protocol": "Tcp", "port": 80, **back}}
    goal = normalise("loadBalancers", {"location": "eastus", "etag": "old", "properties": {"probes": [probe]}})
    assert "etag" not in goal
    assert goal["properties"]["probes"] == [
        {
            "name": "p",
            "properties": {
                "protocol": "Tcp",
                "port": 80,
                "intervalInSeconds": 15,
                "numberOfProbes": 2,
                "probeThreshold": 1,
                "noHealthyBackendsBehavior": "AllProbedDown",
            },
        }
    ]


def test_an_operation_runs_until_its_time_and_a_later_one_takes_over() -> None:
    clock, ids = Clock(), iter("abc")
    operations = Operations(clock, lambda: next(ids))
    operations.delay = 10
    resource = parse_id(LB)
    assert resource is not None
    first = operations.start("Put", resource, location="eastus")
    clock.now += 5
    second = operations.start("Put", resource, location="eastus")
    operations.supersede(first, second)
    clock.now += 5
    assert operations.due() == []
    assert (first.status, second.status) == ("Canceled", IN_PROGRESS)
    clock.now += 5
    assert operations.due() == [second]
    assert operations.running(resource) is None
    assert "PutLoadBalancerOperation (a) was canceled and superseded" in str(first.error)


def test_two_runs_of_one_story_print_the_same_guids() -> None:
    def story() -> list[str]:
        network = Network(clock=Clock(), frontends="10.0.0.0/24", backend_states=_NoStates())
        return [network.guids.next("etag") for _ in range(3)]

    assert story() == story()
    assert len(set(story())) == 3


class _NoStates:
    def rule_health(self, rule: object) -> dict[str, object]:
        raise AssertionError(f"nobody asks for the health of {rule}")
