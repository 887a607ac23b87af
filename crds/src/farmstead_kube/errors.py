"""What can go wrong between Farmstead and the API server, as one tree that callers decide by.

    KubeError
    ├── NotFound      the object, or its whole kind, is not there
    ├── Conflict      it is there already, or changed since it was read: read again
    ├── Transient     ask again, not before `retry_after` seconds: network, overload, a server that restarts
    └── Permanent     asking again changes nothing until somebody does something; `reason` is the server's word

Not here: what to do about it. Nothing in this package retries a write.
"""

from collections.abc import Mapping

import msgspec

DEFAULT_RETRY_AFTER = 1.0
OVERLOADED = 429
SERVER_ERROR = 500


class KubeError(Exception):
    """Base of all errors of this package; the message is the server's own, with the request in front."""


class NotFound(KubeError):  # noqa: N818 - the condition's name, as people know it
    """There is no such object, or the server knows no such kind."""


class Conflict(KubeError):  # noqa: N818
    """The object exists already, or is no longer the one that was read."""


class Transient(KubeError):  # noqa: N818
    """The same request may succeed later."""

    def __init__(self, message: str, *, retry_after: float = DEFAULT_RETRY_AFTER) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Least delay before the next attempt, in seconds."""


class Permanent(KubeError):  # noqa: N818
    """The request was refused; it needs another request, other rights or another object."""

    def __init__(self, message: str, *, reason: str, status: int, causes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        """CamelCase word of the server, such as Forbidden, Invalid or Unauthorized."""
        self.status = status
        """HTTP status."""
        self.causes = causes
        """Reasons of the single causes, such as NamespaceTerminating or FieldValueInvalid."""


class Expired(KubeError):  # noqa: N818
    """The resource version asked for is too old or unknown (410): list anew. Stays inside this package."""


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: int = 0
    causes: list[_Cause] = []


class _Status(msgspec.Struct):
    reason: str = ""
    message: str = ""
    details: _Details | None = None


def error_of(request: str, status: int, headers: Mapping[str, str], body: bytes) -> KubeError:
    """The error that an answer with `status` >= 400 stands for."""
    try:
        answer = msgspec.json.decode(body, type=_Status)
    except msgspec.DecodeError:
        answer = _Status(message=body[:200].decode(errors="replace").strip())
    details = answer.details or _Details()
    message = f"{request}: {answer.message or answer.reason or 'no message'} ({status})"
    match status:
        case 404:
            return NotFound(message)
        case 409:
            return Conflict(message)
        case 410:
            return Expired(message)
        case _ if status == OVERLOADED or status >= SERVER_ERROR:
            return Transient(message, retry_after=_retry_after(headers, details))
    causes = tuple(cause.reason for cause in details.causes)
    return Permanent(message, reason=answer.reason or str(status), status=status, causes=causes)


def _retry_after(headers: Mapping[str, str], details: _Details) -> float:
    header = headers.get("Retry-After", "")
    if header.isdigit():
        return float(header)
    return float(details.retry_after_seconds or DEFAULT_RETRY_AFTER)
