"""The end of a cluster: stop its members one by one, take what is ours from the load balancer, let it go. Pure.

Nothing here gives up: what can't be done now is waited for, and the condition says what it is.
"""

from collections.abc import Iterable

from farmstead_api import Condition, ConditionStatus, FarmCluster
from farmstead_api.conditions import merge
from farmstead_api.farmcluster import FarmClusterStatus, MemberSummary
from farmstead_operator.clusters.observed import Observed, Plan, Problem
from farmstead_operator.clusters.operations import plan_operations
from farmstead_operator.clusters.removal import Removal, known_nodes, plan_removal, releasable
from farmstead_operator.clusters.render import carried
from farmstead_operator.clusters.summary import balancer_status, is_ready, summarize

STOPPING = "StoppingMembers"


def plan_end(observed: Observed, cluster: FarmCluster) -> Plan:
    """The next steps for a cluster that is being deleted."""
    drawn = carried(cluster.spec.application, observed.config_map)
    application = None if isinstance(drawn, Problem) else drawn
    removal = plan_removal(observed, cluster, known_nodes(observed, cluster), application=application, held_back="")
    running = sorted(removal.notes)
    had_balancer = cluster.spec.load_balancer is not None or cluster.status.load_balancer is not None
    clear = not had_balancer or (observed.balancer is not None and observed.balancer.gone)
    waiting = _waiting(observed, removal, clear=clear)
    operations = plan_operations(observed, ())
    entries = summarize(observed, cluster, running, leaving=removal.notes)
    return Plan(
        members=removal.writes,
        deletions=removal.deletions,
        releases=releasable(cluster, removal.removed) if clear and not running else (),
        withdraw=had_balancer and not running and not clear,
        operations=operations.changed,
        expired=operations.expired,
        status=_status(observed, cluster, entries, waiting, _balancer(waiting, clear=clear) if had_balancer else None),
        finished=clear and not running and not observed.members,
        wake_after=operations.wake_after,
    )


def _waiting(observed: Observed, removal: Removal, *, clear: bool) -> Problem:
    """What the deletion waits for now."""
    if removal.notes:
        notes = "; ".join(f"{node}: {note}" for node, note in sorted(removal.notes.items()))
        return Problem(STOPPING, notes)
    if not clear:
        facts = observed.balancer
        if facts is not None and facts.problem is not None:
            message = f"the load balancer can't be cleaned up yet, it is tried again: {facts.problem.message}"
            return Problem(facts.problem.reason, message)
        return Problem("RemovingLoadBalancer", "what is ours at the load balancer is being removed")
    return Problem("RemovingMembers", "all members have stopped, their objects are being removed")


def _balancer(waiting: Problem, *, clear: bool) -> Problem:
    """What to say of the load balancer."""
    if clear:
        return Problem("Withdrawn", "nothing of ours is left there")
    if waiting.reason == STOPPING:
        return Problem("Withdrawing", "what is ours there goes when all members have stopped")
    return waiting


def _status(
    observed: Observed,
    cluster: FarmCluster,
    entries: tuple[MemberSummary, ...],
    waiting: Problem,
    balancer: Problem | None,
) -> FarmClusterStatus:
    azure = observed.balancer.azure if observed.balancer else None
    return FarmClusterStatus(
        observed_generation=cluster.metadata.generation,
        conditions=merge(
            cluster.status.conditions,
            _conditions(observed, cluster, entries, waiting, balancer),
            now=observed.timestamp,
        ),
        members=entries,
        ready_members=sum(map(is_ready, entries)),
        total_members=len(entries),
        load_balancer=cluster.status.load_balancer if azure is None else balancer_status(azure),
    )


def _conditions(
    observed: Observed,
    cluster: FarmCluster,
    entries: Iterable[MemberSummary],
    waiting: Problem,
    balancer: Problem | None,
) -> Iterable[Condition]:
    def condition(name: str, status: ConditionStatus, reason: str, message: str = "") -> Condition:
        return Condition(
            type=name,
            status=status,
            reason=reason,
            message=message[:32768],
            observed_generation=cluster.metadata.generation,
        )

    stalled = observed.balancer is not None and observed.balancer.stalled
    serving = [entry.name for entry in entries if is_ready(entry)]
    yield condition("Ready", ConditionStatus.FALSE, "Deleting", waiting.message)
    yield condition("Reconciling", ConditionStatus.TRUE, waiting.reason, waiting.message)
    yield condition(
        "Stalled", ConditionStatus.TRUE if stalled else ConditionStatus.FALSE, waiting.reason, waiting.message
    )
    yield condition(
        "Available",
        ConditionStatus.TRUE if serving else ConditionStatus.FALSE,
        "Deleting",
        f"still serving: {', '.join(serving)}" if serving else "the cluster is being deleted",
    )
    if balancer is not None:
        yield condition("LoadBalancerReady", ConditionStatus.FALSE, balancer.reason, balancer.message)
