"""Azure's refusals as the one error tree, and what a person can do about each. Pure: answers in, errors out.

    AdapterError
    ├── TransientError   goes by itself: try again, after `delay` seconds where Azure names them
    ├── ConflictError    somebody else wrote meanwhile: read again, compute again
    └── PermanentError   a person has to do something; tried again slowly, so it heals when the cause goes

What the SDK raises is taken apart in `arm`; the tables here say what it means. A code that is in no table is
permanent when it came as a refusal (4xx) and transient when an accepted operation failed: then the service, not the
request, is the likelier cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class AdapterError(Exception):
    """Base: `reason` is CamelCase, `message` says what, in Azure's own words, and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class TransientError(AdapterError):
    """Goes by itself; `delay` in seconds where Azure asked for one."""

    def __init__(self, reason: str, message: str, *, delay: float | None = None) -> None:
        super().__init__(reason, message)
        self.delay = delay


class ConflictError(AdapterError):
    """Somebody else changed the resource meanwhile."""


class PermanentError(AdapterError):
    """A person has to do something. `everywhere`: no request in this resource group can work, whatever it holds."""

    def __init__(self, reason: str, message: str, *, everywhere: bool = False) -> None:
        super().__init__(reason, message)
        self.everywhere = everywhere


class TokenRefusedError(TransientError):
    """Azure does not take the token that we hold: a new one has to be fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One answer of Azure that is no success."""

    status: int
    """HTTP status; 200 for an operation that was accepted and then failed."""
    codes: tuple[str, ...]
    """The error's code, then those of its details, innermost last."""
    message: str
    retry_after: float | None = None
    canceled: bool = False
    """Whether an accepted operation ended in Canceled."""


_SUPERSEDED = frozenset({"CanceledAndSupersededDueToAnotherOperation", "OperationPreempted"})
_PASSING = frozenset(
    {
        "RetryableError",
        "RetryableErrorDueToAnotherOperation",
        "ReferencedResourceNotProvisioned",
        "AnotherOperationInProgress",
        "InternalServerError",
        "NetworkingInternalOperationError",
        "ServerTimeout",
        "ServiceUnavailable",
        "GatewayTimeout",
        "SubscriptionRequestsThrottled",
        "TooManyRequests",
        "OperationNotAllowedDueToAnotherOperation",
    }
)
_BUSY = frozenset(
    {
        "RetryableError",
        "RetryableErrorDueToAnotherOperation",
        "AnotherOperationInProgress",
        "OperationNotAllowedDueToAnotherOperation",
        "ReferencedResourceNotProvisioned",
    }
)
"""Codes that Azure may send with status 429 and that have nothing to do with how much was asked."""
_EVERYWHERE = frozenset(
    {
        "AuthorizationFailed",
        "ResourceGroupNotFound",
        "ResourceGroupBeingDeleted",
        "SubscriptionNotFound",
        "InvalidSubscriptionId",
        "ReadOnlyDisabledSubscription",
        "MissingSubscriptionRegistration",
        "InvalidAuthenticationTokenTenant",
        "ScopeLocked",
    }
)
_RIGHTS = "Give the operator's identity the role of docs/azure.md on this resource group and network."
_QUOTA = "Raise the subscription's quota for this region, or delete what is not used."
ADVICE: Mapping[str, str] = {
    "AuthenticationFailed": "Check tenant, client id and secret or federated identity in the operator's settings.",
    "AuthorizationFailed": _RIGHTS,
    "LinkedAuthorizationFailed": _RIGHTS,
    "InvalidAuthenticationTokenTenant": "The operator's tenant is not the subscription's: correct its settings.",
    "RequestDisallowedByPolicy": "A policy of the subscription forbids it: have it exempted, or change the spec.",
    "ScopeLocked": "A lock holds the resource or its group: remove the lock.",
    "ResourceGroupNotFound": "Create the resource group, or correct spec.loadBalancer.azure.resourceGroup.",
    "ResourceGroupBeingDeleted": "The resource group is being deleted: name another one.",
    "SubscriptionNotFound": "Correct spec.loadBalancer.azure.subscriptionID.",
    "InvalidSubscriptionId": "Correct spec.loadBalancer.azure.subscriptionID.",
    "ReadOnlyDisabledSubscription": "The subscription is disabled: have it enabled.",
    "MissingSubscriptionRegistration": "Run: az provider register --namespace Microsoft.Network",
    "InvalidResourceReference": "Something that the spec names does not exist: check subnetID, virtualNetworkID "
    "and the public IP address; all of one region.",
    "PublicIPAddressInUse": "Name another public IP address, or detach it from what uses it now.",
    "PublicIPCountLimitReached": _QUOTA,
    "StandardSkuPublicIPCountLimitReached": _QUOTA,
    "QuotaExceeded": _QUOTA,
    "ResourceLimitExceeded": "The load balancer is full (docs/azure.md has Azure's limits): use another one.",
    "SubnetIsFull": "Name a subnet with free addresses.",
    "PrivateIPAddressInUse": "Choose another privateIPAddress, or leave it out.",
    "PrivateIPAddressNotInSubnet": "Choose a privateIPAddress of that subnet.",
    "PrivateIPAddressInReservedRange": "Azure keeps the first four addresses and the last: choose another one.",
    "LocationNotAvailableForResourceType": "Correct spec.loadBalancer.azure.location.",
}
_DEFAULT_ADVICE = "Correct the spec, or the resource that Azure names; it is tried again by itself."


def classify(refusal: Refusal) -> AdapterError:
    """What a refusal means."""
    codes = set(refusal.codes)
    reason = _reason(refusal)
    words = f"Azure: {refusal.message.strip() or f'status {refusal.status}'} ({', '.join(refusal.codes) or 'no code'})"
    vanished = refusal.status == 404 and not codes & _EVERYWHERE
    if refusal.status == 412 or vanished or codes & _SUPERSEDED or refusal.canceled:
        return ConflictError(reason, words)
    if refusal.status == 401:
        return TokenRefusedError(reason, words, delay=refusal.retry_after)
    if _passes(refusal, codes):
        return TransientError(reason, words, delay=refusal.retry_after)
    advice = next((ADVICE[code] for code in (*reversed(refusal.codes), reason) if code in ADVICE), _DEFAULT_ADVICE)
    return PermanentError(reason, f"{words}. {advice}", everywhere=bool(codes & _EVERYWHERE))


def is_throttling(status: int, codes: Iterable[str]) -> bool:
    """Whether a request was refused for the number of requests alone."""
    return status == 429 and _BUSY.isdisjoint(codes)


def _passes(refusal: Refusal, codes: set[str]) -> bool:
    if codes & _PASSING or refusal.status in (408, 409, 425, 429) or refusal.status >= 500:
        return True
    return refusal.status < 400 and not codes & ADVICE.keys()


def _reason(refusal: Refusal) -> str:
    """The code that says most: one that we know, else the outermost."""
    known = ADVICE.keys() | _SUPERSEDED | _PASSING
    told = next((code for code in reversed(refusal.codes) if code in known), None)
    return told or next(iter(refusal.codes), f"Status{refusal.status}")


def backoff(attempts: int, *, asked: float | None, jitter: float, base: float = 1.0, longest: float = 120.0) -> float:
    """Seconds until the next try after `attempts` failures in a row; never before the time that Azure asked for.

    `jitter` is in [0, 1): half of the exponential delay is fixed, half is left to it.
    """
    exponential = min(longest, base * 2.0 ** min(attempts - 1, 16))
    return max(asked or 0.0, exponential * (0.5 + 0.5 * jitter))
