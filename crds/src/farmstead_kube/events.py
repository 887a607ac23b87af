"""Kubernetes Events (events.k8s.io/v1) for people: queued, the same one counted instead of repeated.

Events are best effort: when the API server is away or the queue is full they are dropped and logged, and nothing
that matters ever waits for them. Conditions are the truth; events are the story.
"""

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from farmstead_kube.client import Client, Json
from farmstead_kube.errors import KubeError, NotFound
from farmstead_kube.leases import micro_time
from farmstead_kube.resources import EVENTS, Resource

log = logging.getLogger(__name__)

NOTE_LIMIT = 1024
QUEUE_LIMIT = 256
REMEMBERED = 512
SERIES_SECONDS = 600.0


class EventKind(StrEnum):
    """Whether somebody should look."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object an event is about."""

    resource: Resource
    name: str
    uid: str
    namespace: str = ""

    @property
    def reference(self) -> Json:
        """As `v1.ObjectReference`."""
        parts = {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
        }
        return {key: value for key, value in parts.items() if value}


@dataclass(frozen=True, slots=True)
class Note:
    """One event: `reason` and `action` are CamelCase, `note` is for people."""

    regarding: Regarding
    kind: EventKind
    reason: str
    action: str
    note: str


@dataclass(slots=True)
class _Series:
    name: str
    namespace: str
    last: datetime
    count: int = 1


class EventRecorder:
    """Takes notes at once, writes them from `run`."""

    def __init__(
        self,
        client: Client,
        *,
        controller: str,
        instance: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._controller = controller
        self._instance = instance[:128]
        self._now = now
        self._queue: asyncio.Queue[Note] = asyncio.Queue(QUEUE_LIMIT)
        self._series: OrderedDict[Note, _Series] = OrderedDict()

    def record(self, note: Note) -> None:
        """Queue a note; never blocks, never fails."""
        try:
            self._queue.put_nowait(note)
        except asyncio.QueueFull:
            log.warning("event dropped, %d are waiting: %s %s", QUEUE_LIMIT, note.reason, note.note)

    async def run(self) -> None:
        """Write what is queued; ends only by cancellation."""
        while True:
            note = await self._queue.get()
            try:
                await self.write(note)
            except KubeError as error:
                log.warning("event not written: %s: %s", note.reason, error)

    async def write(self, note: Note) -> None:
        """Write one note now: a new Event, or one more of a series that is less than ten minutes old."""
        now = self._now()
        series = self._series.get(note)
        if series is not None and (now - series.last).total_seconds() < SERIES_SECONDS:
            try:
                await self._count(series, now)
            except NotFound:
                log.debug("the API server has forgotten event %s: a new one", series.name)
            else:
                return
        await self._create(note, now)

    async def _count(self, series: _Series, now: datetime) -> None:
        seen = {"count": series.count + 1, "lastObservedTime": micro_time(now)}
        await self._client.patch(EVENTS, series.name, {"series": seen}, namespace=series.namespace)
        series.count += 1
        series.last = now

    async def _create(self, note: Note, now: datetime) -> None:
        namespace = note.regarding.namespace or "default"
        series = _Series(f"{note.regarding.name[:200]}.{uuid.uuid4().hex[:16]}", namespace, now)
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": series.name, "namespace": namespace},
            "eventTime": micro_time(now),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "action": note.action,
            "reason": note.reason,
            "type": note.kind.value,
            "regarding": note.regarding.reference,
            "note": note.note[:NOTE_LIMIT],
        }
        await self._client.create(EVENTS, body, namespace=namespace)
        self._series[note] = series
        self._series.move_to_end(note)
        if len(self._series) > REMEMBERED:
            self._series.popitem(last=False)
