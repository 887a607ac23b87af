"""kopf, set up and run: in a thread of its own, for FarmClusters, which have a finalizer to look after."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import kopf

from farmstead_kube import FARM_CLUSTERS, Credentials
from farmstead_operator.clusters.observed import CLUSTER_FINALIZER, Key

PREFIX = "operator.farmstead.dev"
KIND = (FARM_CLUSTERS.group, FARM_CLUSTERS.version, FARM_CLUSTERS.plural)
STOP_SECONDS = 5.0
STREAM_SECONDS = 50
"""Whole: the API server reads no fractions."""
SILENCE_SECONDS = 60.0
HELD_SECONDS = 600.0
"""kopf writes into the cluster each time that its deletion was put off for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What kopf's events are told to, and whom it asks."""

    put: Callable[[Mapping[str, Any]], None]
    gone: Callable[[Key], None]
    before_write: Callable[[], None]
    """Called in kopf's thread before each of its writes."""


async def run_kopf(seen: Seen, credentials: Callable[[], Awaitable[Credentials]]) -> None:
    """Run kopf until cancelled; raises what it failed with.

    It has a thread and an event loop of its own: at its end kopf cancels every task that it finds.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    stop = threading.Event()

    def end(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_exception(error or RuntimeError("kopf ended")) if not stop.is_set() else ended.set_result(None)

    def run() -> None:
        error = None
        try:
            asyncio.run(_operator(_told_to(loop, seen), _asked_of(loop, credentials), stop))
        except Exception as failure:  # noqa: BLE001 - handed to whoever waits
            error = failure
        loop.call_soon_threadsafe(end, error)

    thread = threading.Thread(target=run, name="kopf", daemon=True)
    thread.start()
    try:
        await ended
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, STOP_SECONDS)


async def _operator(seen: Seen, credentials: Callable[[], Awaitable[Credentials]], stop: threading.Event) -> None:
    registry = kopf.OperatorRegistry()
    _register_login(registry, credentials, seen.before_write)
    _register_events(registry, seen)
    _register_deletion(registry)
    await kopf.operator(registry=registry, settings=_settings(), standalone=True, clusterwide=True, stop_flag=stop)


def _told_to(loop: asyncio.AbstractEventLoop, seen: Seen) -> Seen:
    """The same, told in the thread of `loop`."""
    return replace(
        seen,
        put=lambda body: _ignore(loop.call_soon_threadsafe(seen.put, body)),
        gone=lambda key: _ignore(loop.call_soon_threadsafe(seen.gone, key)),
    )


def _ignore(_handle: asyncio.Handle) -> None:
    """Nobody waits for it."""


def _asked_of(
    loop: asyncio.AbstractEventLoop, question: Callable[[], Awaitable[Credentials]]
) -> Callable[[], Awaitable[Credentials]]:
    async def asked() -> Credentials:
        async def ask() -> Credentials:
            return await question()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), loop))

    return asked


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
    settings.persistence.finalizer = CLUSTER_FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    settings.persistence.diffbase_storage = NothingToCompare()
    return settings


class NothingToCompare(kopf.DiffBaseStorage):
    """What kopf keeps of an object in order to tell what has changed: nothing, since no handler of ours asks.

    Else it copies each object several times at each event, and writes the spec once more into an annotation.
    """

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing."""


def _register_login(
    registry: kopf.OperatorRegistry,
    credentials: Callable[[], Awaitable[Credentials]],
    before_write: Callable[[], None],
) -> None:
    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        found = await credentials()
        info = kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            certificate_path=found.certificate_path,
            private_key_path=found.key_path,
            token=found.token,
            insecure=found.insecure,
        )
        return kopf.AiohttpSession(server=found.server, aiohttp_session=_session(info, before_write))


def _session(info: kopf.ConnectionInfo, before_write: Callable[[], None]) -> aiohttp.ClientSession:
    """As kopf would make it, but for the question before each write."""

    async def started(_session: Any, _context: Any, request: aiohttp.TraceRequestStartParams) -> None:
        if request.method != "GET":
            before_write()

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    connector = aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context())
    return aiohttp.ClientSession(connector=connector, headers=info.as_http_headers(), trace_configs=[trace])


def _register_events(registry: kopf.OperatorRegistry, seen: Seen) -> None:
    @kopf.on.event(*KIND, id="seen", registry=registry)
    async def saw(event: Any, name: str, namespace: str | None, **_: Any) -> None:
        if event["type"] == "DELETED":
            seen.gone((namespace or "", name))
        else:
            seen.put(event["object"])


def _register_deletion(registry: kopf.OperatorRegistry) -> None:
    """Have kopf put the finalizer on; the cluster's loop takes it away, the moment that nothing is left to do.

    A handler that waited for the loop would hold up every other event of the cluster: kopf has one task an object.
    """

    # The id goes into an annotation; a nested function's own name is refused there.
    @kopf.on.delete(*KIND, id="deletion", registry=registry)
    async def deleted(**_: Any) -> None:
        raise kopf.TemporaryError("the cluster's loop lets it go; its conditions say when", delay=HELD_SECONDS)
