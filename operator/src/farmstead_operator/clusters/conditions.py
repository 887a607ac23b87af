"""A cluster's conditions, each a chain of small answers; the first that applies wins. Pure.

Ready, Reconciling and Stalled are kstatus' own: Stalled=True is for what only a person can mend, Reconciling=True for
what is under way or mends itself. The others say one thing each: Available, RedundancyReady, LoadBalancerReady,
MembersChangePending, Held. Every message says what is and, where there is one, the way out.
"""

from collections.abc import Callable
from dataclasses import dataclass

from farmstead_api import Condition, ConditionStatus, FarmCluster
from farmstead_api.common import DesiredState
from farmstead_api.farmcluster import MemberSummary
from farmstead_api.member import MemberState
from farmstead_operator.clusters.membership import Membership
from farmstead_operator.clusters.observed import BalancerFacts, Problem
from farmstead_operator.clusters.summary import is_ready, unready

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What the conditions are drawn from."""

    cluster: FarmCluster
    staying: tuple[MemberSummary, ...]
    leaving: tuple[MemberSummary, ...]
    roll: Membership
    problem: Problem | None
    """What keeps the application from being rendered."""
    held_back: str
    """Why members that should leave are kept."""
    given_up: tuple[str, ...]
    """Machines whose agent has given up."""
    behind: tuple[str, ...]
    """Machines whose agent has not yet taken up its instructions."""
    balancer: BalancerFacts | None
    wants_balancer: bool
    had_balancer: bool

    @property
    def stopped(self) -> bool:
        """Whether the cluster is to be stopped."""
        return self.cluster.spec.desired_state is DesiredState.STOPPED

    @property
    def ready(self) -> tuple[MemberSummary, ...]:
        """All that serve, also those that are about to leave."""
        return tuple(entry for entry in (*self.staying, *self.leaving) if is_ready(entry))


@dataclass(frozen=True, slots=True)
class Answer:
    """A condition's status, reason and message."""

    status: ConditionStatus
    reason: str
    message: str = ""


Rule = Callable[[Picture], Answer | None]


def conditions(picture: Picture) -> tuple[Condition, ...]:
    """All conditions that apply, in the order in which people read them; times are not set."""
    stalled = _stalled(picture)
    ready = _ready(picture, stalled)
    under_way = ready.status is not TRUE and stalled.status is not TRUE
    answers = {
        "Ready": ready,
        "Reconciling": Answer(TRUE, ready.reason, ready.message) if under_way else Answer(FALSE, "Settled"),
        "Stalled": stalled,
        "Available": _available(picture),
        "RedundancyReady": _redundancy(picture),
        "LoadBalancerReady": _balancer(picture),
        "MembersChangePending": _pending(picture),
        "Held": _held(picture),
    }
    return tuple(
        Condition(
            type=name,
            status=answer.status,
            reason=answer.reason,
            message=answer.message[:32768],
            observed_generation=picture.cluster.metadata.generation,
        )
        for name, answer in answers.items()
        if answer is not None
    )


def _first(picture: Picture, rules: tuple[Rule, ...], otherwise: Answer) -> Answer:
    return next((answer for rule in rules if (answer := rule(picture))), otherwise)


# Stalled: what only a person can mend.


def _application_incomplete(picture: Picture) -> Answer | None:
    return Answer(TRUE, picture.problem.reason, picture.problem.message) if picture.problem else None


def _nobody(picture: Picture) -> Answer | None:
    if picture.roll.wanted or picture.roll.absent or picture.roll.forbidden:
        return None
    kept = "; the members that it had stay as they are" if picture.leaving else ""
    message = f"spec.members.selector matches no FarmNode{kept}: correct the selector, or label a FarmNode"
    return Answer(TRUE, "NoMembers", message)


def _not_allowed(picture: Picture) -> Answer | None:
    if not picture.roll.forbidden:
        return None
    names = ", ".join(picture.roll.forbidden)
    namespace = picture.cluster.metadata.namespace
    message = f"namespace {namespace} may not use {names}: add it to spec.allowedNamespaces of the FarmNode"
    return Answer(TRUE, "FarmNodeNotAllowed", f"{message}, or take the machine out of spec.members")


def _not_there(picture: Picture) -> Answer | None:
    if not picture.roll.absent:
        return None
    names = ", ".join(picture.roll.absent)
    message = f"there is no FarmNode {names}: create it, or take the name out of spec.members.names"
    return Answer(TRUE, "FarmNodeMissing", message)


def _gave_up(picture: Picture) -> Answer | None:
    if not picture.given_up:
        return None
    message = f"{unready(e for e in picture.staying if e.name in picture.given_up)}"
    return Answer(TRUE, "MemberGaveUp", message)


def _balancer_stalled(picture: Picture) -> Answer | None:
    facts = picture.balancer
    if facts is None or not facts.stalled or facts.problem is None:
        return None
    return Answer(TRUE, facts.problem.reason, facts.problem.message)


STALLED: tuple[Rule, ...] = (_application_incomplete, _nobody, _not_allowed, _not_there, _balancer_stalled, _gave_up)


def _stalled(picture: Picture) -> Answer:
    return _first(picture, STALLED, Answer(FALSE, "NothingForPeople"))


# Ready: everything is as the spec wants it.


def _silent_start(picture: Picture) -> Answer | None:
    if any(entry.state != MemberState.UNKNOWN for entry in picture.staying):
        return None
    return Answer(UNKNOWN, "WaitingForMembers", f"no member has been heard of: {unready(picture.staying)}")


def _still_running(picture: Picture) -> Answer | None:
    running = [entry.name for entry in picture.staying if entry.state != MemberState.STOPPED]
    if not picture.stopped or not running:
        return None
    return Answer(FALSE, "Stopping", f"not stopped yet: {', '.join(running)}")


def _members_not_ready(picture: Picture) -> Answer | None:
    lacking = [entry for entry in picture.staying if not is_ready(entry) and not _held_as_wanted(entry)]
    if picture.stopped or not lacking:
        return None
    return Answer(FALSE, "MembersNotReady", unready(lacking))


def _held_as_wanted(entry: MemberSummary) -> bool:
    return bool(entry.held) and entry.state == MemberState.STOPPED


def _members_behind(picture: Picture) -> Answer | None:
    if not picture.behind:
        return None
    return Answer(
        FALSE, "MembersUpdating", f"not yet working from the latest instructions: {', '.join(picture.behind)}"
    )


def _members_leaving(picture: Picture) -> Answer | None:
    if not picture.leaving:
        return None
    return Answer(FALSE, "MembersLeaving", "; ".join(f"{entry.name}: {entry.reason}" for entry in picture.leaving))


def _balancer_not_ready(picture: Picture) -> Answer | None:
    answer = _balancer(picture)
    if answer is None or answer.status is TRUE:
        return None
    return Answer(FALSE, "LoadBalancerNotReady", f"{answer.reason}: {answer.message}")


READY: tuple[Rule, ...] = (
    _silent_start,
    _still_running,
    _members_not_ready,
    _balancer_not_ready,
    _members_behind,
    _members_leaving,
)


def _ready(picture: Picture, stalled: Answer) -> Answer:
    if stalled.status is TRUE:
        return Answer(FALSE, stalled.reason, stalled.message)
    done = Answer(TRUE, "Stopped" if picture.stopped else "AllMembersReady", _count(picture))
    return _first(picture, READY, done)


# The others, one thing each.


def _available(picture: Picture) -> Answer:
    if not picture.ready:
        if picture.stopped:
            return Answer(FALSE, "Stopped", "spec.desiredState is Stopped")
        return Answer(FALSE, "NoMemberReady", unready(picture.staying) or "there are no members")
    if picture.wants_balancer and not _frontend(picture):
        return Answer(FALSE, "NoFrontend", "the load balancer has no address yet: see LoadBalancerReady")
    return Answer(TRUE, "Serving", f"{_count(picture)}")


def _frontend(picture: Picture) -> str:
    """The address that clients use, as far as known; what the last status said stands until there is news."""
    shown = picture.cluster.status.load_balancer
    azure = picture.balancer.azure if picture.balancer else shown.azure if shown else None
    return azure.frontend_address if azure else ""


def _redundancy(picture: Picture) -> Answer:
    if picture.stopped:
        return Answer(FALSE, "Stopped", "spec.desiredState is Stopped")
    if len(picture.staying) == 1:
        return Answer(FALSE, "SingleMember", "the cluster has one machine: add another one to spec.members")
    if len(picture.ready) >= 2:
        return Answer(TRUE, "SurvivesALoss", _count(picture))
    if not picture.ready:
        return Answer(FALSE, "NoMemberReady", unready(picture.staying))
    return Answer(FALSE, "OneMemberLeft", f"only {picture.ready[0].name} serves; {unready(picture.staying)}")


def _balancer(picture: Picture) -> Answer | None:
    facts = picture.balancer
    if not picture.wants_balancer:
        if not picture.had_balancer:
            return None
        words = facts.problem.message if facts and facts.problem else "what is ours there is being removed"
        return Answer(FALSE, "Withdrawing", words)
    return _wanted_balancer(picture, facts)


def _wanted_balancer(picture: Picture, facts: BalancerFacts | None) -> Answer:
    if not (picture.staying or picture.leaving):
        return Answer(FALSE, "NoMembers", "no machine is a member yet; until one is, nothing is changed there")
    if facts is None:
        return _balancer_before(picture.cluster)
    if facts.problem is not None:
        return Answer(FALSE, facts.problem.reason, facts.problem.message)
    if not facts.in_place:
        return Answer(FALSE, "Applying", facts.note or "the load balancer is being brought into the wanted state")
    return Answer(TRUE, "InPlace", "; ".join(filter(None, (_backends(facts), facts.note))))


def _balancer_before(cluster: FarmCluster) -> Answer:
    """Right after a start of the operator nothing has been read yet: what was last known stands."""
    known = next((entry for entry in cluster.status.conditions if entry.type == "LoadBalancerReady"), None)
    if known is None:
        return Answer(UNKNOWN, "NotReadYet", "the load balancer has not been looked at yet")
    return Answer(known.status, known.reason, known.message)


def _backends(facts: BalancerFacts) -> str:
    backends = facts.azure.backends if facts.azure else ()
    down = [f"{entry.address} ({entry.listener}): {entry.reason}" for entry in backends if entry.state != "Up"]
    up = len(backends) - len(down)
    seen = f"; its probes see {up} of {len(backends)} backends up" if backends else ""
    address = facts.azure.frontend_address if facts.azure else ""
    return f"clients connect to {address}{seen}" + (f"; {'; '.join(down)}" if down else "")


def _pending(picture: Picture) -> Answer:
    if picture.held_back:
        return Answer(TRUE, "HeldBack", picture.held_back)
    if picture.leaving:
        return Answer(TRUE, "MembersLeaving", "; ".join(f"{e.name}: {e.reason}" for e in picture.leaving))
    return Answer(FALSE, "NoChange")


def _held(picture: Picture) -> Answer:
    held = [f"{entry.name} is {entry.held}" for entry in picture.staying if entry.held]
    if not held:
        return Answer(FALSE, "NobodyHeld")
    message = f"by an Operation: {', '.join(held)}; an Operation Start, or a change of spec.desiredState, ends it"
    return Answer(TRUE, "HeldByOperation", message)


def _count(picture: Picture) -> str:
    return f"{sum(map(is_ready, picture.staying))} of {len(picture.staying)} members ready"
