"""Watch a selection of objects for ever: list, then follow changes, and begin again whenever in doubt.

    list -> Added/Modified/Deleted against what was known -> Synced -> stream ... -> stream ends by itself: resume
      ^                                                                |
      +------- backoff <- anything else: refused, expired, broken, or silent for too long

The API server is asked to end each stream after `STREAM_SECONDS`; one that says nothing for `SILENCE_SECONDS`
longer is dead (a connection that some firewall forgot) and is left. So a watch that has died is noticed in about a
minute. After any error everything is listed anew, which also covers an etcd that was put back to an older state. Where
the kind itself is not there (any more), nothing is: what was known is Deleted, and it is asked for until it comes.

A `Deleted` found by listing holds metadata alone (name, namespace, uid): the object's last state is unknown.
Not here: a cache of objects. Only their resource versions are kept.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp
import msgspec

from farmstead_kube.client import METADATA, Client, Json, Listing, Selection
from farmstead_kube.connection import CONNECT_SECONDS
from farmstead_kube.errors import Expired, KubeError, NotFound, Transient, error_of

STREAM_SECONDS = 50
SILENCE_SECONDS = 10
FIRST_BACKOFF = 0.5
LAST_BACKOFF = 20.0


class EventType(StrEnum):
    """What happened to an object; Synced has none: all that there is has been shown."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    SYNCED = "SYNCED"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A change, with the object as it is now."""

    type: EventType
    object: Json = field(default_factory=dict)


class _Line(msgspec.Struct):
    type: str
    object: dict[str, Any]


Key = tuple[str, str]


# uid and version: after etcd was put back, versions are given out again, and another life may get the same one.
_Seen = tuple[str, str]


class Watch:
    """One endless watch; iterate over it once."""

    def __init__(
        self,
        client: Client,
        selection: Selection,
        *,
        clock: Callable[[], float] = time.monotonic,
        stream_seconds: int = STREAM_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._client = client
        self._selection = selection
        self._clock = clock
        self._stream_seconds = stream_seconds
        self._silence_seconds = silence_seconds
        self._known: dict[Key, _Seen] = {}
        self._version = ""
        self._latest = 0
        """The newest version that was ever shown."""
        self._failures = 0
        self.failing_since: float | None = None
        """When the API server was last heard before it went away, by the clock given; None while all is well."""
        self.last_error = ""
        """Why, for people."""
        self.rewound = False
        """Whether the API server has ever shown less than before: somebody has put its data back to an earlier time."""

    @property
    def healthy(self) -> bool:
        """Whether what was shown is complete and being kept up to date."""
        return self.failing_since is None and bool(self._version)

    async def __aiter__(self) -> AsyncIterator[WatchEvent]:
        """Show what there is, then what changes; ends only by cancellation."""
        while True:
            try:
                if not self._version:
                    listing = await self._client.list(self._selection)
                    self._hold_against_before(listing)
                    for event in self._differences(listing):
                        yield event
                    self._version = listing.resource_version
                    self._well()
                    yield WatchEvent(EventType.SYNCED)
                async for event in self._stream():
                    self._well()
                    yield event
                self._well()
            except KubeError as error:
                pause = self._failed(error)
                if isinstance(error, NotFound):
                    for event in self._differences(Listing([], "")):
                        yield event
                    yield WatchEvent(EventType.SYNCED)
                await asyncio.sleep(pause)

    def _well(self) -> None:
        self._failures = 0
        self.failing_since = None
        self.last_error = ""

    def _failed(self, error: KubeError) -> float:
        """Note the failure; how long to wait before the next attempt, in seconds."""
        self._version = ""
        if isinstance(error, Expired):
            return 0.0
        self.last_error = str(error)
        if self.failing_since is None:
            self.failing_since = self._clock()
        ceiling: float = min(LAST_BACKOFF, FIRST_BACKOFF * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        least = error.retry_after if isinstance(error, Transient) and self._failures > 1 else 0.0
        return max(least, ceiling * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing

    def _hold_against_before(self, listing: Listing) -> None:
        """Notice time that runs backwards: by the list's version, and by objects' where only the list's was raised."""
        latest, self._latest = self._latest, int(listing.resource_version)
        self.rewound |= self._latest < latest or any(
            int(item["metadata"]["resourceVersion"]) < int(self._known.get(_key(item), ("", "0"))[1])
            for item in listing.items
        )

    def _differences(self, listing: Listing) -> Iterable[WatchEvent]:
        before, self._known = self._known, {}
        for item in listing.items:
            key = self._remember(item)
            old = before.pop(key, None)
            if old is None:
                yield WatchEvent(EventType.ADDED, item)
            elif old != self._known[key]:
                yield WatchEvent(EventType.MODIFIED, item)
        for namespace, name in before:
            yield WatchEvent(EventType.DELETED, {"metadata": {"namespace": namespace, "name": name}})

    def _remember(self, item: Json) -> Key:
        key = _key(item)
        self._known[key] = (item["metadata"].get("uid", ""), item["metadata"]["resourceVersion"])
        return key

    async def _stream(self) -> AsyncIterator[WatchEvent]:
        query = self._selection.query | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(self._stream_seconds),
        }
        async with self._client.connection.request(
            "GET",
            self._selection.path,
            query=query,
            headers={"Accept": METADATA} if self._selection.metadata_only else None,
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=CONNECT_SECONDS,
                sock_read=self._stream_seconds + self._silence_seconds,
            ),
        ) as response:
            async for line in response.content:
                event = self._event(self._line(line))
                if event is not None:
                    yield event

    def _line(self, line: bytes) -> _Line:
        try:
            return msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise Transient(f"watch {self._selection.path}: a broken line: {error}") from error

    def _event(self, line: _Line) -> WatchEvent | None:
        """What a line of the stream says; None for a bookmark, which only moves the place to resume from."""
        if line.type == "ERROR":
            status = int(line.object.get("code") or 500)
            raise error_of(f"watch {self._selection.path}", status, {}, msgspec.json.encode(line.object))
        self._version = line.object["metadata"]["resourceVersion"]
        self._latest = int(self._version)
        if line.type == "BOOKMARK":
            return None
        key = self._remember(line.object)
        if line.type == EventType.DELETED:
            del self._known[key]
        return WatchEvent(EventType(line.type), line.object)


def _key(item: Json) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
