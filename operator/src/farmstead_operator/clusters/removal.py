"""How machines leave a cluster: drained and stopped one after the other, never by accident. Pure.

    Member                          -> guarded (finalizer) -> deleted -> agent stops, reports Removed -> released
    vanished, yet listed in status  -> drawn again, guarded ...
    FarmNode is gone                -> deleted or released at once: the machine is gone, says a person

Only a deletionTimestamp seen on a Member is an order to stop, and without a finalizer nobody sees one: an unguarded
Member that garbage collection, a pruned folder or a deleted CRD takes away just vanishes, and what runs runs on. So the
guard is put on right before the deletion that is meant. A silent machine does not keep the others waiting.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from farmstead_api import FarmCluster, Member
from farmstead_api.common import Application
from farmstead_api.member import FINALIZER
from farmstead_operator.clusters.observed import MemberWrite, Observed
from farmstead_operator.clusters.render import render, revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What to do about the machines that leave."""

    writes: tuple[MemberWrite, ...] = ()
    deletions: tuple[Member, ...] = ()
    removed: tuple[Member, ...] = ()
    """Members whose agent has let go, still held by the finalizer."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Machines that are not out yet, each with what it waits for."""


@dataclass(slots=True)
class _Draft:
    writes: list[MemberWrite] = field(default_factory=list)
    deletions: list[Member] = field(default_factory=list)
    removed: list[Member] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    """Machines that have not been told yet, in order."""
    busy: str = ""
    """The machine whose stop is awaited."""


def plan_removal(
    observed: Observed, cluster: FarmCluster, nodes: Sequence[str], *, application: Application | None, held_back: str
) -> Removal:
    """The next steps for `nodes`, in order. `held_back` says why nobody new is told now; empty: go on.

    `application` is what a Member that has vanished is drawn with; None where it is not known.
    """
    draft = _Draft()
    for node in nodes:
        _sort(observed, node, draft, drawable=application is not None, held_back=held_back)
    for node in draft.waiting:
        draft.notes[node] = held_back or f"waits for {draft.busy or draft.waiting[0]}, one after the other"
    if draft.waiting and not draft.busy and not held_back:
        node = draft.waiting[0]
        _tell(observed, cluster, node, application, draft)
        draft.notes[node] = "is being told to stop"
    return Removal(
        writes=tuple(draft.writes),
        deletions=tuple(draft.deletions),
        removed=tuple(draft.removed),
        notes=draft.notes,
    )


def _sort(observed: Observed, node: str, draft: _Draft, *, drawable: bool, held_back: str) -> None:
    """Put one machine where it belongs."""
    member = observed.members.get(node)
    if member is None:
        if node in observed.nodes and node not in observed.undrawable and drawable:
            draft.waiting.append(node)
        elif node not in observed.nodes and held_back:
            draft.notes[node] = held_back
    elif node not in observed.nodes:
        if member.metadata.deleting:
            draft.removed.append(member)
        elif held_back:
            draft.notes[node] = held_back
        else:
            draft.deletions.append(member)
    elif not member.metadata.deleting:
        draft.waiting.append(node)
    elif member.removed:
        draft.removed.append(member)
    elif since := observed.silent.get(node):
        draft.notes[node] = (
            f"its agent has been silent since {since}: the removal waits for it; "
            f"if the machine is gone for good, delete FarmNode {node}"
        )
    else:
        draft.busy = node
        draft.notes[node] = member.status.message or "is stopping"


def _tell(observed: Observed, cluster: FarmCluster, node: str, application: Application | None, draft: _Draft) -> None:
    """Guard the Member, then delete it: two writes, so two passes."""
    member = observed.members.get(node)
    if member is not None and FINALIZER in member.metadata.finalizers:
        draft.deletions.append(member)
        return
    if member is not None:
        spec = replace(member.spec, deletion_policy=cluster.spec.deletion_policy, revision="")
        draft.writes.append(MemberWrite(spec=replace(spec, revision=revision(spec)), guarded=True))
    elif application is not None:
        spec = render(cluster, node, application, operation=None, override=None)
        draft.writes.append(MemberWrite(spec=spec, guarded=True))


def known_nodes(observed: Observed, cluster: FarmCluster) -> list[str]:
    """Machines that have, or had, to do with the cluster."""
    return sorted({*observed.members, *(entry.name for entry in cluster.status.members)})


def releasable(cluster: FarmCluster, removed: Iterable[Member], *, staying: Iterable[str] = ()) -> tuple[Member, ...]:
    """Members that may go: let go by their agent and no longer in the status, unless they are to come back."""
    listed = {entry.name for entry in cluster.status.members}
    back = set(staying)
    return tuple(member for member in removed if (node := member.spec.node_name) not in listed or node in back)
