"""Between clusters and writers: which load balancer it is, what is handed over once, what is said before that."""

from typing import Any

from msgspec.structs import replace as changed

from farmstead_api import FarmCluster, ObjectMeta
from farmstead_api.common import Application, Scripts
from farmstead_api.farmcluster import (
    AzureLoadBalancer,
    AzureStatus,
    FarmClusterSpec,
    FarmClusterStatus,
    Frontend,
    Listener,
    LoadBalancer,
    LoadBalancerStatus,
    Members,
    PendingOperation,
    PublicIPAddress,
)
from farmstead_operator.azure.desired import Defaults
from farmstead_operator.azure.shares import ClusterShare, LoadBalancerKey, ShareState
from farmstead_operator.balancers import Balancers
from farmstead_operator.clusters.observed import Backend, BalancerFacts

NETWORK = "/subscriptions/sub/resourceGroups/group/providers/Microsoft.Network/virtualNetworks/net"
DEFAULTS = Defaults(subscription_id="sub", resource_group="group", location="eastus", virtual_network_id=NETWORK)
KEY = LoadBalancerKey("sub", "group", "lb")
BACKENDS = (Backend(node="vm1", address="10.0.0.4"),)
PENDING = PendingOperation(resource_id=KEY.id, token="token", started_at="2026-11-23T08:00:00Z")


class Told:
    """Writers that write down what they are told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.known = ShareState()

    async def declare(self, key: LoadBalancerKey, share: ClusterShare) -> None:
        self.calls.append(("declare", key.name))

    async def withdraw(self, key: LoadBalancerKey, cluster: tuple[str, str]) -> None:
        self.calls.append(("withdraw", key.name))

    async def resume(self, key: LoadBalancerKey, pending: PendingOperation) -> None:
        self.calls.append(("resume", pending.token))

    async def forget(self, key: LoadBalancerKey, cluster: tuple[str, str]) -> None:
        self.calls.append(("forget", key.name))

    def state(self, key: LoadBalancerKey, cluster: tuple[str, str]) -> ShareState:
        return self.known

    async def close(self) -> None:
        self.calls.append(("close", ""))


def cluster(*, name: str = "lb", group: str = "", shown: AzureStatus | None = None, **meta: Any) -> FarmCluster:
    azure = AzureLoadBalancer(
        name=name, resource_group=group or None, frontend=Frontend(public_ip_address=PublicIPAddress(name="ip"))
    )
    return FarmCluster(
        metadata=ObjectMeta(name="web", namespace="shop", uid="c1", **meta),
        spec=FarmClusterSpec(
            members=Members(names=("vm1",)),
            application=Application(scripts=Scripts(directory="/opt/app")),
            listeners=(Listener(name="http", port=80),),
            load_balancer=LoadBalancer(azure=azure),
        ),
        status=FarmClusterStatus(load_balancer=LoadBalancerStatus(azure=shown) if shown else None),
    )


def without(farm: FarmCluster) -> FarmCluster:
    return changed(farm, spec=changed(farm.spec, load_balancer=None, listeners=()))


async def test_what_a_former_operator_left_is_handed_over_once_and_first() -> None:
    told = Told()
    balancers = Balancers(told, DEFAULTS)
    farm = cluster(shown=AzureStatus(id=KEY.id, pending_operation=PENDING))
    await balancers.declare(farm, BACKENDS)
    await balancers.declare(farm, BACKENDS)
    assert told.calls == [("resume", "token"), ("declare", "lb"), ("declare", "lb")]


async def test_a_withdrawal_after_a_restart_finds_its_load_balancer_in_the_status() -> None:
    told = Told()
    farm = without(cluster(shown=AzureStatus(id=LoadBalancerKey("sub", "group", "old").id)))
    await Balancers(told, DEFAULTS).withdraw(farm)
    assert told.calls == [("withdraw", "old")]


async def test_a_group_that_the_namespace_may_not_use_is_stalled_and_nobody_is_told() -> None:
    told = Told()
    balancers = Balancers(told, DEFAULTS)
    farm = cluster(group="somebody-else-s")
    await balancers.declare(farm, BACKENDS)
    facts = balancers.facts(farm)
    assert facts is not None
    assert facts.problem is not None
    assert (facts.stalled, facts.problem.reason) == (True, "ResourceGroupForbidden")
    assert told.calls == []
    await balancers.declare(cluster(), BACKENDS)
    facts = balancers.facts(cluster())
    assert facts is not None
    assert facts.problem is None, "it heals with the spec"


async def test_before_anything_was_read_the_status_stays_as_it_is() -> None:
    told = Told()
    balancers = Balancers(told, DEFAULTS)
    farm = cluster(shown=AzureStatus(id=KEY.id, frontend_address="203.0.113.4"))
    assert balancers.facts(farm) is None
    await balancers.declare(farm, BACKENDS)
    assert balancers.facts(farm) is None


async def test_what_is_forgotten_is_taken_up_anew() -> None:
    told = Told()
    balancers = Balancers(told, DEFAULTS)
    farm = cluster(shown=AzureStatus(id=KEY.id, pending_operation=PENDING))
    await balancers.declare(farm, BACKENDS)
    await balancers.forget(farm.metadata.key)
    await balancers.forget(farm.metadata.key)
    await balancers.declare(farm, BACKENDS)
    assert [call for call, _ in told.calls] == ["resume", "declare", "forget", "resume", "declare"]


async def test_an_operator_without_azure_says_so_and_lets_go_what_never_was_there() -> None:
    balancers = Balancers(None, Defaults())
    await balancers.declare(cluster(), BACKENDS)
    facts = balancers.facts(cluster())
    assert facts is not None
    assert facts.problem is not None
    assert (facts.stalled, facts.problem.reason) == (True, "AzureNotConfigured")
    assert balancers.facts(cluster(deletion_timestamp="2026-11-23T08:00:00Z")) == BalancerFacts(gone=True)
    left = cluster(shown=AzureStatus(id=KEY.id), deletion_timestamp="2026-11-23T08:00:00Z")
    facts = balancers.facts(left)
    assert facts is not None
    assert not facts.gone, "something of ours is there, and this operator can't remove it"


def test_a_cluster_without_a_load_balancer_has_no_facts() -> None:
    assert Balancers(Told(), DEFAULTS).facts(without(cluster())) is None
