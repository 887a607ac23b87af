"""An operator's adapter on the emulator, with a resource group and a network."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from integration.azure.rig import GROUP, Site
from testbed.azure import AzureEmulator, Settings


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with AzureEmulator(Settings(retry_after=0)) as azure:
        azure.add_group(GROUP)
        site = Site(azure)
        subnets = [
            {"name": "front", "properties": {"addressPrefix": "10.0.0.0/24"}},
            {"name": "machines", "properties": {"addressPrefix": "10.0.1.0/24"}},
        ]
        space = {"addressPrefixes": ["10.0.0.0/16"]}
        site.put(
            "virtualNetworks", "net", {"location": "eastus", "properties": {"addressSpace": space, "subnets": subnets}}
        )
        try:
            yield site
        finally:
            await site.writers.close()
