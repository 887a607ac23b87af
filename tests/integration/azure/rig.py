"""The real SDK, the writers, and the emulator between them and nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from farmstead_api.common import Probe
from farmstead_api.farmcluster import Frontend, Listener, NoHealthyBackends, PublicIPAddress
from farmstead_operator.azure.settings import AzureSettings, CredentialKind, CredentialSettings
from farmstead_operator.azure.shares import BackendAddress, ClusterName, ClusterShare, LoadBalancerKey, ShareState
from farmstead_operator.azure.writers import Writers
from testbed.azure import AzureEmulator, Entry
from testbed.azure.ids import parse_id

GROUP = "shop-prod"
_PATIENCE = 30.0


class Site:
    """One operator's adapter on the emulator, as the clusters' loops see it."""

    def __init__(self, azure: AzureEmulator) -> None:
        self.azure = azure
        self.calls: list[tuple[str, int, bool]] = []
        self.changes: list[ClusterName] = []
        self._changed = asyncio.Event()
        self.settings = AzureSettings(
            instance="test-operator",
            credential=CredentialSettings(
                kind=CredentialKind.CLIENT_SECRET,
                tenant_id=azure.tenant_id,
                client_id=azure.client_id,
                client_secret=azure.client_secret,
            ),
            authority=azure.authority,
            endpoint=azure.endpoint,
            ca_file=azure.ca_file,
            polling_seconds=0.05,
            quiet_seconds=0.05,
            gather_seconds=0.5,
            stalled_seconds=0.3,
            health_seconds=0.3,
            health_every_seconds=0.02,
            longest_backoff_seconds=0.5,
        )
        self.writers = self.start()

    def arm_call(self, *, method: str, status: int, throttled: bool) -> None:
        self.calls.append((method, status, throttled))

    def start(self, **changes: Any) -> Writers:
        """A new operator process, so to say."""
        self.settings = replace(self.settings, **changes)
        return Writers(self.settings, on_change=self._on_change, recorder=self, jitter=lambda: 0.0)

    def _on_change(self, cluster: ClusterName) -> None:
        self.changes.append(cluster)
        self._changed.set()

    async def restart(self, **changes: Any) -> None:
        """What a SIGKILL leaves: nothing of the old process; the new one knows what the statuses say."""
        await self.writers.close()
        self.writers = self.start(**changes)

    def key(self, name: str = "lb") -> LoadBalancerKey:
        return LoadBalancerKey(self.azure.subscription_id, GROUP, name)

    def subnet(self, name: str = "front") -> str:
        network = self.azure.resource_id(GROUP, "virtualNetworks", "net")
        return f"{network}/subnets/{name}"

    def share(self, name: str = "web", namespace: str = "shop", **changes: Any) -> ClusterShare:
        wanted = ClusterShare(
            cluster=ClusterName(namespace, name),
            uid=f"uid-{name}",
            location="eastus",
            frontend=Frontend(subnet_id=self.subnet()),
            listeners=(Listener(name="http", port=80, backend_port=8080),),
            probe=Probe(),
            no_healthy_backends=NoHealthyBackends.ALL_PROBED_DOWN,
            virtual_network_id=self.azure.resource_id(GROUP, "virtualNetworks", "net"),
            backends=(BackendAddress("vm1", "10.0.1.4"), BackendAddress("vm2", "10.0.1.5")),
        )
        return replace(wanted, **changes)

    def public_share(self, name: str = "web", ip: str = "web-ip", **changes: Any) -> ClusterShare:
        return self.share(name, frontend=Frontend(public_ip_address=PublicIPAddress(name=ip)), **changes)

    async def declare(self, *shares: ClusterShare, key: LoadBalancerKey | None = None) -> None:
        for share in shares:
            await self.writers.declare(key or self.key(), share)

    def state(self, share: ClusterShare, key: LoadBalancerKey | None = None) -> ShareState:
        return self.writers.state(key or self.key(), share.cluster)

    async def until(self, true: Callable[[], bool], what: str = "") -> None:
        """Wait for the writers' own events until something holds."""
        deadline = time.monotonic() + _PATIENCE
        while not true():
            left = deadline - time.monotonic()
            assert left > 0, f"{what or 'it'} did not come: {self.azure.log.counters()}"
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 1.0)):
                    await self._changed.wait()

    async def asked(self, count: int, *, or_else: Callable[[], bool]) -> None:
        """Wait until so many more requests have come in, or something holds."""
        seen = len(self.azure.log.entries) + count
        await self.until(lambda: len(self.azure.log.entries) >= seen or or_else())

    async def in_place(self, *shares: ClusterShare) -> None:
        await self.until(lambda: all(self.state(one).in_place for one in shares), "the desired state")

    async def withdraw(self, *shares: ClusterShare) -> None:
        for share in shares:
            await self.writers.withdraw(self.key(), share.cluster)

    async def gone(self, *shares: ClusterShare) -> None:
        await self.until(lambda: all(self.state(one).gone for one in shares), "the end")

    def puts(self) -> list[Entry]:
        """Every write but the token requests."""
        return self.azure.log.writes()

    def model(self, name: str = "lb") -> dict[str, Any] | None:
        """The load balancer as the emulator holds it."""
        rid = parse_id(self.azure.resource_id(GROUP, "loadBalancers", name))
        assert rid is not None
        resource = self.azure.network.store.get(rid)
        return None if resource is None else resource.body

    def names(self, collection: str) -> list[str]:
        document = self.model()
        return [] if document is None else [item["name"] for item in document["properties"][collection]]

    def put(self, kind: str, name: str, body: dict[str, Any]) -> None:
        """Somebody else's resource."""
        rid = parse_id(self.azure.resource_id(GROUP, kind, name))
        assert rid is not None
        self.azure.network.put(rid, body)
        self.azure.network.settle()

    def public_ip_names(self) -> list[str]:
        store = self.azure.network.store
        return sorted(one.id.name for one in store.of_type("publicIPAddresses", group=GROUP))
