"""Long-running operations: started with a delay, looked at by polling, superseded by the next write.

Pure: the clock is given, nothing waits. Whoever holds the table calls `due()` when time has passed and
finishes what it returns; the effect of an operation on the model is not this module's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from testbed.azure.errors import Json, error_body, superseded
from testbed.azure.ids import ResourceId
from testbed.azure.store import CANCELED, FAILED, SUCCEEDED

IN_PROGRESS = "InProgress"

_LABELS = {
    "loadBalancers": "LoadBalancer",
    "publicIPAddresses": "PublicIPAddress",
    "virtualNetworks": "VirtualNetwork",
    "backendAddressPools": "LoadBalancerBackendAddressPool",
    "inboundNatRules": "LoadBalancerInboundNatRule",
    "subnets": "Subnet",
    "loadBalancingRules": "LoadBalancingRule",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a scripted operation ends. `applied` says whether what it wrote stays in the model."""

    status: str
    code: str
    message: str
    applied: bool

    @property
    def error(self) -> Json:
        return error_body(self.code, self.message, ())


def failed(*, code: str = "InternalServerError", message: str = "An error occurred.", applied: bool = True) -> Outcome:
    return Outcome(FAILED, code, message, applied)


def canceled(*, applied: bool = False) -> Outcome:
    return Outcome(CANCELED, "Canceled", "Operation was canceled.", applied)


@dataclass(slots=True)
class Operation:
    """One operation. `undo` holds what the model had before, for outcomes that are not applied."""

    id: str
    name: str
    resource: ResourceId
    location: str
    due: float
    outcome: Outcome | None
    undo: Json | None = None
    status: str = IN_PROGRESS
    error: Json | None = None
    result: Json | None = None

    @property
    def body(self) -> Json:
        """What a poll of the operation shows."""
        return {"status": self.status} if self.error is None else {"status": self.status, "error": self.error}


def operation_name(verb: str, resource: ResourceId) -> str:
    """`PutLoadBalancerOperation`: the name that Azure uses in its messages."""
    return f"{verb}{_LABELS[resource.child_type or resource.type]}Operation"


class Operations:
    """The table of operations, by id."""

    def __init__(self, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self.delay = 0.0
        self._clock = clock
        self._new_id = new_id
        self._all: dict[str, Operation] = {}
        self._open: dict[str, Operation] = {}

    def now(self) -> float:
        """The time on the clock given."""
        return self._clock()

    def start(
        self,
        verb: str,
        resource: ResourceId,
        *,
        location: str,
        outcome: Outcome | None = None,
        undo: Json | None = None,
    ) -> Operation:
        """A new operation, due after the set delay."""
        operation = Operation(
            id=self._new_id(),
            name=operation_name(verb, resource),
            resource=resource,
            location=location,
            due=self._clock() + self.delay,
            outcome=outcome,
            undo=undo,
        )
        self._all[operation.id] = self._open[operation.id] = operation
        return operation

    def get(self, operation_id: str) -> Operation | None:
        return self._all.get(operation_id.lower())

    def running(self, resource: ResourceId) -> Operation | None:
        """The write that runs on a top-level resource, if any; a query of health is no write."""
        key = resource.parent.key
        for operation in self._open.values():
            if operation.resource.parent.key == key and not operation.name.startswith("Get"):
                return operation
        return None

    def writes(self) -> list[Operation]:
        """Every write that runs."""
        return [operation for operation in self._open.values() if not operation.name.startswith("Get")]

    def supersede(self, old: Operation, new: Operation) -> None:
        """The later write wins; whoever polls the earlier one learns that."""
        del self._open[old.id]
        old.status = CANCELED
        old.error = superseded(operation=old.name, operation_id=old.id, by=new.name, by_id=new.id)

    def due(self) -> list[Operation]:
        """Operations whose time has come, marked with how they end."""
        now = self._clock()
        ready = [op for op in self._open.values() if op.due <= now]
        for operation in ready:
            del self._open[operation.id]
            if operation.outcome is None:
                operation.status = SUCCEEDED
            else:
                operation.status, operation.error = operation.outcome.status, operation.outcome.error
        return ready

    def next_due(self) -> float | None:
        """When something will be due next, on the clock given."""
        return min((op.due for op in self._open.values()), default=None)
