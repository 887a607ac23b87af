"""From a cluster's spec to its share in a load balancer: pure, with the operator's defaults filled in.

Here it is also decided where a namespace may go: `Defaults.namespaces` maps it to the resource groups it may use. A
namespace without an entry may use the operator's default one alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from farmstead_api import FarmCluster, names
from farmstead_api.farmcluster import AzureLoadBalancer, Frontend, Listener
from farmstead_operator.azure.errors import PermanentError
from farmstead_operator.azure.shares import BackendAddress, ClusterName, ClusterShare, LoadBalancerKey

ANY_NAMESPACE = "*"


@dataclass(frozen=True, slots=True)
class Scope:
    """A resource group."""

    subscription_id: str
    resource_group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What the operator's settings say for clusters that do not."""

    subscription_id: str = ""
    resource_group: str = ""
    location: str = ""
    virtual_network_id: str = ""
    namespaces: Mapping[str, tuple[Scope, ...]] = field(default_factory=dict)
    """Where each namespace may have load balancers, its default first; `*` stands for all others."""

    def scopes(self, namespace: str) -> tuple[Scope, ...]:
        """Where this namespace may have load balancers."""
        named = self.namespaces.get(namespace) or self.namespaces.get(ANY_NAMESPACE)
        return named or (Scope(self.subscription_id, self.resource_group),)


def key_of(cluster: FarmCluster, defaults: Defaults) -> LoadBalancerKey:
    """Which load balancer the cluster names, or gets.

    Raises PermanentError when no resource group is known or the namespace may not use it.
    """
    azure = _azure(cluster)
    namespace = cluster.metadata.namespace
    scopes = defaults.scopes(namespace)
    subscription = azure.subscription_id or scopes[0].subscription_id
    group = azure.resource_group or scopes[0].resource_group
    if not subscription or not group:
        raise PermanentError(
            "ResourceGroupMissing",
            "No resource group is known: set subscriptionID and resourceGroup in spec.loadBalancer.azure, or the "
            "operator's defaults.",
        )
    wanted = Scope(subscription.casefold(), group.casefold())
    if wanted not in [Scope(one.subscription_id.casefold(), one.resource_group.casefold()) for one in scopes]:
        raise PermanentError(
            "ResourceGroupForbidden",
            f"Namespace {namespace} may not use resource group {group} of subscription {subscription}: have it "
            "added to the operator's settings, or name one that is.",
        )
    name = azure.name or names.load_balancer_name(namespace, cluster.metadata.name)
    return LoadBalancerKey(subscription, group, name)


def share_of(cluster: FarmCluster, backends: Iterable[tuple[str, str]], defaults: Defaults) -> ClusterShare:
    """What the cluster wants of its load balancer; `backends` are (node, address) of the machines that serve.

    Raises PermanentError when that can't be built from what is known.
    """
    azure, spec = _azure(cluster), cluster.spec
    addresses = tuple(sorted(BackendAddress(node, address) for node, address in backends))
    network = azure.virtual_network_id or _network_of(azure.frontend) or defaults.virtual_network_id
    if addresses and not network:
        raise PermanentError(
            "VirtualNetworkMissing",
            "The machines' virtual network is not known: set spec.loadBalancer.azure.virtualNetworkID, or the "
            "operator's default.",
        )
    _check_addresses(addresses)
    _check_ports(spec.listeners)
    return ClusterShare(
        cluster=ClusterName(*cluster.metadata.key),
        uid=cluster.metadata.uid,
        location=azure.location or defaults.location,
        frontend=azure.frontend,
        listeners=spec.listeners,
        probe=spec.probe,
        no_healthy_backends=azure.no_healthy_backends,
        virtual_network_id=network,
        backends=addresses,
    )


def _azure(cluster: FarmCluster) -> AzureLoadBalancer:
    balancer = cluster.spec.load_balancer
    if balancer is None or balancer.azure is None:
        raise ValueError(f"{'/'.join(cluster.metadata.key)} has no spec.loadBalancer.azure")
    return balancer.azure


def _network_of(frontend: Frontend) -> str:
    """The network of an internal frontend's subnet: its machines are in there too, unless the spec says otherwise."""
    if not frontend.subnet_id:
        return ""
    at = frontend.subnet_id.casefold().find("/subnets/")
    return frontend.subnet_id[:at] if at > 0 else ""


def _check_addresses(addresses: tuple[BackendAddress, ...]) -> None:
    seen: dict[str, str] = {}
    for node, address in addresses:
        if other := seen.get(address):
            raise PermanentError(
                "BackendAddressShared",
                f"Machines {other} and {node} have the same address {address}: correct spec.addresses of one of them.",
            )
        seen[address] = node


def _check_ports(listeners: tuple[Listener, ...]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for listener in listeners:
        port = (listener.protocol, listener.effective_backend_port)
        if other := seen.get(port):
            raise PermanentError(
                "BackendPortShared",
                f"Listeners {other} and {listener.name} lead to the same port {port[1]}/{port[0]} of the machines, "
                "which Azure refuses: give each a backendPort of its own.",
            )
        seen[port] = listener.name
