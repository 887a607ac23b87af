"""How the adapter reaches Azure and how patient it is; filled in from the operator's own settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CredentialKind(StrEnum):
    """How the operator proves who it is."""

    WORKLOAD_IDENTITY = "WorkloadIdentity"
    MANAGED_IDENTITY = "ManagedIdentity"
    CLIENT_SECRET = "ClientSecret"  # noqa: S105 - a kind, no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSettings:
    """One way to prove it, named by configuration; nothing is tried out."""

    kind: CredentialKind = CredentialKind.WORKLOAD_IDENTITY
    tenant_id: str = ""
    client_id: str = ""
    """For a managed identity: empty for the machine's own."""
    client_secret: str = ""
    token_file: str = ""
    """Where Kubernetes puts the projected service account token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSettings:
    """All of it. Times are in seconds."""

    instance: str
    """Identifies this operator on the tags of what it creates; must survive restarts, and differ between operators."""
    credential: CredentialSettings
    authority: str = "https://login.microsoftonline.com"
    endpoint: str = "https://management.azure.com"
    scope: str = "https://management.azure.com/.default"
    ca_file: str = ""
    """Certificate authorities to trust instead of the system's."""
    polling_seconds: float = 2.0
    """How often an operation is looked at when Azure does not say."""
    connect_seconds: float = 10.0
    answer_seconds: float = 60.0
    drift_seconds: float = 300.0
    """How often what is in place is read again."""
    health_seconds: float = 30.0
    """How often Azure is asked for the state of the backends ..."""
    health_at_once: int = 30
    """... all clusters of a subscription together with so many questions at once, and then ..."""
    health_every_seconds: float = 1.0
    """... one every so often: a third of the 1,000 writes in 5 minutes that the network provider takes."""
    stalled_seconds: float = 60.0
    """How long until something that waits for a person is tried again."""
    busy_seconds: float = 600.0
    """How long somebody else's operation is waited for before ours is written over it."""
    quiet_seconds: float = 0.3
    """A change is written once no other has come for so long ..."""
    gather_seconds: float = 2.0
    """... or the first of them is so old."""
    longest_backoff_seconds: float = 120.0
