"""A farm's surroundings: the real API server with our kinds and rights, operator processes, stand-in agents."""

from collections.abc import AsyncIterator

import pytest_asyncio

from farmstead_kube import connect
from testbed.controlplane import ControlPlane
from testbed.farm import Farm
from testbed.run import Run
from testbed.stand_in_agents import StandInAgents


@pytest_asyncio.fixture
async def farm(run: Run, installed: ControlPlane, namespace: str) -> AsyncIterator[Farm]:
    """A namespace to farm in."""
    client = await connect(kubeconfig=installed.admin_kubeconfig, field_manager="test")
    farm = Farm(run, installed, client, namespace)
    try:
        yield farm
    finally:
        await farm.close()
        await client.close()


@pytest_asyncio.fixture
async def machines(farm: Farm) -> list[str]:
    """Three machines."""
    return [await farm.machine(name) for name in ("a", "bb", "ccc")]


@pytest_asyncio.fixture
async def agents(farm: Farm, machines: list[str]) -> AsyncIterator[StandInAgents]:
    """Their agents."""
    async with StandInAgents(farm.client, machines) as agents:
        yield agents
