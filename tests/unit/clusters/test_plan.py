"""The plan as tables: what is observed -> what is done. No I/O, no clock."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace as changed

from farmstead_api import Condition, ConditionStatus, FarmCluster, FarmNode, Member, ObjectMeta, Operation
from farmstead_api.common import Application, DeletionPolicy, DesiredState, Scripts
from farmstead_api.farmcluster import (
    AzureLoadBalancer,
    AzureStatus,
    FarmClusterSpec,
    Frontend,
    LabelSelector,
    Listener,
    LoadBalancer,
    LoadBalancerStatus,
    Members,
    PublicIPAddress,
)
from farmstead_api.farmnode import FarmNodeSpec, NodeAddress
from farmstead_api.member import (
    FINALIZER,
    REMOVED,
    HeldState,
    MemberOperationStatus,
    MemberSpec,
    MemberState,
    MemberStatus,
    OperationPhase,
    Override,
    Readiness,
)
from farmstead_api.operation import OperationSpec, OperationTarget, OperationType
from farmstead_operator.clusters.announcements import announcements
from farmstead_operator.clusters.observed import BalancerFacts, Observed, Plan, Problem
from farmstead_operator.clusters.plan import leads_on, plan

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NODES = ("vm1", "vm2", "vm3")


def node(name: str, *, allowed: tuple[str, ...] = ("shop",), pool: str = "web") -> FarmNode:
    address = NodeAddress(name="default", address=f"10.0.0.{name[-1]}")
    meta = ObjectMeta(name=name, labels={"pool": pool})
    return FarmNode(metadata=meta, spec=FarmNodeSpec(addresses=(address,), zone="1", allowed_namespaces=allowed))


def cluster(**spec: Any) -> FarmCluster:
    wanted = FarmClusterSpec(
        members=Members(selector=LabelSelector(match_labels={"pool": "web"})),
        application=Application(scripts=Scripts(directory="/opt/app")),
    )
    meta = ObjectMeta(name="web", namespace="shop", uid="c1", generation=1)
    return FarmCluster(metadata=meta, spec=changed(wanted, **spec))


def balanced(**spec: Any) -> FarmCluster:
    azure = AzureLoadBalancer(frontend=Frontend(public_ip_address=PublicIPAddress(name="ip")))
    return cluster(load_balancer=LoadBalancer(azure=azure), listeners=(Listener(name="http", port=80),), **spec)


def member(spec: MemberSpec, **status: Any) -> Member:
    meta = ObjectMeta(name=f"web.{spec.node_name}", namespace="shop", uid=f"m-{spec.node_name}", resource_version="1")
    said = MemberStatus(
        observed_revision=spec.revision, state=MemberState.UP, readiness=Readiness.READY, reason="Serving"
    )
    return Member(metadata=meta, spec=spec, status=changed(said, **status))


def observed(farm: FarmCluster | None, **facts: Any) -> Observed:
    return Observed(key=("shop", "web"), now=NOW, cluster=farm, **({"nodes": {n: node(n) for n in NODES}} | facts))


def settled(farm: FarmCluster, **facts: Any) -> Observed:
    """A farm whose members are up, whose status has been written, and for which nothing is left to do."""
    before = observed(farm, **facts)
    members = {write.spec.node_name: member(write.spec) for write in plan(before).members}
    before = replace(before, members=members)
    status = plan(before).status
    assert status is not None
    return replace(before, cluster=changed(farm, status=status))


def condition(decided: Plan, kind: str) -> Condition:
    assert decided.status is not None
    return next(entry for entry in decided.status.conditions if entry.type == kind)


def deleted(what: Any) -> Any:
    return changed(what, metadata=changed(what.metadata, deletion_timestamp="2026-11-23T12:00:00Z"))


def guarded(one: Member) -> Member:
    return changed(one, metadata=changed(one.metadata, finalizers=(FINALIZER,)))


def let_go(one: Member) -> Member:
    said = Condition(type=REMOVED, status=ConditionStatus.TRUE, reason="Stopped")
    return changed(one, status=changed(one.status, state=MemberState.STOPPED, conditions=(said,)))


def silent_plan(decided: Plan) -> bool:
    """Whether nothing is done to Members."""
    return not (decided.members or decided.deletions or decided.releases)


# -- life


def test_first_sight_renders_everybody_and_says_unknown() -> None:
    decided = plan(observed(cluster()))
    assert [write.spec.node_name for write in decided.members] == list(NODES)
    assert not any(write.guarded for write in decided.members)
    assert condition(decided, "Ready").status is ConditionStatus.UNKNOWN
    assert condition(decided, "Reconciling").status is ConditionStatus.TRUE


def test_a_settled_farm_needs_nothing() -> None:
    now = settled(cluster())
    decided = plan(now)
    assert silent_plan(decided)
    assert now.cluster is not None
    assert decided.status == now.cluster.status
    assert condition(decided, "Ready").status is ConditionStatus.TRUE


@pytest.mark.parametrize("field", ["desired_state", "deletion_policy"])
def test_a_change_of_the_spec_reaches_every_member(field: str) -> None:
    value: Any = {"desired_state": DesiredState.STOPPED, "deletion_policy": DeletionPolicy.ORPHAN}[field]
    now = settled(cluster())
    assert now.cluster is not None
    now = replace(now, cluster=changed(now.cluster, spec=changed(now.cluster.spec, **{field: value})))
    decided = plan(now)
    assert {getattr(write.spec, field) for write in decided.members} == {value}
    assert {write.spec.revision for write in decided.members} - {m.spec.revision for m in now.members.values()}


@pytest.mark.parametrize(
    ("facts", "spec", "reason"),
    [
        ({"nodes": {}}, {}, "NoMembers"),
        ({"nodes": {"vm1": node("vm1", allowed=())}}, {}, "FarmNodeNotAllowed"),
        ({}, {"members": Members(names=("vm1", "vm9"))}, "FarmNodeMissing"),
    ],
)
def test_what_only_a_person_can_mend_is_stalled(facts: dict[str, Any], spec: dict[str, Any], reason: str) -> None:
    stalled = condition(plan(observed(cluster(**spec), **facts)), "Stalled")
    assert (stalled.status, stalled.reason) == (ConditionStatus.TRUE, reason)


def test_the_balancers_problem_is_told_in_its_own_words() -> None:
    facts = BalancerFacts(stalled=True, problem=Problem("NoQuota", "raise it"))
    decided = plan(observed(balanced(), balancer=facts))
    assert (condition(decided, "Stalled").reason, condition(decided, "LoadBalancerReady").message) == (
        "NoQuota",
        "raise it",
    )


@pytest.mark.parametrize(
    ("states", "available", "redundant"),
    [
        ((True, True, True), "True Serving", "True SurvivesALoss"),
        ((True, True, False), "True Serving", "True SurvivesALoss"),
        ((True, False, False), "True Serving", "False OneMemberLeft"),
        ((False, False, False), "False NoMemberReady", "False NoMemberReady"),
    ],
)
def test_availability_and_redundancy(states: tuple[bool, ...], available: str, redundant: str) -> None:
    now = settled(cluster())
    members = {
        name: one if up else changed(one, status=changed(one.status, readiness=Readiness.NOT_READY, message="ill"))
        for (name, one), up in zip(now.members.items(), states, strict=True)
    }
    decided = plan(replace(now, members=members))
    said = [condition(decided, kind) for kind in ("Available", "RedundancyReady")]
    assert [f"{entry.status} {entry.reason}" for entry in said] == [available, redundant]


def test_a_silent_machine_shows_unknown_since_when_and_keeps_its_backend() -> None:
    now = replace(settled(balanced()), silent={"vm1": "2026-11-23T11:59:00Z"})
    decided = plan(now)
    assert decided.status is not None
    entry = decided.status.members[0]
    assert (entry.name, entry.state) == ("vm1", MemberState.UNKNOWN)
    assert "silent since 2026-11-23T11:59:00Z; last heard: Up Ready" in entry.reason
    assert decided.backends is not None
    assert [backend.node for backend in decided.backends] == list(NODES)
    assert silent_plan(decided)


def test_a_restarted_operator_does_not_forget_what_it_knew_of_the_balancer() -> None:
    facts = BalancerFacts(in_place=True, azure=AzureStatus(id="/lb", frontend_address="1.2.3.4"))
    now = settled(balanced(), balancer=facts)
    decided = plan(replace(now, balancer=None))
    assert now.cluster is not None
    assert decided.status == now.cluster.status
    assert condition(decided, "LoadBalancerReady").status is ConditionStatus.TRUE


# -- leaving


def test_who_leaves_is_guarded_then_deleted_then_released() -> None:
    now = settled(cluster())
    now = replace(now, nodes={**now.nodes, "vm1": node("vm1", pool="other")})
    first = plan(now)
    assert [(write.spec.node_name, write.guarded) for write in first.members] == [("vm1", True)]
    now = replace(now, members={**now.members, "vm1": guarded(now.members["vm1"])})
    second = plan(now)
    assert [one.spec.node_name for one in second.deletions] == ["vm1"]
    now = replace(now, members={**now.members, "vm1": let_go(deleted(now.members["vm1"]))})
    third = plan(now)
    assert third.releases == (), "first the status stops to list it"
    assert third.status is not None
    assert now.cluster is not None
    now = replace(now, cluster=changed(now.cluster, status=third.status))
    assert [one.spec.node_name for one in plan(now).releases] == ["vm1"]


def test_nobody_leaves_before_another_one_serves() -> None:
    now = settled(cluster(), nodes={"vm1": node("vm1")})
    now = replace(now, nodes={"vm1": node("vm1", pool="other"), "vm2": node("vm2")})
    decided = plan(now)
    assert [(write.spec.node_name, write.guarded) for write in decided.members] == [("vm2", False)]
    assert "leaves when one is" in condition(decided, "MembersChangePending").message
    ready = {"vm2": member(decided.members[0].spec)}
    after = plan(replace(now, members={**now.members, **ready}))
    assert [(write.spec.node_name, write.guarded) for write in after.members] == [("vm1", True)]


@pytest.mark.parametrize("facts", [{"nodes": {}}, {"nodes": {"vm1": node("vm1", pool="other")}}])
def test_a_selector_without_a_match_takes_nobody_away(facts: dict[str, Any]) -> None:
    decided = plan(replace(settled(cluster()), **facts))
    assert silent_plan(decided)
    assert condition(decided, "Stalled").reason == "NoMembers"


def test_machines_whose_member_vanished_with_all_farmnodes_keep_their_backends() -> None:
    now = settled(balanced())
    decided = plan(replace(now, nodes={}, members={}))
    assert silent_plan(decided)
    assert decided.backends == plan(now).backends
    assert condition(decided, "Stalled").reason == "NoMembers"


def test_a_cluster_seen_before_its_machines_empties_no_pool() -> None:
    decided = plan(observed(balanced(), nodes={}))
    assert decided.backends is None
    assert not decided.withdraw
    assert condition(decided, "LoadBalancerReady").reason == "NoMembers"


def test_a_named_machine_without_farmnode_stays_as_it_is() -> None:
    now = settled(cluster(members=Members(names=NODES)))
    decided = plan(replace(now, nodes={name: node(name) for name in NODES[1:]}))
    assert silent_plan(decided)
    assert condition(decided, "Stalled").reason == "FarmNodeMissing"


def test_no_cluster_no_deed() -> None:
    now = settled(cluster())
    assert silent_plan(plan(replace(now, cluster=None)))


def test_a_kind_that_is_deleted_lets_its_clusters_go_and_touches_nothing() -> None:
    now = settled(cluster())
    decided = plan(replace(now, cluster=deleted(now.cluster), api_going=True))
    assert silent_plan(decided)
    assert decided.finished
    assert not decided.withdraw


# -- the end


def test_the_end_of_a_farm_step_by_step() -> None:
    facts = BalancerFacts(in_place=True, azure=AzureStatus(id="/lb"))
    now = settled(balanced(), balancer=facts)
    now = replace(now, cluster=deleted(now.cluster))
    told: list[str] = []
    for _ in range(40):
        decided = plan(now)
        told += [f"guard {write.spec.node_name}" for write in decided.members]
        told += [f"delete {one.spec.node_name}" for one in decided.deletions]
        told += [f"release {one.spec.node_name}" for one in decided.releases]
        told += ["withdraw"] if decided.withdraw else []
        if decided.finished:
            break
        members = dict(now.members)
        members |= {write.spec.node_name: guarded(members[write.spec.node_name]) for write in decided.members}
        members |= {one.spec.node_name: let_go(deleted(one)) for one in decided.deletions}
        gone = {one.spec.node_name for one in decided.releases}
        assert now.cluster is not None
        assert decided.status is not None
        now = replace(
            now,
            members={name: one for name, one in members.items() if name not in gone},
            cluster=changed(now.cluster, status=decided.status),
            balancer=BalancerFacts(gone=True) if decided.withdraw else now.balancer,
        )
    stops = [f"{verb} {name}" for name in NODES for verb in ("guard", "delete")]
    assert told == [*stops, "withdraw", *(f"release {name}" for name in NODES)]


def test_a_deletion_waits_for_azure_and_says_why() -> None:
    facts = BalancerFacts(problem=Problem("Unreachable", "no answer"), azure=AzureStatus(id="/lb"))
    farm = changed(balanced(), status=changed(balanced().status, load_balancer=LoadBalancerStatus(azure=AzureStatus())))
    decided = plan(observed(deleted(farm), balancer=facts))
    assert not decided.finished
    assert decided.withdraw
    assert condition(decided, "Reconciling").reason == "Unreachable"
    assert "no answer" in condition(decided, "Reconciling").message


def test_a_deletion_says_what_becomes_of_the_balancer_and_leaves_no_empty_object() -> None:
    """Server-side apply makes null of an object whose fields are all given up, and the schema refuses that."""
    known = LoadBalancerStatus(azure=AzureStatus(id="/lb"))
    farm = deleted(changed(balanced(), status=changed(balanced().status, load_balancer=known)))
    waits = plan(observed(farm, balancer=BalancerFacts(problem=Problem("Unreachable", "no answer"))))
    assert condition(waits, "LoadBalancerReady").reason == "Unreachable"
    assert waits.status is not None
    assert waits.status.load_balancer == known
    done = plan(observed(farm, balancer=BalancerFacts(gone=True, azure=AzureStatus())))
    assert condition(done, "LoadBalancerReady").reason == "Withdrawn"
    assert done.status is not None
    assert done.status.load_balancer is None


def test_a_member_that_vanished_is_drawn_again_to_be_stopped() -> None:
    now = settled(cluster())
    now = replace(now, cluster=deleted(now.cluster), members={})
    assert [(write.spec.node_name, write.guarded) for write in plan(now).members] == [("vm1", True)]
    stuck = replace(now, undrawable=frozenset(NODES))
    assert plan(stuck).finished, "nothing can be told to a namespace that is being deleted"


# -- operations


def operation(kind: OperationType, *, name: str = "op", member: str | None = None) -> Operation:
    meta = ObjectMeta(name=name, namespace="shop", uid=f"u-{name}", creation_timestamp="2026-11-23T11:00:00Z")
    target = OperationTarget(kind="FarmCluster", name="web")
    return Operation(metadata=meta, spec=OperationSpec(cluster_ref=target, type=kind, member=member))


@pytest.mark.parametrize(
    ("kind", "hold"),
    [
        (OperationType.STOP, HeldState.STOPPED),
        (OperationType.DRAIN, HeldState.DRAINED),
        (OperationType.RESTART, None),
        (OperationType.RESET_FAILURES, None),
        (OperationType.START, None),
    ],
)
def test_an_operation_travels_to_one_member_after_the_other(kind: OperationType, hold: HeldState | None) -> None:
    now = replace(settled(cluster()), operations=(operation(kind),))
    decided = plan(now)
    assert [write.spec.node_name for write in decided.members] == ["vm1"]
    spec = decided.members[0].spec
    assert spec.operation is not None
    assert spec.operation.uid == "u-op"
    assert (spec.override.state if spec.override else None) == hold
    _, status = decided.operations[0]
    assert [step.phase for step in status.steps] == ["Running", "Pending", "Pending"]
    done = MemberOperationStatus(uid="u-op", phase=OperationPhase.SUCCEEDED)
    now = replace(
        now,
        members={**now.members, "vm1": member(spec, operation=done)},
        operations=(changed(now.operations[0], status=status),),
    )
    after = plan(now)
    assert sorted(write.spec.node_name for write in after.members) == ["vm1", "vm2"]
    kept = next(write.spec for write in after.members if write.spec.node_name == "vm1")
    assert kept.operation is None
    assert (kept.override.state if kept.override else None) == hold


@pytest.mark.parametrize(
    ("held", "kind", "after"),
    [
        (HeldState.DRAINED, OperationType.UNDRAIN, None),
        (HeldState.STOPPED, OperationType.UNDRAIN, HeldState.STOPPED),
        (HeldState.STOPPED, OperationType.START, None),
        (HeldState.DRAINED, OperationType.START, None),
    ],
)
def test_who_ends_which_hold(held: HeldState, kind: OperationType, after: HeldState | None) -> None:
    now = settled(cluster())
    spec = changed(now.members["vm1"].spec, override=Override(state=held))
    now = replace(now, members={**now.members, "vm1": member(spec)}, operations=(operation(kind, member="vm1"),))
    write = next(write.spec for write in plan(now).members if write.spec.node_name == "vm1")
    assert (write.override.state if write.override else None) == after


def test_a_restart_of_all_skips_who_is_held_and_fails_at_who_is_silent() -> None:
    now = settled(cluster())
    spec = changed(now.members["vm1"].spec, override=Override(state=HeldState.DRAINED))
    now = replace(
        now,
        members={**now.members, "vm1": member(spec)},
        silent={"vm2": "long ago"},
        operations=(operation(OperationType.RESTART),),
    )
    _, status = plan(now).operations[0]
    assert [step.phase for step in status.steps] == ["Succeeded", "Failed", "Pending"]
    assert "skipped" in status.steps[0].message
    assert status.phase == "Failed"


def test_changes_are_announced_and_what_goes_on_is_not() -> None:
    now = settled(cluster())
    assert now.cluster is not None
    quiet = plan(replace(now, silent={})).status
    assert quiet is not None
    assert announcements(now.cluster.status, quiet) == ()
    loud = plan(replace(now, silent=dict.fromkeys(NODES, "long ago"))).status
    assert loud is not None
    told = [(entry.action, entry.reason, entry.warning) for entry in announcements(now.cluster.status, loud)]
    assert told == [
        ("Available", "NoMemberReady", True),
        ("RedundancyReady", "NoMemberReady", True),
        *[("MemberState", "MemberUnknown", True)] * 3,
    ]


# -- what a written status leads to


def _unready(now: Observed) -> Observed:
    worse = {
        name: changed(one, status=changed(one.status, readiness=Readiness.NOT_READY, message="refused"))
        for name, one in now.members.items()
    }
    return replace(now, members=worse)


def _azure(now: Observed, **facts: Any) -> Observed:
    return replace(now, balancer=BalancerFacts(azure=AzureStatus(id="/lb", frontend_address="20.0.0.1"), **facts))


STEPS = {
    "first sight": observed(cluster()),
    "first sight, with a load balancer": observed(balanced()),
    "all well": settled(cluster()),
    "members not ready": _unready(settled(cluster())),
    "members not ready, behind a load balancer": _unready(settled(balanced())),
    "the load balancer is there": _azure(settled(balanced()), in_place=True),
    "the load balancer is refused": _azure(settled(balanced()), stalled=True, problem=Problem("No", "no")),
    "agents silent": replace(settled(cluster()), silent=dict.fromkeys(NODES, "2026-11-23T11:00:00Z")),
    "a machine leaves": replace(settled(cluster()), nodes={n: node(n, pool=n) for n in NODES} | {"vm1": node("vm1")}),
    "deleted": replace(settled(cluster()), cluster=deleted(settled(cluster()).cluster)),
    "deleted, all stopped": replace(
        settled(cluster()),
        cluster=deleted(settled(cluster()).cluster),
        members={name: let_go(deleted(guarded(one))) for name, one in settled(cluster()).members.items()},
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_status_that_leads_to_nothing_can_be_written_without_another_pass(step: str) -> None:
    now = STEPS[step]
    decided = plan(now)
    assert now.cluster is not None
    assert decided.status is not None
    after = plan(replace(now, cluster=changed(now.cluster, status=decided.status)))
    more = after != decided
    assert not more or leads_on(now.cluster.status, decided.status)


def test_words_lead_to_nothing_and_a_machine_less_leads_to_its_release() -> None:
    now = _unready(settled(cluster()))
    decided = plan(now)
    assert now.cluster is not None
    assert decided.status is not None
    assert decided.status != now.cluster.status
    assert not leads_on(now.cluster.status, decided.status)

    now = STEPS["deleted, all stopped"]
    decided = plan(now)
    assert now.cluster is not None
    assert decided.status is not None
    assert not decided.releases
    assert leads_on(now.cluster.status, decided.status)
    assert plan(replace(now, cluster=changed(now.cluster, status=decided.status))).releases
