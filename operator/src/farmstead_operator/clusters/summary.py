"""One line per member for the cluster's status: what its agent last said, or since when it says nothing. Pure."""

from collections.abc import Iterable, Mapping

from farmstead_api import FarmCluster
from farmstead_api.farmcluster import AzureStatus, LoadBalancerStatus, MemberSummary
from farmstead_api.member import MemberState, Readiness
from farmstead_operator.clusters.holds import current_hold
from farmstead_operator.clusters.observed import Observed


def summarize(
    observed: Observed, cluster: FarmCluster, nodes: Iterable[str], *, leaving: Mapping[str, str]
) -> tuple[MemberSummary, ...]:
    """Summaries of `nodes`; `leaving` says of those that leave what they wait for."""
    before = {entry.name: entry for entry in cluster.status.members}
    return tuple(_line(observed, cluster, node, before.get(node), leaving.get(node)) for node in nodes)


def _line(
    observed: Observed, cluster: FarmCluster, node: str, before: MemberSummary | None, leaving: str | None
) -> MemberSummary:
    state, readiness, reason = _state(observed, node)
    machine = observed.nodes.get(node)
    hold = current_hold(observed, cluster, node)
    return MemberSummary(
        name=node,
        state=state,
        readiness=readiness,
        zone=machine.spec.zone if machine else before.zone if before else "",
        address=machine.address if machine else before.address if before else "",
        reason=f"leaves the cluster: {leaving}"[:4096] if leaving is not None else reason[:4096],
        held=hold.state if hold else "",
    )


def _state(observed: Observed, node: str) -> tuple[MemberState, Readiness, str]:
    member = observed.members.get(node)
    unknown = MemberState.UNKNOWN, Readiness.NOT_READY
    if node not in observed.nodes:
        return *unknown, f"there is no FarmNode {node}: create it, or take the machine out of spec.members"
    if since := observed.silent.get(node):
        last = f"; last heard: {member.status.state} {member.status.readiness}" if member else ""
        return *unknown, f"its agent has been silent since {since}{last}"
    if member is None:
        return *unknown, "its Member is not there yet"
    if member.status.state is MemberState.UNKNOWN:
        return *unknown, "its agent has not reported yet"
    status = member.status
    ready = status.readiness is Readiness.READY
    return status.state, status.readiness, "" if ready else status.message or status.reason


def is_ready(entry: MemberSummary) -> bool:
    """Whether the member serves."""
    return entry.state == MemberState.UP and entry.readiness == Readiness.READY


def unready(entries: Iterable[MemberSummary]) -> str:
    """Who is not ready and why, for people."""
    return "; ".join(f"{entry.name}: {entry.reason or entry.state}" for entry in entries if not is_ready(entry))


def balancer_status(azure: AzureStatus) -> LoadBalancerStatus | None:
    """The status of a load balancer; None where nothing is known of it any more.

    Never an empty object in place of a full one: when all of its fields are given up, server-side apply makes null of
    it, and the schema refuses that, for ever.
    """
    return None if azure == AzureStatus() else LoadBalancerStatus(azure=azure)
