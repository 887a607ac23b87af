"""What each refusal of Azure means."""

from __future__ import annotations

import pytest

from farmstead_operator.azure.errors import (
    AdapterError,
    ConflictError,
    PermanentError,
    Refusal,
    TokenRefusedError,
    TransientError,
    backoff,
    classify,
    is_throttling,
)


def refusal(status: int, *codes: str, after: float | None = None, canceled: bool = False) -> Refusal:
    return Refusal(status=status, codes=codes, message="Azure's own words.", retry_after=after, canceled=canceled)


@pytest.mark.parametrize(
    ("given", "kind", "reason"),
    [
        (refusal(429, "SubscriptionRequestsThrottled", after=7), TransientError, "SubscriptionRequestsThrottled"),
        (refusal(429, "RetryableError", "ReferencedResourceNotProvisioned"), TransientError,
         "ReferencedResourceNotProvisioned"),
        (refusal(409, "AnotherOperationInProgress"), TransientError, "AnotherOperationInProgress"),
        (refusal(500), TransientError, "Status500"),
        (refusal(503, "ServiceUnavailable"), TransientError, "ServiceUnavailable"),
        (refusal(401, "ExpiredAuthenticationToken"), TokenRefusedError, "ExpiredAuthenticationToken"),
        (refusal(412, "PreconditionFailed", "PreconditionFailedEtagMismatch"), ConflictError, "PreconditionFailed"),
        (refusal(404, "ResourceNotFound"), ConflictError, "ResourceNotFound"),
        (refusal(200, "Canceled", "CanceledAndSupersededDueToAnotherOperation"), ConflictError,
         "CanceledAndSupersededDueToAnotherOperation"),
        (refusal(200, "Canceled", canceled=True), ConflictError, "Canceled"),
        (refusal(200, "InternalServerError"), TransientError, "InternalServerError"),
        (refusal(200, "NeverSeen"), TransientError, "NeverSeen"),
        (refusal(200, "SubnetIsFull"), PermanentError, "SubnetIsFull"),
        (refusal(400, "InvalidResourceReference"), PermanentError, "InvalidResourceReference"),
        (refusal(400, "BadRequest", "SubnetIsFull"), PermanentError, "SubnetIsFull"),
        (refusal(400, "RetryableError"), TransientError, "RetryableError"),
        (refusal(400, "NeverSeen"), PermanentError, "NeverSeen"),
        (refusal(403, "AuthorizationFailed"), PermanentError, "AuthorizationFailed"),
        (refusal(404, "ResourceGroupNotFound"), PermanentError, "ResourceGroupNotFound"),
    ],
)  # fmt: skip
def test_classify(given: Refusal, kind: type[AdapterError], reason: str) -> None:
    problem = classify(given)
    assert type(problem) is kind
    assert problem.reason == reason
    assert "Azure's own words." in problem.message


def test_what_concerns_the_whole_group() -> None:
    for code, everywhere in {"AuthorizationFailed": True, "InvalidResourceReference": False}.items():
        problem = classify(refusal(403, code))
        assert isinstance(problem, PermanentError)
        assert problem.everywhere is everywhere


def test_azure_s_delay_is_kept() -> None:
    problem = classify(refusal(429, "SubscriptionRequestsThrottled", after=7))
    assert isinstance(problem, TransientError)
    assert problem.delay == 7


def test_every_permanent_message_says_what_to_do() -> None:
    assert "docs/azure.md" in classify(refusal(403, "AuthorizationFailed")).message
    assert "tried again by itself" in classify(refusal(400, "NeverSeen")).message


@pytest.mark.parametrize(
    ("attempts", "asked", "jitter", "seconds"),
    [(1, None, 0.0, 0.5), (1, None, 1.0, 1.0), (4, None, 1.0, 8.0), (99, None, 1.0, 120.0), (1, 30.0, 0.0, 30.0)],
)
def test_backoff(attempts: int, asked: float | None, jitter: float, seconds: float) -> None:
    assert backoff(attempts, asked=asked, jitter=jitter) == seconds


@pytest.mark.parametrize(
    ("status", "codes", "throttled"),
    [
        (429, ("SubscriptionRequestsThrottled",), True),
        (429, ("TooManyRequests",), True),
        (429, (), True),
        (429, ("RetryableError", "RetryableErrorDueToAnotherOperation"), False),
        (429, ("RetryableError", "ReferencedResourceNotProvisioned"), False),
        (503, ("SubscriptionRequestsThrottled",), False),
    ],
)
def test_not_every_429_is_throttling(status: int, codes: tuple[str, ...], throttled: bool) -> None:
    assert is_throttling(status, codes) is throttled
