"""A farm with Azure for each test: operator processes between the real API server and the emulator."""

from collections.abc import AsyncIterator

import pytest_asyncio

from farmstead_kube import connect
from testbed.azure_farm import AzureFarm
from testbed.controlplane import ControlPlane
from testbed.run import Run


@pytest_asyncio.fixture
async def farm(run: Run, installed: ControlPlane, namespace: str) -> AsyncIterator[AzureFarm]:
    """A namespace with three machines, and an Azure of its own."""
    client = await connect(kubeconfig=installed.admin_kubeconfig, field_manager="test")
    try:
        async with AzureFarm(run, installed, client, namespace) as farm:
            yield farm
    finally:
        await client.close()
