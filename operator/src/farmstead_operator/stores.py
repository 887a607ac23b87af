"""What was last seen of each object, parsed once, and whom a change wakes. In memory; lost with the process.

Fed by kopf's handlers, by the watches of `watches.py` and by the answers to our own writes. A store believes whoever
spoke last, also when a version number goes backwards: that is what an etcd put back to an earlier time looks like.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from farmstead_api import FarmCluster, FarmNode, Member, Operation, ViewError, parse
from farmstead_operator.clusters.observed import Key

log = logging.getLogger(__name__)

Object = FarmCluster | FarmNode | Member | Operation
V = TypeVar("V", bound=Object)


class Store(Generic[V]):
    """Objects of one kind, by namespace and name."""

    def __init__(self, view: type[V], changed: Callable[[V | None, V | None], None]) -> None:
        self._view: type[V] = view
        self._changed: Callable[[V | None, V | None], None] = changed
        self.objects: dict[Key, V] = {}

    def put(self, body: Mapping[str, Any]) -> None:
        """An object as it is now; the same version again is no news."""
        try:
            new = parse(self._view, body)
        except ViewError as error:
            log.warning("an object that can't be read is left out: %s", error)
            return
        self._take(self.objects.get(new.metadata.key), new)

    def put_written(self, body: Mapping[str, Any], *, wakes: bool = True) -> None:
        """The answer to a write of our own, unless a watch was faster and has shown a later version already.

        `wakes`: whether what was written lets somebody do more.
        """
        new = parse(self._view, body)
        old = self.objects.get(new.metadata.key)
        if old is None or old.metadata.uid != new.metadata.uid or _number(old) < _number(new):
            self._take(old, new, wakes=wakes)

    def _take(self, old: V | None, new: V, *, wakes: bool = True) -> None:
        if old is None or _version(old) != _version(new):
            self.objects[new.metadata.key] = new
            if wakes:
                self._changed(old, new)

    def remove(self, key: Key) -> None:
        """An object is gone."""
        if (old := self.objects.pop(key, None)) is not None:
            self._changed(old, None)

    def versions(self) -> dict[Key, str]:
        """Resource version of each object."""
        return {key: view.metadata.resource_version for key, view in self.objects.items()}


def _version(view: Object) -> tuple[str, str]:
    return view.metadata.uid, view.metadata.resource_version


AnyStore = Store[FarmCluster] | Store[FarmNode] | Store[Member] | Store[Operation]


def _number(view: Object) -> int:
    """Versions of one object are comparable numbers."""
    return int(view.metadata.resource_version)


class Stores:
    """All stores, the indices between them, and the waking of clusters."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self.clusters = Store(FarmCluster, self._cluster_changed)
        self.nodes = Store(FarmNode, self._node_changed)
        self.members = Store(Member, self._member_changed)
        self.operations = Store(Operation, self._operation_changed)
        self.members_of: dict[Key, dict[str, Member]] = defaultdict(dict)
        """Members by cluster and machine."""
        self.operations_of: dict[Key, dict[str, Operation]] = defaultdict(dict)
        """Operations by cluster and name."""

    def machines(self) -> dict[str, FarmNode]:
        """All FarmNodes, by name."""
        return {name: node for (_, name), node in self.nodes.objects.items()}

    def wake_all(self) -> None:
        """Wake every cluster."""
        for key in {*self.clusters.objects, *self.operations_of}:
            self._wake(key)

    def wake_machine(self, node: str) -> None:
        """Wake the clusters that have a Member on a machine."""
        for key, members in self.members_of.items():
            if node in members:
                self._wake(key)

    def wake_config_map(self, namespace: str, name: str) -> None:
        """Wake the clusters that carry a ConfigMap."""
        for key, cluster in self.clusters.objects.items():
            scripts = cluster.spec.application.scripts
            carried = scripts.config_map if scripts else None
            if key[0] == namespace and carried is not None and carried.name == name:
                self._wake(key)

    def _cluster_changed(self, old: FarmCluster | None, new: FarmCluster | None) -> None:
        self._wake(_one(old, new).metadata.key)

    def _node_changed(self, old: FarmNode | None, new: FarmNode | None) -> None:
        """A machine's own status decides nothing about clusters."""
        if old is None or new is None or (old.spec, old.metadata.labels) != (new.spec, new.metadata.labels):
            self.wake_all()

    def _member_changed(self, old: Member | None, new: Member | None) -> None:
        member = _one(old, new)
        key = (member.metadata.namespace, member.spec.cluster_ref.name)
        _index(self.members_of, key, member.spec.node_name, new)
        self._wake(key)

    def _operation_changed(self, old: Operation | None, new: Operation | None) -> None:
        operation = _one(old, new)
        key = (operation.metadata.namespace, operation.spec.cluster_ref.name)
        _index(self.operations_of, key, operation.metadata.name, new)
        self._wake(key)


def _one(old: V | None, new: V | None) -> V:
    if new is not None:
        return new
    if old is None:
        raise ValueError("a change from nothing to nothing")
    return old


def _index(index: dict[Key, dict[str, V]], key: Key, name: str, new: V | None) -> None:
    if new is not None:
        index[key][name] = new
        return
    index[key].pop(name, None)
    if not index[key]:
        del index[key]
