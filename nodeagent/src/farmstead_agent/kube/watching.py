"""Follow this machine's Members, and tell an order to stop from a type that is being torn down.

A CustomResourceDefinition that is deleted takes its objects with it: each gets a deletionTimestamp that nobody
wanted for the application. So a deletion counts as an order only while the definition itself is not going away.
"""

import asyncio
import logging

from farmstead_agent.members import Members
from farmstead_agent.metrics import Metrics
from farmstead_api import Member, ViewError, parse
from farmstead_kube import (
    CUSTOM_RESOURCE_DEFINITIONS,
    MEMBERS,
    Client,
    EventType,
    Json,
    KubeError,
    NotFound,
    Permanent,
    Selection,
    Transient,
    Watch,
)

log = logging.getLogger("farmstead.watch")
DEFINITION = f"{MEMBERS.plural}.{MEMBERS.group}"


class Watching:
    """The watch of one machine's Members."""

    def __init__(self, client: Client, members: Members, metrics: Metrics, *, node: str) -> None:
        self._client = client
        self._members = members
        self._watch = Watch(client, Selection(MEMBERS, field_selector=f"spec.nodeName={node}"))
        metrics.watching.set_function(lambda: 1 if self._watch.healthy else 0)
        self._shown: set[tuple[str, str]] = set()

    @property
    def trouble(self) -> str:
        """Why Members are not being followed; empty while they are."""
        return "" if self._watch.healthy else self._watch.last_error or "not connected yet"

    async def run(self) -> None:
        """Follow; ends only by cancellation."""
        async for event in self._watch:
            if event.type is EventType.SYNCED:
                self._members.complete(self._shown)
            elif event.type is EventType.DELETED:
                self._deleted(event.object)
            else:
                await self._seen(event.object)

    def _deleted(self, body: Json) -> None:
        meta = body["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        self._shown.discard(key)
        self._members.gone(*key)

    async def _seen(self, body: Json) -> None:
        try:
            member = parse(Member, body)
        except ViewError as error:
            log.error("a Member can't be read, what is applied runs on: %s", error)  # noqa: TRY400 - no stack needed
            meta = body["metadata"]
            self._shown.add((meta.get("namespace", ""), meta["name"]))
            return
        self._shown.add(member.metadata.key)
        if member.metadata.deleting and not await self._is_order():
            self._shown.discard(member.metadata.key)
            self._members.gone(*member.metadata.key)
            return
        await self._members.seen(member)

    async def _is_order(self) -> bool:
        """Whether a deletionTimestamp means this Member, and not its whole type; asks until that is known."""
        while True:
            try:
                definition = await self._client.get(CUSTOM_RESOURCE_DEFINITIONS, DEFINITION)
            except NotFound:
                return False
            except Permanent as error:
                log.warning("can't look at the definition of Members, so a deletion is an order: %s", error)
                return True
            except Transient as error:
                await asyncio.sleep(error.retry_after)
            except KubeError as error:
                log.warning("can't look at the definition of Members yet: %s", error)
                await asyncio.sleep(1.0)
            else:
                return "deletionTimestamp" not in definition["metadata"]
