"""What one cluster wants of one load balancer, and what is known of it: frozen, neutral, free of Azure's SDK.

This is the language between the clusters' loops and the adapter. Several clusters may have a share in one load
balancer; its writer merges them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from farmstead_api.common import Probe
from farmstead_api.farmcluster import AzureStatus, Backend, Frontend, Listener, NoHealthyBackends, PendingOperation
from farmstead_operator.azure.names import item_name, item_prefix

_PROVIDER = "providers/Microsoft.Network"


class ClusterName(NamedTuple):
    """Namespace and name, equal to `metadata.key`."""

    namespace: str
    name: str

    @property
    def prefix(self) -> str:
        """Start of the names of this cluster's items."""
        return item_prefix(self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class LoadBalancerKey:
    """Which load balancer."""

    subscription_id: str
    resource_group: str
    name: str

    @property
    def group_id(self) -> str:
        """Resource id of the resource group."""
        return f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"

    @property
    def id(self) -> str:
        """Resource id of the load balancer."""
        return f"{self.group_id}/{_PROVIDER}/loadBalancers/{self.name}"

    @property
    def identity(self) -> str:
        """What two keys of the same load balancer have in common: Azure ignores case."""
        return self.id.casefold()

    def item_id(self, collection: str, name: str) -> str:
        """Resource id of an item of the load balancer."""
        return f"{self.id}/{collection}/{name}"

    def public_ip_id(self, name: str) -> str:
        """Resource id of a public IP address in the same resource group."""
        return f"{self.group_id}/{_PROVIDER}/publicIPAddresses/{name}"

    @classmethod
    def parse(cls, resource_id: str) -> LoadBalancerKey:
        """The key in a load balancer's resource id, such as a cluster's status holds.

        Raises ValueError when it is no such id.
        """
        parts = resource_id.strip("/").split("/")
        shape = [part.casefold() for part in parts[::2]]
        if shape != ["subscriptions", "resourcegroups", "providers", "loadbalancers"]:
            raise ValueError(f"{resource_id!r} is not the id of a load balancer")
        return cls(parts[1], parts[3], parts[7])


class BackendAddress(NamedTuple):
    """One machine in a pool."""

    node: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShare:
    """Everything one cluster wants of its load balancer."""

    cluster: ClusterName
    uid: str
    location: str
    """Where a load balancer or public address that does not exist yet is created."""
    frontend: Frontend
    listeners: tuple[Listener, ...]
    probe: Probe
    no_healthy_backends: NoHealthyBackends
    virtual_network_id: str
    backends: tuple[BackendAddress, ...]

    def rule_name(self, listener: str) -> str:
        """Name of the load balancing rule of a listener."""
        return item_name(self.cluster.prefix, listener)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why the wanted state is not in place, for a condition."""

    reason: str
    """CamelCase."""
    message: str
    """Azure's own words and what to do."""
    permanent: bool
    """Whether a person has to do something; it is tried again all the same."""
    retry_at: float
    """When it is tried next, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Somebody else changed our items, and they were put back."""

    at: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareState:
    """What is known of one cluster's share; replaced as a whole at each change."""

    withdrawing: bool = False
    settled: bool = False
    """Read back from Azure: the last thing asked for (be there, or be gone) is so."""
    pending_since: float | None = None
    """When what is not settled was asked for, in seconds since the epoch."""
    problem: Problem | None = None
    load_balancer_id: str = ""
    frontend_address: str = ""
    backends: tuple[Backend, ...] = ()
    backends_observed_at: str = ""
    """Since when Azure says this of the backends: they are asked for all the time, the time moves when they change."""
    pending_operation: PendingOperation | None = None
    repair: Repair | None = None

    @property
    def in_place(self) -> bool:
        """Whether what the cluster wants is there."""
        return self.settled and not self.withdrawing

    @property
    def gone(self) -> bool:
        """Whether nothing of the cluster is left in Azure."""
        return self.settled and self.withdrawing

    @property
    def stalled(self) -> bool:
        """Whether it waits for a person."""
        return self.problem is not None and self.problem.permanent

    @property
    def status(self) -> AzureStatus:
        """What goes into the cluster's status."""
        return AzureStatus(
            id=self.load_balancer_id,
            frontend_address=self.frontend_address,
            backends=self.backends,
            backends_observed_at=self.backends_observed_at,
            pending_operation=self.pending_operation,
        )


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as the API writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
