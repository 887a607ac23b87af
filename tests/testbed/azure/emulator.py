"""The Azure emulator as one object: `async with AzureEmulator() as azure:`.

Puts the parts together and owns what has to be cleaned up (listener, certificates, data plane). What Azure
does is in the parts; how a separate process is told what to do is `admin`.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.azure.arm import Arm
from testbed.azure.certificates import make_tls
from testbed.azure.dataplane import DataPlane, PlaneSettings
from testbed.azure.errors import Json
from testbed.azure.faults import Fault, Faults
from testbed.azure.health import ScriptedStates
from testbed.azure.http import Availability, Edge
from testbed.azure.identity import Identity
from testbed.azure.ids import ResourceId, parse_id
from testbed.azure.requestlog import RequestLog
from testbed.azure.service import Network
from testbed.azure.snapshot import snapshot
from testbed.azure.throttling import Throttle

SUBSCRIPTION_ID = "11111111-2222-3333-4444-555555555555"
TENANT_ID = "66666666-7777-8888-9999-aaaaaaaaaaaa"
CLIENT_ID = "bbbbbbbb-cccc-dddd-eeee-ffffffffffff"


@dataclass(frozen=True, slots=True)
class Settings:
    """What may differ from test to test.

    `delay`: seconds that each long-running operation takes. `retry_after`: whole seconds in that header; 0 leaves
    the pace of polling to the client. `frontends`: where public IP addresses are taken from. `token_lifetime`:
    seconds. `data_plane`: how to carry traffic; None: none is carried, and backends are as healthy as `states` says.
    `folder`: where its certificates lie while it runs; None: where temporary files are.
    """

    host: str = "127.0.0.1"
    port: int = 0
    location: str = "eastus"
    frontends: str = "127.80.0.0/24"
    delay: float = 0.0
    retry_after: int = 1
    token_lifetime: float = 3600.0
    data_plane: PlaneSettings | None = None
    folder: Path | None = None
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time


class AzureEmulator:
    """A subscription, its tenant and their endpoints, in this process."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.subscription_id = SUBSCRIPTION_ID
        self.tenant_id = TENANT_ID
        self.client_id = CLIENT_ID
        self.client_secret = "emulated-client-secret"
        self.federated_token = "emulated.federated.token"
        self.states = ScriptedStates()
        self.data_plane: DataPlane | None = None
        self.network = Network(clock=self.settings.clock, frontends=self.settings.frontends, backend_states=self.states)
        self.network.operations.delay = self.settings.delay
        self.states.store = self.network.store
        self.faults = Faults()
        self.log = RequestLog()
        self.throttle = Throttle(self.settings.clock)
        self.identity = Identity(
            tenant_id=self.tenant_id,
            client_id=self.client_id,
            client_secret=self.client_secret,
            federated_token=self.federated_token,
            now=self.settings.wall_clock,
            guids=self.network.guids,
            token_lifetime=self.settings.token_lifetime,
        )
        self.endpoint = ""
        self.authority = ""
        self.ca_file = ""
        self.federated_token_file = ""
        self._edge: Edge | None = None
        self._stirred = asyncio.Event()
        self.network.on_change.append(self._stirred.set)
        self.log.on_request.append(self._stirred.set)
        self.log.on_answer.append(self._stirred.set)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        temporary = tempfile.TemporaryDirectory(prefix="farmstead-azure-", dir=self.settings.folder)
        folder = Path(self._stack.enter_context(temporary))
        tls = make_tls(folder, self.settings.host)
        token_file = folder / "federated-token"
        token_file.write_text(self.federated_token, encoding="utf-8")
        arm = Arm(
            self.network,
            subscription_id=self.subscription_id,
            tenant_id=self.tenant_id,
            location=self.settings.location,
        )
        self._edge = Edge(
            arm=arm,
            identity=self.identity,
            throttle=self.throttle,
            faults=self.faults,
            log=self.log,
            tls=tls.context,
            clock=self.settings.clock,
            retry_after=self.settings.retry_after,
        )
        if self.settings.data_plane is not None:
            await self._carry_traffic(self.settings.data_plane)
        port = await self._edge.start(self.settings.host, self.settings.port)
        self._stack.push_async_callback(self._edge.stop)
        self.endpoint = self.authority = f"https://{self.settings.host}:{port}"
        self.ca_file = str(tls.ca_file)
        self.federated_token_file = str(token_file)
        return self

    async def _carry_traffic(self, settings: PlaneSettings) -> None:
        self.data_plane = plane = DataPlane(self.network.store, settings)
        self.network.backend_states = plane
        self.network.on_change.append(plane.wake)
        await plane.start()
        self._stack.push_async_callback(plane.stop)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # -- what a test does to it

    def add_group(self, name: str, location: str | None = None) -> None:
        """Create a resource group, as an administrator did before."""
        self.network.store.add_group(name, location or self.settings.location)

    def fail(self, *faults: Fault) -> None:
        """Queue scripted faults."""
        self.faults.add(*faults)

    def set_delay(self, seconds: float) -> None:
        """How long operations that start from now on take."""
        self.network.operations.delay = seconds

    def set_latency(self, seconds: float) -> None:
        """How long every request is on its way, there and back together."""
        assert self._edge is not None, "the emulator has not been started"
        self._edge.latency = seconds

    async def set_availability(self, availability: Availability) -> None:
        """Take the whole service down, or bring it back on the same address."""
        assert self._edge is not None, "the emulator has not been started"
        await self._edge.set_availability(availability)

    def edit_as_other_client(self, resource: str, change: Callable[[Json], None]) -> None:
        """Change a resource (by id) as another client would: new etag, no request in the log."""
        self.network.edit_as_other_client(self._id(resource), change)

    async def wait_until(self, reached: Callable[[], bool], *, seconds: float = 10.0) -> None:
        """Wait until something holds of model, log or faults; looked at after each change and each request.

        Raises TimeoutError.
        """
        async with asyncio.timeout(seconds):
            while not reached():
                self._stirred.clear()
                await self._stirred.wait()

    def snapshot(self) -> Json:
        """The whole model without etags, guids and times: two of them can be compared."""
        return snapshot(self.network.store)

    def resource_id(self, group: str, resource_type: str, name: str) -> str:
        """The id of a top-level resource in this subscription."""
        return ResourceId(self.subscription_id, group, resource_type, name).text

    def reach(self) -> Json:
        """What a client needs to reach it, by the names of the attributes."""
        names = (
            "endpoint",
            "authority",
            "ca_file",
            "subscription_id",
            "tenant_id",
            "client_id",
            "client_secret",
        )
        return {name: getattr(self, name) for name in (*names, "federated_token_file")}

    def _id(self, text: str) -> ResourceId:
        found = parse_id(text)
        if found is None:
            raise ValueError(f"{text!r} is no id of a resource that the emulator knows")
        return found
