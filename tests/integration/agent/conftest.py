"""What tests of the agent get by name: the API installed, machines with agents."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio

from testbed import agents
from testbed.agent_rig import Rig, make_rig
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with the API installed."""
    await agents.prepare(control_plane)
    return control_plane


@pytest_asyncio.fixture
async def rig(fabric: Fabric, api: ControlPlane, namespace: str) -> AsyncIterator[Rig]:
    """A machine with an agent that runs."""
    async with AsyncExitStack() as stack:
        yield await make_rig(stack, fabric, api, namespace, "vm")


@pytest_asyncio.fixture
async def rigs(fabric: Fabric, api: ControlPlane, namespace: str) -> AsyncIterator[tuple[Rig, Rig]]:
    """Two machines with agents that run."""
    async with AsyncExitStack() as stack:
        first = await make_rig(stack, fabric, api, namespace, "vm1")
        second = await make_rig(stack, fabric, api, namespace, "vm2")
        yield first, second
