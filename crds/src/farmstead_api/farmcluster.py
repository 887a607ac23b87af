"""View of FarmCluster: one application on every machine, behind a load balancer."""

from collections.abc import Mapping
from enum import StrEnum

from farmstead_api.common import (
    Application,
    Check,
    DeletionPolicy,
    DesiredState,
    Drain,
    Failover,
    Maintenance,
    Probe,
    Switch,
)
from farmstead_api.conditions import Condition
from farmstead_api.meta import ObjectMeta, View


class SelectorRequirement(View, frozen=True):
    """One expression of a label selector: `operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(View, frozen=True):
    """Kubernetes' label selector; all parts must match."""

    match_labels: Mapping[str, str] = {}
    match_expressions: tuple[SelectorRequirement, ...] = ()


class Members(View, frozen=True):
    """Which FarmNodes run the application: exactly one of names and selector."""

    names: tuple[str, ...] = ()
    selector: LabelSelector | None = None


class Protocol(StrEnum):
    """Transport protocol of a listener."""

    TCP = "TCP"
    UDP = "UDP"


class Affinity(StrEnum):
    """What keeps a client on one machine."""

    NONE = "None"
    CLIENT_IP = "ClientIP"
    CLIENT_IP_PROTOCOL = "ClientIPProtocol"


class Listener(View, frozen=True):
    """What clients connect to: `port` on the load balancer's frontend leads to `backend_port` on a machine."""

    name: str
    port: int
    backend_port: int | None = None
    protocol: Protocol = Protocol.TCP
    affinity: Affinity = Affinity.NONE
    idle_timeout_seconds: int = 240
    """A multiple of 60, as Azure counts minutes."""
    tcp_reset: Switch = Switch.ENABLED
    """Whether both sides get a RST when an idle connection is dropped."""

    @property
    def effective_backend_port(self) -> int:
        """The port on the machines; the listener's own where none is given."""
        return self.backend_port or self.port


class PublicIPAddress(View, frozen=True):
    """A public IP address resource in the load balancer's resource group; created where it does not exist."""

    name: str


class Frontend(View, frozen=True):
    """The address clients use: a public one, or one of a subnet."""

    public_ip_address: PublicIPAddress | None = None
    subnet_id: str | None = None
    private_ip_address: str | None = None
    """Static address in the subnet; Azure chooses where not given."""
    zones: tuple[str, ...] = ()
    """Availability zones; empty: Azure's default (zone-redundant public addresses in zonal regions)."""


class NoHealthyBackends(StrEnum):
    """Where new connections go when no machine's probe answers 200."""

    ALL_PROBED_DOWN = "AllProbedDown"
    ALL_PROBED_UP = "AllProbedUp"


class AzureLoadBalancer(View, frozen=True):
    """A Standard load balancer in Azure; what is left out comes from the operator's settings."""

    frontend: Frontend
    name: str | None = None
    """Default: farmstead-<namespace>-<name>, created and deleted by the operator."""
    subscription_id: str | None = None
    resource_group: str | None = None
    location: str | None = None
    virtual_network_id: str | None = None
    """Resource id of the network that the machines' addresses belong to."""
    no_healthy_backends: NoHealthyBackends = NoHealthyBackends.ALL_PROBED_DOWN


class LoadBalancer(View, frozen=True):
    """Which load balancer stands in front: exactly one kind (azure, today)."""

    azure: AzureLoadBalancer | None = None


class FarmClusterSpec(View, frozen=True):
    """What the user wants."""

    members: Members
    application: Application
    desired_state: DesiredState = DesiredState.RUNNING
    deletion_policy: DeletionPolicy = DeletionPolicy.STOP
    listeners: tuple[Listener, ...] = ()
    probe: Probe = Probe()
    drain: Drain = Drain()
    checks: tuple[Check, ...] = ()
    failover: Failover = Failover()
    maintenance: Maintenance = Maintenance()
    load_balancer: LoadBalancer | None = None


class MemberSummary(View, frozen=True):
    """One member as the cluster's status shows it."""

    name: str
    """The FarmNode's name."""
    state: str
    readiness: str
    zone: str = ""
    address: str = ""
    reason: str = ""
    held: str = ""
    """Stopped or Drained while a person's Operation holds it; a Member that vanishes is drawn again with this hold."""


class Backend(View, frozen=True):
    """What Azure says of one machine behind one listener."""

    listener: str
    address: str
    state: str
    """Up, Down or Unknown."""
    reason: str = ""
    """Azure's own word, such as Down_Probe_HttpStatusCodeError."""


class PendingOperation(View, frozen=True):
    """A long operation of Azure that is under way, so that a restarted operator can go on waiting for it."""

    resource_id: str
    token: str
    """The SDK's continuation token."""
    started_at: str


class AzureStatus(View, frozen=True):
    """What the operator knows of the load balancer."""

    id: str = ""
    frontend_address: str = ""
    backends: tuple[Backend, ...] = ()
    backends_observed_at: str = ""
    pending_operation: PendingOperation | None = None


class LoadBalancerStatus(View, frozen=True):
    """Status of the load balancer, by kind."""

    azure: AzureStatus | None = None


class FarmClusterStatus(View, frozen=True):
    """What is, as the operator sees it."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    members: tuple[MemberSummary, ...] = ()
    ready_members: int = 0
    total_members: int = 0
    load_balancer: LoadBalancerStatus | None = None


class FarmCluster(View, frozen=True):
    """A farm."""

    metadata: ObjectMeta
    spec: FarmClusterSpec
    status: FarmClusterStatus = FarmClusterStatus()
