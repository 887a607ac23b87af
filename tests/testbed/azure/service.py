"""The network provider: what each verb does to the model. Pure but for the clock that it is given.

Knows nothing of HTTP, tokens, throttling or faults. A write changes the goal and the etag at once and starts
a long-running operation; `settle()` finishes what is due. A later write on the same load balancer cancels the
earlier.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from testbed.azure import addresses, errors, reference_rules, rules
from testbed.azure.defaults import normalise, normalise_child
from testbed.azure.errors import Json
from testbed.azure.ids import (
    LOAD_BALANCERS,
    PUBLIC_IPS,
    VIRTUAL_NETWORKS,
    WRITABLE_CHILDREN,
    ResourceId,
    parse_id,
)
from testbed.azure.operations import Operation, Operations, Outcome, operation_name
from testbed.azure.rendering import render, render_child, render_children
from testbed.azure.store import (
    CANCELED,
    DELETING,
    FAILED,
    SUCCEEDED,
    UPDATING,
    Guids,
    Resource,
    Store,
    with_child,
    without_child,
)
from testbed.azure.writes import Write


@dataclass(frozen=True, slots=True)
class Answer:
    """What the edge is to send; `operation` where the client has to poll.

    `location`: the operation's result is fetched from a Location too. `result_path`: Location without an
    operation.
    """

    status: int
    body: Json | None = None
    operation: Operation | None = None
    location: bool = False
    etag: str = ""
    result_path: str = ""


class BackendStates(Protocol):
    """Where the health of a rule's backends comes from."""

    def rule_health(self, rule: ResourceId) -> Json:
        """The body of a health answer: up, down and the state and reason of each backend."""


class Network:
    """Microsoft.Network of one subscription."""

    def __init__(self, *, clock: Callable[[], float], frontends: str, backend_states: BackendStates) -> None:
        self.guids = Guids()
        self.store = Store(self.guids)
        self.operations = Operations(clock, lambda: self.guids.next("operation"))
        self.backend_states = backend_states
        self.on_change: list[Callable[[], None]] = []
        self._frontends = frontends

    # -- reads

    def get(self, rid: ResourceId, *, reduced: bool = False) -> Answer:
        """A resource or child, as it is now.

        Raises ArmError 404.
        """
        resource = self._existing(rid)
        if not rid.child:
            return Answer(200, render(resource, self.store, reduced=reduced), etag=resource.etag_text)
        child = render_child(resource, rid, self.store, reduced=reduced)
        if child is None:
            raise errors.child_not_found(rid)
        return Answer(200, child, etag=resource.etag_text)

    def list(self, resource_type: str, *, group: str | None) -> Answer:
        """All resources of a type, of one group or of the subscription."""
        if group is not None:
            self._group(group)
        found = self.store.of_type(resource_type, group=group)
        return Answer(200, {"value": [render(resource, self.store) for resource in found]})

    def list_children(self, parent: ResourceId, collection: str) -> Answer:
        return Answer(200, {"value": render_children(self._existing(parent), collection, self.store)})

    # -- writes

    def put(
        self, rid: ResourceId, body: Json, *, if_match: str | None = None, outcome: Outcome | None = None
    ) -> Answer:
        """Create or replace a resource, or one of the children that can be written on their own.

        Raises ArmError with what Azure would say.
        """
        self._group(rid.group)
        return self._put_child(rid, body, if_match, outcome) if rid.child else self._put(rid, body, if_match, outcome)

    def _put(self, rid: ResourceId, body: Json, if_match: str | None, outcome: Outcome | None) -> Answer:
        before = self.store.get(rid)
        self._check_etag(before, rid, if_match)
        goal = normalise(rid.type, body)
        resource, operation = self._write(rid, goal, verb_target=rid, outcome=outcome)
        if operation.due <= self.operations.now() and (before is not None or rid.type == LOAD_BALANCERS):
            self.settle()
        answer = render(resource, self.store)
        # Recorded traffic answers 201 to the update of a virtual network too.
        fresh = before is None or rid.type == VIRTUAL_NETWORKS
        return Answer(201 if fresh else 200, answer, operation)

    def _put_child(self, rid: ResourceId, body: Json, if_match: str | None, outcome: Outcome | None) -> Answer:
        if rid.child_type not in WRITABLE_CHILDREN:
            raise errors.method_not_allowed("PUT", rid.text)
        parent = self.store.get(rid)
        if parent is None:
            raise errors.parent_not_found(rid)
        self._check_etag(parent, rid, if_match)
        fresh = self.store.child(rid) is None
        child = normalise_child(rid.child_type, body, name=rid.child)
        goal = with_child(parent.body, rid, child)
        resource, operation = self._write(parent.id, goal, verb_target=rid, outcome=outcome)
        if operation.due <= self.operations.now() and not fresh:
            self.settle()
        return Answer(201 if fresh else 200, render_child(resource, rid, self.store), operation)

    def patch_tags(self, rid: ResourceId, body: Json, *, if_match: str | None = None) -> Answer:
        """Replace the tags of a top-level resource: the one thing that PATCH can change."""
        resource = self._existing(rid)
        if rid.child:
            raise errors.method_not_allowed("PATCH", rid.text)
        self._check_etag(resource, rid, if_match)
        changed = copy.deepcopy(resource.body)
        changed["tags"] = dict(body.get("tags") or {})
        self.store.write(rid, changed, state=resource.state, operation=operation_name("Patch", rid))
        self._changed()
        return Answer(200, render(resource, self.store), etag=resource.etag_text)

    def delete(self, rid: ResourceId, *, if_match: str | None = None, outcome: Outcome | None = None) -> Answer:
        """Delete a resource or a writable child: 202, or 204 where there is none."""
        self._group(rid.group)
        resource = self.store.get(rid)
        if resource is None or (rid.child and self.store.child(rid) is None):
            return Answer(204)
        self._check_etag(resource, rid, if_match)
        if rid.child:
            return self._delete_child(rid, resource, outcome)
        error = reference_rules.delete_error(resource, self.store)
        if error is not None:
            raise error
        operation = self._start("Delete", rid, resource, outcome)
        resource.state, resource.operation = DELETING, operation.name
        return Answer(202, None, operation, location=True)

    def _delete_child(self, rid: ResourceId, parent: Resource, outcome: Outcome | None) -> Answer:
        if rid.child_type not in WRITABLE_CHILDREN:
            raise errors.method_not_allowed("DELETE", rid.text)
        goal = without_child(parent.body, rid)
        _, operation = self._write(parent.id, goal, verb_target=rid, outcome=outcome, verb="Delete")
        return Answer(202, None, operation, location=True)

    def query_health(self, rule: ResourceId) -> Answer:
        """Ask for the health of a rule's backends: the answer comes where the operation's result is "
        "fetched."""
        resource = self._existing(rule)
        if self.store.child(rule) is None:
            raise errors.child_not_found(rule)
        return Answer(202, None, self.operations.start("Get", rule, location=resource.body["location"]), location=True)

    def edit_as_other_client(self, rid: ResourceId, change: Callable[[Json], None]) -> None:
        """Change a resource as another client would, without a request: new etag, no operation left behind.

        `change` gets the stored goal (`properties` with its collections, `tags`, ...) and edits it in place.
        """
        resource = self._existing(rid)
        body = copy.deepcopy(resource.body)
        change(body)
        self.store.write(rid, normalise(resource.id.type, body), state=SUCCEEDED, operation=resource.operation)
        resource.applied = resource.body
        self._changed()

    # -- time

    def settle(self) -> None:
        """Finish the operations whose time has come."""
        finished = self.operations.due()
        for operation in finished:
            if operation.name.startswith("Get"):
                self._answer_health(operation)
            else:
                self._finish(operation)
        if finished:
            self._changed()

    def _answer_health(self, operation: Operation) -> None:
        operation.result = self.backend_states.rule_health(operation.resource)

    def _finish(self, operation: Operation) -> None:
        resource = self.store.get(operation.resource)
        if resource is None:
            return
        if operation.status != SUCCEEDED:
            self._undo(resource, operation)
        elif operation.name.startswith("Delete") and not operation.resource.child:
            self.store.remove(resource.id)
        else:
            resource.state = SUCCEEDED
            self._allocate_public(resource)
            resource.applied = resource.body

    def _undo(self, resource: Resource, operation: Operation) -> None:
        """A failed operation leaves its goal in place, or what was there before; the state says that it "
        "failed."""
        applied = operation.outcome is not None and operation.outcome.applied
        if not applied and operation.undo is None and not operation.name.startswith("Delete"):
            self.store.remove(resource.id)
            return
        if not applied and operation.undo is not None:
            resource.body = operation.undo
        resource.state = CANCELED if operation.status == CANCELED else FAILED

    # -- inside

    def _write(
        self,
        rid: ResourceId,
        goal: Json,
        *,
        verb_target: ResourceId,
        outcome: Outcome | None,
        verb: str = "Put",
    ) -> tuple[Resource, Operation]:
        before = self.store.get(rid)
        self._refuse_while_deleting(before)
        error = rules.first_error(Write(before.id if before else rid, goal, before, self.store))
        if error is not None:
            raise error
        self._keep_addresses(goal, before)
        self._allocate_private(goal)
        undo = before.body if before else None
        location = goal["location"]
        earlier = self.operations.running(rid)
        if earlier is not None and earlier.undo is not None:
            undo = earlier.undo
        operation = self.operations.start(verb, verb_target, location=location, outcome=outcome, undo=undo)
        if earlier is not None:
            self.operations.supersede(earlier, operation)
        resource = self.store.write(rid, goal, state=UPDATING, operation=operation.name)
        self._changed()
        return resource, operation

    def _start(self, verb: str, rid: ResourceId, resource: Resource, outcome: Outcome | None) -> Operation:
        earlier = self.operations.running(rid)
        operation = self.operations.start(
            verb, rid, location=resource.body["location"], outcome=outcome, undo=resource.body
        )
        if earlier is not None:
            self.operations.supersede(earlier, operation)
        return operation

    def _refuse_while_deleting(self, resource: Resource | None) -> None:
        running = self.operations.running(resource.id) if resource else None
        if resource is None or running is None or resource.state != DELETING:
            return
        seconds = max(1, round(running.due - self.operations.now()))
        raise errors.another_operation(
            operation=running.name, operation_id=running.id, resource=resource.id.text, seconds=seconds
        )

    def _keep_addresses(self, goal: Json, before: Resource | None) -> None:
        """A frontend without a static address keeps the one it was given; so does a public IP address."""
        if before is None:
            return
        if before.id.type == PUBLIC_IPS and before.body["properties"].get("ipAddress"):
            goal["properties"].setdefault("ipAddress", before.body["properties"]["ipAddress"])
        held = {
            item["name"].lower(): item["properties"]
            for item in before.body["properties"].get("frontendIPConfigurations", [])
        }
        for item in goal["properties"].get("frontendIPConfigurations", []):
            old = held.get(item["name"].lower(), {})
            same = (old.get("subnet") or {}).get("id") == (item["properties"].get("subnet") or {}).get("id")
            if item["properties"].get("subnet") and same and old.get("privateIPAddress"):
                item["properties"].setdefault("privateIPAddress", old["privateIPAddress"])

    def _allocate_private(self, goal: Json) -> None:
        frontends = [item["properties"] for item in goal["properties"].get("frontendIPConfigurations", [])]
        for properties in frontends:
            subnet = parse_id((properties.get("subnet") or {}).get("id", ""))
            if subnet is not None and not properties.get("privateIPAddress"):
                promised = {
                    other["privateIPAddress"]
                    for other in frontends
                    if other.get("privateIPAddress") and (other.get("subnet") or {}).get("id", "").lower() == subnet.key
                }
                properties["privateIPAddress"] = addresses.private_address(self.store, subnet, promised=promised)

    def _allocate_public(self, resource: Resource) -> None:
        properties = resource.body["properties"]
        static = properties.get("publicIPAllocationMethod") == "Static"
        if resource.id.type == PUBLIC_IPS and static and not properties.get("ipAddress"):
            properties["ipAddress"] = addresses.public_address(self.store, self._frontends)

    def _check_etag(self, resource: Resource | None, rid: ResourceId, if_match: str | None) -> None:
        if not if_match or (if_match == "*" and resource is not None):
            return
        current = resource.etag if resource else ""
        given = if_match.removeprefix("W/").strip('"')
        if given != current:
            raise errors.etag_mismatch(f'W/"{given}"', current=f'W/"{current}"', resource=rid.text)

    def _group(self, name: str) -> None:
        if self.store.group(name) is None:
            raise errors.group_not_found(name)

    def _existing(self, rid: ResourceId) -> Resource:
        self._group(rid.group)
        resource = self.store.get(rid)
        if resource is None:
            raise errors.resource_not_found(rid.parent)
        return resource

    def _changed(self) -> None:
        for listener in self.on_change:
            listener()
