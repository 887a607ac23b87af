"""Public addresses: which may be used, and which of ours may go."""

from __future__ import annotations

from typing import Any

import pytest

from farmstead_api.farmcluster import Frontend, PublicIPAddress
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.errors import PermanentError
from farmstead_operator.azure.load_balancer.health import backends, unknown
from farmstead_operator.azure.load_balancer.spec import MANAGED_BY_TAG
from farmstead_operator.azure.public_ip.spec import body, broken, holder, leftovers, unfit
from unit.azure.builders import INSTANCE, KEY, share

WANTED = share(frontend=Frontend(public_ip_address=PublicIPAddress(name="ip"), zones=("1", "2")))
MINE = f"{KEY.id}/frontendIPConfigurations/x"
THEIRS = MINE.replace("/lb/", "/lb-2/")


def address(name: str = "ip", *, used_by: str = "", sku: str = "Standard", **changes: Any) -> Json:
    document: Json = {"name": name, **body(KEY, WANTED, INSTANCE), **changes, "sku": {"name": sku}}
    document["properties"] = {"provisioningState": "Succeeded"}
    if used_by:
        document["properties"]["ipConfiguration"] = {"id": used_by}
    return document


def test_what_is_created_says_whose_it_is() -> None:
    created = body(KEY, WANTED, INSTANCE)
    assert created["zones"] == ["1", "2"]
    assert created["tags"] == {
        MANAGED_BY_TAG: INSTANCE,
        "farmstead-load-balancer": "lb",
        "farmstead-cluster": "shop/web",
        "farmstead-cluster-uid": "uid",
    }
    with pytest.raises(PermanentError, match="region"):
        body(KEY, share(location=""), INSTANCE)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (address(), None),
        (address(used_by=MINE.upper()), None),
        (address(used_by=THEIRS), "PublicIPAddressInUse"),
        (address(sku="Basic"), "PublicIPAddressNotStandard"),
    ],
)
def test_which_may_be_used(document: Json, reason: str | None) -> None:
    problem = unfit(document, KEY)
    assert (problem.reason if problem else None) == reason


ELSEWHERE = {MANAGED_BY_TAG: INSTANCE, "farmstead-load-balancer": "lb-2"}


#   whose                                    still wanted or attached   goes
TABLE = {
    "ours, unused":             (address(),                       [],     [],                        True),
    "ours, not yet let go":     (address(used_by=MINE),           [],     [],                        True),
    "ours, wanted":             (address(),                       ["IP"], [],                        False),
    "ours, attached":           (address(),                       [],     [KEY.public_ip_id("ip")],  False),
    "foreign":                  (address(tags={}),                [],     [],                        False),
    "another operator's":       (address(tags={MANAGED_BY_TAG: "other"}), [], [],                    False),
    "another load balancer's":  (address(tags=ELSEWHERE),         [],     [],                        False),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_which_may_go(case: str) -> None:
    document, wanted, attached, goes = TABLE[case]
    held = [one.casefold() for one in attached]
    assert bool(leftovers([document], key=KEY, instance=INSTANCE, wanted=wanted, attached=held)) is goes


def test_who_holds_it() -> None:
    assert holder(address(used_by=THEIRS)) == THEIRS
    assert holder(address()) == ""


def test_only_our_own_is_created_again() -> None:
    failed = address()
    failed["properties"]["provisioningState"] = "Failed"
    assert broken(failed, INSTANCE)
    assert not broken(failed, "other")
    assert not broken(address(), INSTANCE)


def test_health_in_azure_s_words() -> None:
    answer = {
        "loadBalancerBackendAddresses": [
            {"ipAddress": "10.0.0.5", "state": "Down", "reason": "Down_Probe_HttpStatusCodeError"},
            {"ipAddress": "10.0.0.4", "state": "Up", "reason": "Up_Probe_Success"},
            {"ipAddress": "10.0.0.6", "state": "NA"},
        ]
    }
    found = backends("http", answer)
    assert [(one.address, one.state, one.reason) for one in found] == [
        ("10.0.0.4", "Up", "Up_Probe_Success"),
        ("10.0.0.5", "Down", "Down_Probe_HttpStatusCodeError"),
        ("10.0.0.6", "Unknown", ""),
    ]
    [silent] = unknown(share(), "AzureUnreachable")
    assert (silent.address, silent.state, silent.reason) == ("10.0.1.4", "Unknown", "AzureUnreachable")
