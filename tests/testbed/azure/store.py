"""What the subscription holds: resource groups and top-level resources, each with one etag.

A pure table. Children (probes, pools, subnets, ...) live in their parent's body, because Azure gives all of a
load balancer one etag and one state. Checks, defaults and long-running operations are elsewhere.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from testbed.azure.errors import Json
from testbed.azure.ids import ResourceId

SUCCEEDED = "Succeeded"
UPDATING = "Updating"
DELETING = "Deleting"
FAILED = "Failed"
CANCELED = "Canceled"

_NAMESPACE = uuid.UUID("6f0b1c52-7d4e-4f51-9a3c-8c1d2f3a4b5e")


class Guids:
    """GUIDs in a fixed order, so that two runs of one story print the same messages."""

    def __init__(self) -> None:
        self._count = 0

    def next(self, what: str) -> str:
        self._count += 1
        return str(uuid.uuid5(_NAMESPACE, f"{what}-{self._count}"))


@dataclass(slots=True)
class Group:
    """A resource group."""

    name: str
    location: str
    tags: Json = field(default_factory=dict)


@dataclass(slots=True)
class Resource:
    """One top-level resource.

    `body` is the goal as the last writer left it, with defaults and without what is computed (ids, etags,
    back references). `applied` is the last goal whose operation has succeeded: what the data plane works
    with.
    """

    id: ResourceId
    body: Json
    etag: str
    guid: str
    state: str
    operation: str
    applied: Json | None = None

    @property
    def etag_text(self) -> str:
        return f'W/"{self.etag}"'


class Store:
    """Groups and resources by case-insensitive key, in the order of their creation."""

    def __init__(self, guids: Guids) -> None:
        self.guids = guids
        self.groups: dict[str, Group] = {}
        self.resources: dict[str, Resource] = {}

    def group(self, name: str) -> Group | None:
        return self.groups.get(name.lower())

    def add_group(self, name: str, location: str, tags: Json | None = None) -> Group:
        group = Group(name, location, dict(tags or {}))
        self.groups[name.lower()] = group
        return group

    def remove_group(self, name: str) -> None:
        """Remove a group with everything in it."""
        self.groups.pop(name.lower(), None)
        for resource in [r for r in self.resources.values() if r.id.group.lower() == name.lower()]:
            self.remove(resource.id)

    def get(self, resource_id: ResourceId) -> Resource | None:
        """The top-level resource of an id, also for the id of a child."""
        return self.resources.get(resource_id.parent.key)

    def of_type(self, resource_type: str, *, group: str | None = None) -> Iterator[Resource]:
        for resource in self.resources.values():
            if resource.id.type == resource_type and (group is None or resource.id.group.lower() == group.lower()):
                yield resource

    def write(self, resource_id: ResourceId, body: Json, *, state: str, operation: str) -> Resource:
        """Set the goal of a resource, under a new etag. The spelling of the first write stays."""
        etag = self.guids.next("etag")
        found = self.get(resource_id)
        if found is None:
            guid = self.guids.next("resource")
            found = Resource(resource_id.parent, body, etag, guid, state, operation)
            self.resources[found.id.key] = found
            return found
        found.body, found.etag, found.state, found.operation = body, etag, state, operation
        return found

    def remove(self, resource_id: ResourceId) -> None:
        self.resources.pop(resource_id.parent.key, None)

    def child(self, resource_id: ResourceId) -> Json | None:
        """The stored body of a child, or None."""
        parent = self.get(resource_id)
        return None if parent is None else find_named(items_of(parent.body, resource_id), resource_id.child)


def items_of(body: Json, resource_id: ResourceId) -> list[Json]:
    """The list in a parent's body that the id's child belongs to."""
    found = body["properties"].get(resource_id.child_type)
    return found if isinstance(found, list) else []


def find_named(items: list[Json], name: str) -> Json | None:
    return next((item for item in items if str(item.get("name", "")).lower() == name.lower()), None)


def with_child(body: Json, resource_id: ResourceId, child: Json) -> Json:
    """A copy of a parent's body in which one child is new or replaced in its place."""
    changed = copy.deepcopy(body)
    items = changed["properties"].setdefault(resource_id.child_type, [])
    for index, item in enumerate(items):
        if str(item.get("name", "")).lower() == resource_id.child.lower():
            items[index] = child
            return changed
    items.append(child)
    return changed


def without_child(body: Json, resource_id: ResourceId) -> Json:
    """A copy of a parent's body without one child."""
    changed = copy.deepcopy(body)
    items = changed["properties"].get(resource_id.child_type, [])
    changed["properties"][resource_id.child_type] = [
        item for item in items if str(item.get("name", "")).lower() != resource_id.child.lower()
    ]
    return changed
