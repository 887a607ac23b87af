"""The operator's credential, by configuration: one kind, not the SDK's chain of guesses.

`Renewable` stands between the SDK and the credential: when Azure refuses a token that still looks good to us
(revoked, keys rolled), the credential is replaced with its cache, which would keep the token for an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.identity.aio import ClientSecretCredential, ManagedIdentityCredential, WorkloadIdentityCredential

from farmstead_operator.azure.settings import AzureSettings, CredentialKind

Credential = ClientSecretCredential | ManagedIdentityCredential | WorkloadIdentityCredential


def make(settings: AzureSettings) -> Credential:
    """A new credential, nothing cached, nothing asked yet.

    Raises ValueError when the settings lack what the kind needs.
    """
    given = settings.credential
    common: dict[str, Any] = {"connection_verify": settings.ca_file} if settings.ca_file else {}
    if given.kind is CredentialKind.MANAGED_IDENTITY:
        return ManagedIdentityCredential(client_id=given.client_id or None, **common)
    common |= {"authority": settings.authority, "disable_instance_discovery": True, "retry_total": 1}
    if given.kind is CredentialKind.CLIENT_SECRET:
        return ClientSecretCredential(given.tenant_id, given.client_id, given.client_secret, **common)
    return WorkloadIdentityCredential(
        tenant_id=given.tenant_id, client_id=given.client_id, token_file_path=given.token_file, **common
    )


class Renewable:
    """A credential that can be told to begin afresh."""

    def __init__(self, factory: Callable[[], Credential]) -> None:
        self._factory = factory
        self._inner = factory()
        self._retired: list[Credential] = []

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """As azure.core's AsyncTokenCredential."""
        return await self._inner.get_token(*scopes, **options)

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """As azure.core's AsyncSupportsTokenInfo."""
        return await self._inner.get_token_info(*scopes, options=options)

    async def renew(self) -> None:
        """Forget every token. The credential before is closed one renewal later: a request may still be using it."""
        for old in self._retired:
            await old.close()
        self._retired = [self._inner]
        self._inner = self._factory()

    async def close(self) -> None:
        """Close all connections."""
        for credential in (*self._retired, self._inner):
            await credential.close()
        self._retired = []

    async def __aenter__(self) -> Renewable:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
