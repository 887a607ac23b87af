"""kopf, set up and run: which kinds, how it logs in, how it notices that a watch has died."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kopf

from farmstead_kube import FARM_CLUSTERS, FARM_NODES, OPERATIONS, Credentials, Resource
from farmstead_operator.clusters.observed import Key, moment

PREFIX = "operator.farmstead.dev"
FINALIZER = "farmstead.dev/cluster"
STREAM_SECONDS = 50
"""Whole: the API server reads no fractions."""
SILENCE_SECONDS = 60.0
QUESTION_SECONDS = (1.0, 15.0)
"""How often a deletion asks whether it is done: at first, and at last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What kopf's events are told to."""

    put: Mapping[Resource, Callable[[Mapping[str, Any]], None]]
    gone: Mapping[Resource, Callable[[Key], None]]
    deletion_waits_for: Callable[[str], str]
    """What a cluster's deletion (by uid) waits for; empty when it may go."""


async def run_kopf(seen: Seen, credentials: Callable[[], Awaitable[Credentials]], stop: asyncio.Event) -> None:
    """Run kopf until `stop`, or until it fails."""
    registry = kopf.OperatorRegistry()
    _register_login(registry, credentials)
    for resource in (FARM_CLUSTERS, FARM_NODES, OPERATIONS):
        _register_events(registry, resource, put=seen.put[resource], gone=seen.gone[resource])
    _register_deletion(registry, seen)
    await kopf.operator(registry=registry, settings=_settings(), standalone=True, clusterwide=True, stop_flag=stop)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = STREAM_SECONDS
    settings.watching.client_timeout = STREAM_SECONDS + 10
    settings.watching.connect_timeout = 5
    settings.watching.inactivity_timeout = SILENCE_SECONDS
    settings.networking.request_timeout = 15
    settings.networking.connect_timeout = 5
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=PREFIX, key="last-handled")
    return settings


def _register_login(registry: kopf.OperatorRegistry, credentials: Callable[[], Awaitable[Credentials]]) -> None:
    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        found = await credentials()
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            certificate_path=found.certificate_path,
            private_key_path=found.key_path,
            token=found.token,
            insecure=found.insecure,
        )


def _register_events(
    registry: kopf.OperatorRegistry,
    resource: Resource,
    *,
    put: Callable[[Mapping[str, Any]], None],
    gone: Callable[[Key], None],
) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)
    async def saw(event: Any, name: str, namespace: str | None, **_: Any) -> None:
        if event["type"] == "DELETED":
            gone((namespace or "", name))
        else:
            put(event["object"])


def _register_deletion(registry: kopf.OperatorRegistry, seen: Seen) -> None:
    resource = FARM_CLUSTERS

    @kopf.on.delete(resource.group, resource.version, resource.plural, registry=registry)
    async def deleted(uid: str, meta: Any, **_: Any) -> None:
        if reason := seen.deletion_waits_for(uid):
            raise kopf.TemporaryError(reason[:1024], delay=_question(meta["deletionTimestamp"]))


def _question(deleted_at: str) -> float:
    """Seconds until the deletion asks again: soon at first, seldom when it takes long."""
    least, most = QUESTION_SECONDS
    age = (datetime.now(UTC) - moment(deleted_at)).total_seconds()
    return min(max(age / 10, least), most)
