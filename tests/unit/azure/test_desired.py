"""From a cluster's spec to its share."""

from __future__ import annotations

from typing import Any

import pytest

from farmstead_api import FarmCluster, parse
from farmstead_operator.azure.desired import Defaults, Scope, key_of, share_of
from farmstead_operator.azure.errors import PermanentError
from farmstead_operator.azure.shares import BackendAddress, LoadBalancerKey

NETWORK = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/net"
DEFAULTS = Defaults(subscription_id="sub", resource_group="group", location="eastus", virtual_network_id=NETWORK)


def farm(azure: dict[str, Any] | None = None, listeners: list[dict[str, Any]] | None = None) -> FarmCluster:
    spec = {
        "members": {"names": ["vm1"]},
        "application": {"systemd": {"units": ["nginx.service"]}},
        "listeners": listeners or [{"name": "http", "port": 80}],
        "loadBalancer": {"azure": {"frontend": {"publicIPAddress": {"name": "ip"}}, **(azure or {})}},
    }
    return parse(FarmCluster, {"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec})


def test_what_is_left_out_comes_from_the_defaults() -> None:
    assert key_of(farm(), DEFAULTS) == LoadBalancerKey("sub", "group", "farmstead-shop-web")
    share = share_of(farm(), [("vm2", "10.0.0.5"), ("vm1", "10.0.0.4")], DEFAULTS)
    assert share.cluster == ("shop", "web")
    assert (share.location, share.virtual_network_id) == ("eastus", NETWORK)
    assert share.backends == (BackendAddress("vm1", "10.0.0.4"), BackendAddress("vm2", "10.0.0.5"))


def test_what_is_named_wins() -> None:
    named = farm({"name": "lb", "location": "westeurope", "virtualNetworkID": "/other"})
    assert key_of(named, DEFAULTS).name == "lb"
    share = share_of(named, [], DEFAULTS)
    assert (share.location, share.virtual_network_id) == ("westeurope", "/other")


def test_the_machines_are_in_the_frontend_s_network() -> None:
    inside = farm({"frontend": {"subnetID": f"{NETWORK}/subnets/front"}})
    assert share_of(inside, [("vm1", "10.0.0.4")], Defaults()).virtual_network_id == NETWORK


SCOPES = Defaults(
    subscription_id="sub",
    resource_group="group",
    namespaces={"shop": (Scope("sub", "shop-prod"), Scope("sub2", "shop-extra"))},
)


@pytest.mark.parametrize(
    ("azure", "defaults", "group"),
    [
        ({}, SCOPES, "shop-prod"),
        ({"resourceGroup": "SHOP-PROD"}, SCOPES, "SHOP-PROD"),
        ({"subscriptionID": "sub2", "resourceGroup": "shop-extra"}, SCOPES, "shop-extra"),
        ({"resourceGroup": "group"}, DEFAULTS, "group"),
        ({}, Defaults(namespaces={"*": (Scope("sub", "all"),)}), "all"),
    ],
)
def test_where_a_namespace_may_go(azure: dict[str, Any], defaults: Defaults, group: str) -> None:
    assert key_of(farm(azure), defaults).resource_group == group


@pytest.mark.parametrize(
    ("azure", "defaults", "reason"),
    [
        ({}, Defaults(), "ResourceGroupMissing"),
        ({"resourceGroup": "theirs"}, DEFAULTS, "ResourceGroupForbidden"),
        ({"resourceGroup": "group"}, SCOPES, "ResourceGroupForbidden"),
        ({"subscriptionID": "sub2", "resourceGroup": "shop-prod"}, SCOPES, "ResourceGroupForbidden"),
    ],
)
def test_where_it_may_not_go(azure: dict[str, Any], defaults: Defaults, reason: str) -> None:
    with pytest.raises(PermanentError) as refused:
        key_of(farm(azure), defaults)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("listeners", "backends", "defaults", "reason"),
    [
        (None, [("vm1", "10.0.0.4")], Defaults(), "VirtualNetworkMissing"),
        (None, [("vm1", "10.0.0.4"), ("vm2", "10.0.0.4")], DEFAULTS, "BackendAddressShared"),
        ([{"name": "a", "port": 80, "backendPort": 8080}, {"name": "b", "port": 81, "backendPort": 8080}], [], DEFAULTS,
         "BackendPortShared"),
    ],
)  # fmt: skip
def test_what_azure_would_refuse(
    listeners: list[dict[str, Any]] | None, backends: list[tuple[str, str]], defaults: Defaults, reason: str
) -> None:
    with pytest.raises(PermanentError) as refused:
        share_of(farm(listeners=listeners), backends, defaults)
    assert refused.value.reason == reason


def test_one_port_for_two_protocols() -> None:
    listeners = [{"name": "tcp", "port": 53}, {"name": "udp", "port": 53, "protocol": "UDP"}]
    assert len(share_of(farm(listeners=listeners), [], DEFAULTS).listeners) == 2
