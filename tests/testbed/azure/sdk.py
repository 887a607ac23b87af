"""The real Azure SDK, pointed at an emulator: what a test needs to act as a client of it.

Shows which arguments make the unchanged SDK talk to another endpoint with another authority.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

from azure.identity.aio import ClientSecretCredential
from azure.mgmt.network.aio import NetworkManagementClient

API_VERSION = "2026-03-01"
SCOPE = "https://management.azure.com/.default"


class Reachable(Protocol):
    """What a client has to know of an emulator: its own process' or another's."""

    endpoint: str
    authority: str
    ca_file: str
    subscription_id: str
    tenant_id: str
    client_id: str
    client_secret: str


@contextlib.asynccontextmanager
async def network_client(azure: Reachable, **options: Any) -> AsyncIterator[NetworkManagementClient]:
    """A NetworkManagementClient with a client secret; `options` go to the client."""
    credential = ClientSecretCredential(
        azure.tenant_id,
        azure.client_id,
        azure.client_secret,
        authority=azure.authority,
        connection_verify=azure.ca_file,
    )
    settings: dict[str, Any] = {"polling_interval": 0.05, "retry_total": 0} | options
    client = NetworkManagementClient(
        credential,
        azure.subscription_id,
        base_url=azure.endpoint,
        credential_scopes=[SCOPE],
        connection_verify=azure.ca_file,
        api_version=API_VERSION,
        **settings,
    )
    async with credential, client:
        yield client
