"""Each kind of credential that the emulator's token endpoint knows."""

from __future__ import annotations

import pytest

from farmstead_operator.azure.settings import CredentialKind, CredentialSettings
from integration.azure.rig import Site


@pytest.mark.parametrize("kind", [CredentialKind.CLIENT_SECRET, CredentialKind.WORKLOAD_IDENTITY])
async def test_a_credential_is_enough(site: Site, kind: CredentialKind) -> None:
    azure = site.azure
    given = CredentialSettings(
        kind=kind,
        tenant_id=azure.tenant_id,
        client_id=azure.client_id,
        client_secret=azure.client_secret if kind is CredentialKind.CLIENT_SECRET else "",
        token_file=azure.federated_token_file if kind is CredentialKind.WORKLOAD_IDENTITY else "",
    )
    await site.restart(credential=given)
    share = site.share()
    await site.declare(share)
    await site.in_place(share)


async def test_tokens_that_azure_takes_back_are_fetched_anew(site: Site) -> None:
    first, second = site.share("first"), site.share("second")
    await site.declare(first)
    await site.in_place(first)
    site.azure.identity.expire_all()
    await site.declare(second)
    await site.in_place(second)
    assert len(site.azure.identity.issued) == 2
