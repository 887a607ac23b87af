"""Scripted faults: a queue of what goes wrong, matched on method, path and the how-manieth matching request.

Pure. A fault is taken from the queue when it has hit as often as it was told. What each kind does to a
request is done by the edge (`http`) and, for operations that end badly, by `service`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

from testbed.azure import errors, operations
from testbed.azure.errors import ArmError, Json


class Kind(StrEnum):
    """What goes wrong."""

    THROTTLED = "Throttled"  # 429 SubscriptionRequestsThrottled, with retry_after where given
    RETRYABLE = "RetryableError"  # 429 that is no throttling, with retry_after where given
    CONFLICT = "Conflict"  # 409 AnotherOperationInProgress
    STATUS = "Status"  # any status, code and message
    FOREIGN_WRITE = "ForeignWrite"  # another client changes the object just before: If-Match then fails with 412
    OPERATION_FAILED = "OperationFailed"  # accepted; the operation ends Failed
    OPERATION_CANCELED = "OperationCanceled"  # accepted; the operation ends Canceled
    DROP_BEFORE = "DropBefore"  # connection cut, nothing applied
    DROP_AFTER = "DropAfterApplied"  # applied; connection cut before the answer
    EXPIRED_TOKEN = "ExpiredToken"  # all tokens given so far run out now
    HANG = "Hang"  # no answer for `seconds`


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted fault.

    `method` is an HTTP verb or `*`; `path` a part of the request's path, without regard to case; `nth` counts
    matching requests from 1; `times` is how many in a row are hit. `applied` says for failed and cancelled
    operations whether what was written stays; None means as Azure does (Failed: stays, Canceled: does not).
    """

    kind: Kind
    method: str = "PUT"
    path: str = ""
    nth: int = 1
    times: int = 1
    retry_after: int | None = None
    status: int = 500
    code: str = "InternalServerError"
    message: str = "An error occurred."
    applied: bool | None = None
    seconds: float = 0.0
    patch: Json | None = None  # of a foreign write: a JSON merge patch

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("*", method) and self.path.lower() in path.lower()

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Json) -> Fault:
        """Parse what the admin API is sent.

        Raises ValueError or TypeError for unknown kinds or fields.
        """
        return cls(**{**body, "kind": Kind(body["kind"])})

    def error(self) -> ArmError | None:
        """The answer in place of the real one, for kinds that have one."""
        if self.kind is Kind.THROTTLED:
            return errors.subscription_throttled(kind="write", retry_after=self.retry_after)
        if self.kind is Kind.RETRYABLE:
            text = "Another operation on this or a dependent resource is in progress."
            return errors.retryable("RetryableErrorDueToAnotherOperation", text, retry_after=self.retry_after)
        if self.kind is Kind.CONFLICT:
            text = (
                "Another operation on this or dependent resource is in progress. To retrieve status of the "
                "operation "
                "use uri: https://management.azure.com/."
            )
            headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
            return ArmError(409, "AnotherOperationInProgress", text, details=(), headers=headers)
        if self.kind is Kind.STATUS:
            headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
            return ArmError(self.status, self.code, self.message, details=(), headers=headers)
        return None

    def outcome(self) -> operations.Outcome | None:
        """How the operation is to end, for kinds that let the request through."""
        if self.kind is Kind.OPERATION_FAILED:
            applied = True if self.applied is None else self.applied
            return operations.failed(code=self.code, message=self.message, applied=applied)
        if self.kind is Kind.OPERATION_CANCELED:
            return operations.canceled(applied=bool(self.applied))
        return None


@dataclass(slots=True)
class _Armed:
    fault: Fault
    seen: int = 0
    hit: int = 0


class Faults:
    """The queue."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []
        self.taken: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        self._armed.extend(_Armed(fault) for fault in faults)

    def clear(self) -> None:
        self._armed.clear()

    @property
    def waiting(self) -> list[Fault]:
        """Faults that have not yet hit as often as they will."""
        return [armed.fault for armed in self._armed]

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that hits this request, if any; each waiting fault counts the request if it matches."""
        chosen: _Armed | None = None
        for armed in self._armed:
            if armed.fault.matches(method, path):
                armed.seen += 1
                if chosen is None and armed.seen >= armed.fault.nth:
                    chosen = armed
        if chosen is None:
            return None
        chosen.hit += 1
        if chosen.hit >= chosen.fault.times:
            self._armed.remove(chosen)
        self.taken.append(chosen.fault)
        return chosen.fault
