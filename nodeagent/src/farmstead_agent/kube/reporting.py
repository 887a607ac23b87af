"""Write each Member's status: on change, the first at once, then at most one a second; the newest wins.

When the API server is away a write is tried again until it succeeds, always with what is true then.
"""

import asyncio
import logging

from farmstead_agent.members import Entry, Members
from farmstead_agent.metrics import Metrics
from farmstead_api import dump
from farmstead_api.member import MemberStatus
from farmstead_kube import MEMBERS, Client, KubeError, NotFound, Transient

log = logging.getLogger("farmstead.report")
BETWEEN_SECONDS = 1.0
REFUSED_SECONDS = 10.0


class Reporting:
    """One writer a member."""

    def __init__(self, client: Client, members: Members, metrics: Metrics) -> None:
        self._client = client
        self._members = members
        self._metrics = metrics
        self._writers: dict[str, tuple[Entry, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Keep a writer for each member; ends only by cancellation."""
        try:
            while True:
                self._members.table_changed.clear()
                self._match()
                await self._members.table_changed.wait()
        finally:
            for _, task in self._writers.values():
                task.cancel()

    def _match(self) -> None:
        entries = self._members.entries
        for key, (entry, task) in list(self._writers.items()):
            if entries.get(key) is not entry:
                task.cancel()
                del self._writers[key]
        for key, entry in entries.items():
            if key not in self._writers:
                task = asyncio.create_task(self._write_for_ever(entry), name=f"report {entry.runner.label}")
                self._writers[key] = (entry, task)

    async def _write_for_ever(self, entry: Entry) -> None:
        written: MemberStatus | None = None
        written_uid = ""
        entry.changed.set()
        while True:
            await entry.changed.wait()
            entry.changed.clear()
            self._members.drop_removed(entry)
            status, uid = entry.runner.status, entry.runner.member.metadata.uid
            if (status == written and uid == written_uid and not entry.stale_status) or entry.gone:
                continue
            pause = await self._write(entry, status)
            if pause is None:
                written, written_uid, entry.stale_status = status, uid, False
            else:
                entry.changed.set()
            await asyncio.sleep(BETWEEN_SECONDS if pause is None else pause)

    async def _write(self, entry: Entry, status: MemberStatus) -> float | None:
        """Write it; None when that has succeeded, else how long to wait before the next attempt, in seconds."""
        meta = entry.runner.member.metadata
        body = {"metadata": {"name": meta.name, "namespace": meta.namespace}, "status": dump(status)}
        try:
            await self._client.apply_status(MEMBERS, body)
        except Transient as error:
            self._metrics.writes.labels("member", "failed").inc()
            return max(BETWEEN_SECONDS, error.retry_after)
        except NotFound:
            self._metrics.writes.labels("member", "gone").inc()
            return REFUSED_SECONDS
        except KubeError as error:
            self._metrics.writes.labels("member", "refused").inc()
            log.warning("%s: the status was refused: %s", entry.runner.label, error)
            return REFUSED_SECONDS
        self._metrics.writes.labels("member", "ok").inc()
        return None
