"""What to do about one cluster now: observed -> plan. Pure, level-based: every pass starts from what is.

    no cluster          nothing happens to its Members: gone is not stop
    cluster             members rendered, leavers removed one by one, load balancer declared, status drawn
    cluster, deleted    members stopped one by one; then what is ours in the load balancer; then the Members; then it
    kind, deleted       the cluster is let go at once, with all that runs

Order matters in one place: a machine is dropped from the status before its Member's finalizer goes, so that a machine
which is listed and has no Member is one whose Member vanished, never one that was removed in good order.
"""

from collections.abc import Iterable

from farmstead_api import FarmCluster, Member
from farmstead_api.common import Application, DesiredState
from farmstead_api.conditions import merge
from farmstead_api.farmcluster import AzureStatus, FarmClusterStatus, LoadBalancerStatus
from farmstead_api.member import FINALIZER, MemberSpec
from farmstead_operator.clusters.conditions import Picture, conditions
from farmstead_operator.clusters.ending import plan_end
from farmstead_operator.clusters.membership import Membership, membership
from farmstead_operator.clusters.observed import Backend, MemberWrite, Observed, Plan, Problem
from farmstead_operator.clusters.operations import OperationsPlan, hold_after, order_for, plan_operations
from farmstead_operator.clusters.removal import Removal, known_nodes, plan_removal, releasable
from farmstead_operator.clusters.render import carried, render
from farmstead_operator.clusters.summary import balancer_status, is_ready, summarize

GIVEN_UP = "GivenUp"


def plan(observed: Observed) -> Plan:
    """The plan for what is observed."""
    cluster = observed.cluster
    if cluster is None or (cluster.metadata.deleting and observed.api_going):
        operations = plan_operations(observed, ())
        return Plan(
            operations=operations.changed,
            expired=operations.expired,
            wake_after=operations.wake_after,
            finished=cluster is not None,
        )
    return plan_end(observed, cluster) if cluster.metadata.deleting else _life(observed, cluster)


def leads_on(before: FarmClusterStatus, after: FarmClusterStatus) -> bool:
    """Whether a status, once written, lets the next pass do more than this one; all else in it is for people."""
    return _leading(before) != _leading(after)


def _leading(status: FarmClusterStatus) -> object:
    listed = [(entry.name, entry.held) for entry in status.members]
    return status.observed_generation, listed, status.load_balancer


def _life(observed: Observed, cluster: FarmCluster) -> Plan:
    roll = membership(cluster.spec.members, observed.nodes, namespace=cluster.metadata.namespace)
    staying = _staying(observed, roll)
    drawn = carried(cluster.spec.application, observed.config_map)
    application = None if isinstance(drawn, Problem) else drawn
    leaving = [node for node in known_nodes(observed, cluster) if node not in staying]
    returning = [node for node in staying if node in observed.members and observed.members[node].metadata.deleting]
    held_back = _held_back(observed, cluster, roll, staying, leaving)
    removal = plan_removal(
        observed, cluster, sorted([*leaving, *returning]), application=application, held_back=held_back
    )
    operations = plan_operations(observed, staying)
    picture = _picture(observed, cluster, roll, removal, staying=staying, held_back=held_back, drawn=drawn)
    return Plan(
        members=(*_writes(observed, cluster, staying, application, operations), *removal.writes),
        deletions=removal.deletions,
        releases=releasable(cluster, removal.removed, staying=staying),
        backends=(_backends(picture) or None) if picture.wants_balancer else None,
        withdraw=picture.had_balancer and not picture.wants_balancer,
        operations=operations.changed,
        expired=operations.expired,
        status=_status(observed, picture),
        wake_after=operations.wake_after,
    )


def _staying(observed: Observed, roll: Membership) -> tuple[str, ...]:
    """Machines that are, or become, members; of those without a FarmNode only such as have a Member."""
    absent = [node for node in roll.absent if node in observed.members]
    return tuple(sorted([*(node.metadata.name for node in roll.wanted), *absent]))


def _held_back(
    observed: Observed, cluster: FarmCluster, roll: Membership, staying: Iterable[str], leaving: Iterable[str]
) -> str:
    """Why no machine may leave now; empty where they may."""
    if not leaving:
        return ""
    if roll.matches_nothing:
        return (
            "spec.members.selector matches no FarmNode: nobody is stopped for that; correct it, or delete the cluster"
        )
    if cluster.spec.desired_state is DesiredState.STOPPED:
        return ""
    serving = {
        entry.name for entry in summarize(observed, cluster, [*staying, *leaving], leaving={}) if is_ready(entry)
    }
    if serving & set(leaving) and not serving & set(staying):
        return f"no machine that stays is ready yet, and {', '.join(sorted(serving))} serves: it leaves when one is"
    return ""


def _writes(
    observed: Observed,
    cluster: FarmCluster,
    staying: Iterable[str],
    application: Application | None,
    operations: OperationsPlan,
) -> Iterable[MemberWrite]:
    """Members of the machines that stay, where they differ from what is there."""
    for node in staying:
        member = observed.members.get(node)
        runs = application or (member.spec.application if member else None)
        if runs is None or (member is not None and member.metadata.deleting):
            continue
        operation = operations.acting.get(node)
        hold = hold_after(observed, cluster, node, operation)
        spec = render(cluster, node, runs, operation=order_for(operation), override=hold)
        if member is None or _differs(member, spec):
            yield MemberWrite(spec=spec)


def _differs(member: Member, spec: MemberSpec) -> bool:
    return member.spec != spec or FINALIZER in member.metadata.finalizers


def _picture(
    observed: Observed,
    cluster: FarmCluster,
    roll: Membership,
    removal: Removal,
    *,
    staying: tuple[str, ...],
    held_back: str,
    drawn: Application | Problem,
) -> Picture:
    leaving = {node: note for node, note in removal.notes.items() if node not in staying}
    members = [observed.members[node] for node in staying if node in observed.members]
    balancer = cluster.status.load_balancer
    return Picture(
        cluster=cluster,
        staying=summarize(observed, cluster, staying, leaving={}),
        leaving=summarize(observed, cluster, leaving, leaving=leaving),
        roll=roll,
        problem=drawn if isinstance(drawn, Problem) else None,
        held_back=held_back,
        given_up=tuple(
            member.spec.node_name
            for member in members
            if member.status.reason == GIVEN_UP and member.spec.node_name not in observed.silent
        ),
        behind=tuple(
            member.spec.node_name for member in members if member.status.observed_revision != member.spec.revision
        ),
        balancer=observed.balancer,
        wants_balancer=cluster.spec.load_balancer is not None,
        had_balancer=balancer is not None and not (observed.balancer is not None and observed.balancer.gone),
    )


def _backends(picture: Picture) -> tuple[Backend, ...]:
    """Every machine that has, or gets, a Member and whose address is known: its probe decides about traffic.

    Nobody is no wish: right after the kinds were applied again a cluster may be seen before its machines are, and an
    empty pool would cut off clients that are being served.
    """
    return tuple(
        Backend(node=entry.name, address=entry.address)
        for entry in (*picture.staying, *picture.leaving)
        if entry.address
    )


def _status(observed: Observed, picture: Picture) -> FarmClusterStatus:
    cluster = picture.cluster
    return FarmClusterStatus(
        observed_generation=cluster.metadata.generation,
        conditions=merge(cluster.status.conditions, conditions(picture), now=observed.timestamp),
        members=(*picture.staying, *picture.leaving),
        ready_members=sum(map(is_ready, picture.staying)),
        total_members=len(picture.staying),
        load_balancer=_balancer_status(picture),
    )


def _balancer_status(picture: Picture) -> LoadBalancerStatus | None:
    """News of the load balancer, else what was last known; an empty one says from the start that there will be one."""
    if not picture.wants_balancer and not picture.had_balancer:
        return None
    shown = picture.cluster.status.load_balancer
    if picture.balancer is None or picture.balancer.azure is None:
        return shown or LoadBalancerStatus(azure=AzureStatus())
    return balancer_status(picture.balancer.azure) or (None if shown else LoadBalancerStatus(azure=AzureStatus()))
