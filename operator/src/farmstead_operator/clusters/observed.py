"""What a decision about one cluster looks at, and what it answers: frozen, parsed, complete. No I/O, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from farmstead_api import FarmCluster, FarmNode, Member, Operation
from farmstead_api.farmcluster import AzureStatus, FarmClusterStatus
from farmstead_api.member import MemberSpec
from farmstead_api.operation import OperationStatus

CLUSTER_FINALIZER = "farmstead.dev/cluster"
"""Holds a FarmCluster until its end is carried out."""

Key = tuple[str, str]
"""Namespace and name of a cluster."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is not as it should be: `reason` is CamelCase, `message` also says what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerFacts:
    """What is known of the cluster's share in its load balancer; the adapter's own words, whichever it is."""

    in_place: bool = False
    """What the cluster wants is there, read back."""
    gone: bool = False
    """Nothing of the cluster is left."""
    stalled: bool = False
    """It waits for a person."""
    problem: Problem | None = None
    note: str = ""
    """What happened besides, such as a repair."""
    azure: AzureStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All that is known of one cluster at one moment."""

    key: Key
    now: datetime
    cluster: FarmCluster | None
    nodes: Mapping[str, FarmNode]
    """All machines, by name."""
    members: Mapping[str, Member] = field(default_factory=dict)
    """This cluster's Members, by machine."""
    silent: Mapping[str, str] = field(default_factory=dict)
    """Machines whose agent does not renew its Lease, and since when."""
    operations: tuple[Operation, ...] = ()
    """This cluster's, oldest first."""
    config_map: Mapping[str, str] | None = None
    """Content of the ConfigMap that the application names; None where it is not there."""
    balancer: BalancerFacts | None = None
    """None while nothing is known, and for a cluster without a load balancer."""
    api_going: bool = False
    """The kind FarmCluster itself is being deleted: that every cluster is, too, is nobody's order to stop them."""
    undrawable: frozenset[str] = frozenset()
    """Machines whose vanished Member can't be drawn again, since the namespace itself is being deleted."""

    @property
    def timestamp(self) -> str:
        """Now, as the API writes times."""
        return timestamp(self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A machine that the load balancer may send clients to; its probe decides."""

    node: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberWrite:
    """A Member as it should be; `guarded`: with the finalizer, since it is about to be deleted in order to stop it."""

    spec: MemberSpec
    guarded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now. Carried out in the order of the fields; nothing in it depends on an earlier plan."""

    members: tuple[MemberWrite, ...] = ()
    deletions: tuple[Member, ...] = ()
    releases: tuple[Member, ...] = ()
    """Members whose finalizer goes."""
    backends: tuple[Backend, ...] | None = None
    """What to declare at the load balancer; None: leave it as it is."""
    withdraw: bool = False
    """Take everything of the cluster from its load balancer."""
    operations: tuple[tuple[Operation, OperationStatus], ...] = ()
    """Operations whose status changes."""
    expired: tuple[Operation, ...] = ()
    status: FarmClusterStatus | None = None
    """The cluster's status as it should be; None: there is no cluster to write it to."""
    finished: bool = False
    """A deleted cluster may go: its finalizer is taken away."""
    wake_after: float | None = None
    """When to look again if nothing happens before, in seconds."""


def timestamp(moment: datetime) -> str:
    """A time as the API writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """A time as the API wrote it."""
    return datetime.fromisoformat(text)
