"""Every state that objects of one kind went through, as a watch shows them: for tests that ask what was said meanwhile.

A condition that held for half a second is in here; who only asks now and then would miss it.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from farmstead_kube import FARM_CLUSTERS, Client, EventType, Json, Resource, Selection, Watch

PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Said:
    """A condition, as it was at some time."""

    name: str
    type: str
    status: str
    reason: str
    message: str
    generation: int


class History:
    """The objects of a namespace, from `async with` to its end."""

    def __init__(self, client: Client, namespace: str, resource: Resource = FARM_CLUSTERS) -> None:
        self._client = client
        self._selection = Selection(resource, namespace=namespace)
        self._changed = asyncio.Event()
        self.latest: dict[str, Json] = {}
        self.said: list[Said] = []
        """In order, each once in a row."""

    async def __aenter__(self) -> "History":
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        async for event in Watch(self._client, self._selection):
            if event.type is EventType.SYNCED:
                continue
            name = event.object["metadata"]["name"]
            if event.type is EventType.DELETED:
                self.latest.pop(name, None)
            else:
                self.latest[name] = event.object
                for entry in _conditions(event.object):
                    if entry not in self.current(name):
                        self.said.append(entry)
            self._changed.set()

    def current(self, name: str) -> list[Said]:
        """The last word of each type of condition that an object has had."""
        return list({entry.type: entry for entry in self.said if entry.name == name}.values())

    def is_(self, name: str, kind: str, status: str) -> bool:
        """Whether a condition has this status now, for the object's latest generation."""
        body = self.latest.get(name)
        return body is not None and any(
            entry.type == kind and entry.status == status and entry.generation == body["metadata"]["generation"]
            for entry in _conditions(body)
        )

    def backends(self, name: str) -> int:
        """How many backends Azure is said to know of an object."""
        balancer = self.latest.get(name, {}).get("status", {}).get("loadBalancer", {})
        return len(balancer.get("azure", {}).get("backends", []))

    def all_are(self, kind: str, status: str) -> bool:
        """Whether every object there is has a condition with this status."""
        return all(self.is_(name, kind, status) for name in self.latest)

    def ever(self, name: str, *kinds: str, says: str, status: str = "") -> bool:
        """Whether a condition of one of these types has ever had these words."""
        return any(
            entry.name == name and entry.type in kinds and status in ("", entry.status) and says in entry.message
            for entry in self.said
        )

    async def until(self, reached: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
        """Wait until something holds of the objects; looked at after each event."""
        try:
            async with asyncio.timeout(seconds):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not in {seconds:g} s; {self._told()}") from None

    def _told(self) -> str:
        """What is there, with the last words of a few, for people."""
        some = [str(entry) for name in sorted(self.latest)[:3] for entry in self.current(name)]
        return "\n".join([f"there are {', '.join(sorted(self.latest)) or 'no objects'}", *some])


def _conditions(body: Json) -> Iterator[Said]:
    for entry in body.get("status", {}).get("conditions", []):
        yield Said(
            body["metadata"]["name"],
            entry["type"],
            entry["status"],
            entry["reason"],
            entry.get("message", ""),
            entry.get("observedGeneration", 0),
        )
