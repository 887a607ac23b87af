"""The operator's settings: one frozen object, read once from a YAML file; unknown fields are refused by name.

The environment fills in what Kubernetes and the workload identity webhook put there: POD_NAME, AZURE_CLIENT_ID,
AZURE_TENANT_ID, AZURE_FEDERATED_TOKEN_FILE, AZURE_AUTHORITY_HOST, AZURE_CLIENT_SECRET. Secrets have no field.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from farmstead_api.meta import View
from farmstead_operator.azure.desired import Defaults, Scope
from farmstead_operator.azure.settings import AzureSettings, CredentialKind, CredentialSettings


class SettingsError(Exception):
    """The settings can't be used; the message names the file and the field."""


class Setting(View, frozen=True, forbid_unknown_fields=True):
    """Base: as the API's views, but strict."""


class Http(Setting, frozen=True):
    """Where health, readiness and metrics are answered."""

    address: str = "0.0.0.0"  # noqa: S104 - a pod's own network
    port: int = 8080


class LeaderElection(Setting, frozen=True):
    """The Lease that decides which replica works. Seconds."""

    name: str = "farmstead-operator"
    lease_seconds: float = 15
    """A leader not heard of for so long is replaced."""
    renew_deadline_seconds: float = 10
    """A leader that could not renew for so long ends itself; less than `lease_seconds`."""
    retry_seconds: float = 2


class NamespaceScope(Setting, frozen=True):
    """A resource group that a namespace may use."""

    subscription_id: str
    resource_group: str


class Azure(Setting, frozen=True):
    """What clusters that say nothing else get, and how Azure is reached."""

    subscription_id: str = ""
    resource_group: str = ""
    location: str = ""
    virtual_network_id: str = ""
    namespaces: Mapping[str, tuple[NamespaceScope, ...]] = {}
    """Resource groups each namespace may use, its default first; `*` for all others."""
    credential: CredentialKind = CredentialKind.WORKLOAD_IDENTITY
    tenant_id: str = ""
    client_id: str = ""
    token_file: str = ""
    authority: str = ""
    endpoint: str = "https://management.azure.com"
    scope: str = "https://management.azure.com/.default"
    ca_file: str = ""
    drift_seconds: float = 300
    health_seconds: float = 30
    stalled_seconds: float = 60


class Settings(Setting, frozen=True):
    """All of it."""

    instance: str = "farmstead"
    """Tags what this operator creates in Azure: must survive restarts and differ between operators."""
    namespace: str = "farmstead-system"
    """Where the Leases of operator and machines live."""
    kubeconfig: str | None = None
    """None: the pod's service account."""
    identity: str = ""
    """This replica's name; default: the pod's, else host and process."""
    silence_seconds: float = 40
    """A machine whose agent has not renewed its Lease for so long counts as silent."""
    http: Http = Http()
    leader_election: LeaderElection = LeaderElection()
    azure: Azure | None = None
    """None: clusters have no load balancers."""


def read_settings(file: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings of a file, completed from the environment.

    Raises SettingsError when the file can't be read or does not fit.
    """
    try:
        content = yaml.safe_load(file.read_text()) if file else {}
        settings = msgspec.convert(content or {}, Settings)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise SettingsError(f"settings {file}: {error}") from error
    election = settings.leader_election
    if not election.retry_seconds < election.renew_deadline_seconds < election.lease_seconds:
        raise SettingsError(f"settings {file}: leaderElection: retry < renewDeadline < lease must hold")
    identity = settings.identity or environment.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    return msgspec.structs.replace(settings, identity=identity)


def azure_defaults(azure: Azure) -> Defaults:
    """What the adapter fills in for clusters."""
    return Defaults(
        subscription_id=azure.subscription_id,
        resource_group=azure.resource_group,
        location=azure.location,
        virtual_network_id=azure.virtual_network_id,
        namespaces={
            namespace: tuple(Scope(scope.subscription_id, scope.resource_group) for scope in scopes)
            for namespace, scopes in azure.namespaces.items()
        },
    )


def azure_settings(settings: Settings, azure: Azure, environment: Mapping[str, str] = os.environ) -> AzureSettings:
    """How the adapter reaches Azure."""
    authority = azure.authority or environment.get("AZURE_AUTHORITY_HOST") or "https://login.microsoftonline.com"
    return AzureSettings(
        instance=settings.instance,
        credential=CredentialSettings(
            kind=azure.credential,
            tenant_id=azure.tenant_id or environment.get("AZURE_TENANT_ID", ""),
            client_id=azure.client_id or environment.get("AZURE_CLIENT_ID", ""),
            client_secret=environment.get("AZURE_CLIENT_SECRET", ""),
            token_file=azure.token_file or environment.get("AZURE_FEDERATED_TOKEN_FILE", ""),
        ),
        authority=authority,
        endpoint=azure.endpoint,
        scope=azure.scope,
        ca_file=azure.ca_file,
        drift_seconds=azure.drift_seconds,
        health_seconds=azure.health_seconds,
        stalled_seconds=azure.stalled_seconds,
    )
