"""The error answers of Azure Resource Manager, with its own codes and words.

Texts follow recorded traffic and Azure's published messages, so that what the operator shows to people under
test is what they will read in production. Nothing here decides when an error is due: that is `rules`,
`service` and `http`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from testbed.azure.ids import ResourceId

Json = dict[str, Any]


class ArmError(Exception):
    """An answer with status >= 400 and ARM's error body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.headers = headers or {}

    @property
    def body(self) -> Json:
        return {"error": error_body(self.code, self.message, self.details)}


def error_body(code: str, message: str, details: Sequence[tuple[str, str]] | None = None) -> Json:
    """ARM's error object; `details` is left out where the service leaves it out."""
    body: Json = {"code": code, "message": message}
    if details is not None:
        body["details"] = [{"code": one, "message": text} for one, text in details]
    return body


# The gateway in front of the network provider answers these itself, and says so in a header.
_GATEWAY = {"x-ms-failure-cause": "gateway"}


def missing_api_version() -> ArmError:
    text = "The api-version query parameter (?api-version=) is required for all requests."
    return ArmError(400, "MissingApiVersionParameter", text, headers=_GATEWAY)


def unknown_api_version(version: str, *, resource_type: str, location: str, known: Sequence[str]) -> ArmError:
    text = (
        f"No registered resource provider found for location '{location}' and API version '{version}' for "
        "type "
        f"'{resource_type}'. The supported api-versions are '{', '.join(known)}'. "
        f"The supported locations are '{location}'."
    )
    return ArmError(400, "NoRegisteredProviderFound", text, headers=_GATEWAY)


def unknown_type(path: str) -> ArmError:
    text = f"The resource type could not be found in the namespace 'Microsoft.Network' for path '{path}'."
    return ArmError(404, "InvalidResourceType", text, headers=_GATEWAY)


def subscription_not_found(subscription: str) -> ArmError:
    text = f"The subscription '{subscription}' could not be found."
    return ArmError(404, "SubscriptionNotFound", text, headers=_GATEWAY)


def group_not_found(group: str) -> ArmError:
    text = f"Resource group '{group}' could not be found."
    return ArmError(404, "ResourceGroupNotFound", text, headers=_GATEWAY)


def resource_not_found(resource: ResourceId) -> ArmError:
    text = (
        f"The Resource '{resource.full_type}/{resource.name}' under resource group '{resource.group}' was "
        "not "
        "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    )
    return ArmError(404, "ResourceNotFound", text, headers=_GATEWAY)


def parent_not_found(child: ResourceId) -> ArmError:
    text = (
        f"Failed to perform 'write' on resource(s) of type '{child.type}/{child.child_type}', because the "
        "parent "
        f"resource '{child.parent.text}' could not be found."
    )
    return ArmError(404, "ParentResourceNotFound", text, headers=_GATEWAY)


def child_not_found(child: ResourceId) -> ArmError:
    return ArmError(404, "NotFound", f"Resource {child.text} not found.", details=())


def method_not_allowed(method: str, resource: str) -> ArmError:
    text = f"The requested resource does not support http method '{method}': {resource}."
    return ArmError(405, "MethodNotAllowed", text)


def etag_mismatch(given: str, *, current: str, resource: str) -> ArmError:
    text = (
        f"Etag provided in if-match header {given} does not match etag {current} of resource {resource} "
        "in NRP data store."
    )
    details = [("PreconditionFailedEtagMismatch", text)]
    return ArmError(412, "PreconditionFailed", "Precondition failed.", details=details)


def retryable(detail_code: str, text: str, *, retry_after: int | None = None) -> ArmError:
    """429 that is no throttling: something that this request needs is not ready yet."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    message = "A retryable error occurred."
    return ArmError(429, "RetryableError", message, details=[(detail_code, text)], headers=headers)


def not_provisioned(*, used: str, user: str, state: str, operation: str) -> ArmError:
    text = (
        f"Cannot proceed with operation because resource {used} used by resource {user} is not in Succeeded "
        "state. "
        f"Resource is in {state} state and the last operation that updated/is updating the resource is "
        f"{operation}."
    )
    return retryable("ReferencedResourceNotProvisioned", text)


def another_operation(*, operation: str, operation_id: str, resource: str, seconds: int) -> ArmError:
    text = (
        f"Operation {operation} ({operation_id}) is updating resource {resource}. "
        f"The call can be retried in {seconds} seconds."
    )
    return retryable("RetryableErrorDueToAnotherOperation", text, retry_after=seconds)


def subscription_throttled(*, kind: str, retry_after: int | None) -> ArmError:
    text = (
        f"Number of '{kind}' requests for subscription has exceeded the limit. Please try again"
        + (f" after '{retry_after}' seconds" if retry_after is not None else " later")
        + ". For information about the limits, see https://aka.ms/arm-throttling."
    )
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return ArmError(429, "SubscriptionRequestsThrottled", text, headers=headers)


def invalid_reference(*, used: str, user: str) -> ArmError:
    text = (
        f"Resource {used} referenced by resource {user} was not found. Please make sure that the referenced "
        "resource exists, and that both resources are in the same region."
    )
    return ArmError(400, "InvalidResourceReference", text, details=())


def bad_request(code: str, text: str) -> ArmError:
    return ArmError(400, code, text, details=())


def cannot_parse(code: str, text: str) -> ArmError:
    """The request's own shape is wrong: ARM wraps the reason."""
    return ArmError(400, "InvalidRequestFormat", "Cannot parse the request.", details=[(code, text)])


def superseded(*, operation: str, operation_id: str, by: str, by_id: str) -> Json:
    """The error of an operation that a later request on the same resource has cancelled."""
    text = f"Operation {operation} ({operation_id}) was canceled and superseded by operation {by} ({by_id})."
    return error_body("Canceled", "Operation was canceled.", [("CanceledAndSupersededDueToAnotherOperation", text)])
