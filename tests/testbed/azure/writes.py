"""One intended write, as the checks of `rules` and `reference_rules` see it.

The normalised goal, what is there now, and the rest of the subscription. Says nothing of what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from testbed.azure.errors import (
    ArmError,
    Json,
)
from testbed.azure.ids import ResourceId
from testbed.azure.store import Resource, Store


@dataclass(frozen=True, slots=True)
class Write:
    """One intended write of a whole top-level resource."""

    id: ResourceId
    goal: Json
    before: Resource | None
    store: Store

    def children(self, collection: str) -> Iterator[tuple[ResourceId, Json]]:
        """The children of one collection with their ids."""
        for item in self.goal["properties"].get(collection, []):
            yield self.id.with_child(collection, item["name"]), item["properties"]


Check = Callable[[Write], ArmError | None]


def plain_location(location: str) -> str:
    """`East US` and `eastus` are one region."""
    return location.replace(" ", "").lower()
