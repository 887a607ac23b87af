"""The main job: create, leave alone, change, share, adopt, withdraw."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from farmstead_api.common import Probe
from farmstead_api.farmcluster import Affinity, Frontend, Listener, NoHealthyBackends, Protocol
from farmstead_operator.azure.shares import BackendAddress
from integration.azure.rig import GROUP, Site

FOREIGN: dict[str, Any] = {
    "location": "eastus",
    "sku": {"name": "Standard"},
    "tags": {"team": "network"},
    "properties": {
        "somethingNew": {"of": ["the", "service"]},
        "frontendIPConfigurations": [
            {"name": "Theirs", "properties": {"privateIPAddress": "10.0.0.200", "unknownField": {"a": 1}}}
        ],
        "backendAddressPools": [{"name": "theirs", "properties": {"drainPeriodInSeconds": 7}}],
        "probes": [{"name": "theirs", "properties": {"protocol": "Tcp", "port": 22, "intervalInSeconds": 30}}],
        "loadBalancingRules": [],
    },
}


def foreign(site: Site) -> dict[str, Any]:
    body = copy.deepcopy(FOREIGN)
    address = body["properties"]["frontendIPConfigurations"][0]["properties"]
    address |= {"subnet": {"id": site.subnet()}, "privateIPAllocationMethod": "Static"}
    return body


def foreign_items(model: dict[str, Any] | None) -> dict[str, Any]:
    """Everything in a load balancer that is not ours, as it is."""
    assert model is not None
    document = copy.deepcopy(model)
    for items in document["properties"].values():
        if isinstance(items, list):
            items[:] = [item for item in items if not item["name"].startswith("farmstead.")]
    return document


async def test_a_cluster_alone_is_one_put(site: Site) -> None:
    share = site.share()
    await site.declare(share)
    await site.in_place(share)
    state = site.state(share)
    assert state.load_balancer_id == site.key().id
    assert state.frontend_address.startswith("10.0.0.")
    assert state.pending_since is None
    assert [entry.method for entry in site.puts()] == ["PUT"]


async def test_every_setting_arrives(site: Site) -> None:
    share = site.share(
        listeners=(
            Listener(name="http", port=80, backend_port=8080, affinity=Affinity.CLIENT_IP, idle_timeout_seconds=600),
            Listener(name="dns", port=53, protocol=Protocol.UDP, affinity=Affinity.CLIENT_IP_PROTOCOL),
        ),
        probe=Probe(port=9100, interval_seconds=6, threshold=2),
        no_healthy_backends=NoHealthyBackends.ALL_PROBED_UP,
        frontend=Frontend(subnet_id=site.subnet(), private_ip_address="10.0.0.50", zones=("1", "2")),
    )
    await site.declare(share)
    await site.in_place(share)
    model = site.model()
    assert model is not None
    [frontend], [pool] = model["properties"]["frontendIPConfigurations"], model["properties"]["backendAddressPools"]
    [probe], rules = model["properties"]["probes"], model["properties"]["loadBalancingRules"]
    assert frontend["zones"] == ["1", "2"]
    assert frontend["properties"]["privateIPAddress"] == "10.0.0.50"
    assert site.state(share).frontend_address == "10.0.0.50"
    assert probe["name"] == "farmstead.shop.web.probe"
    assert probe["properties"] == {
        "protocol": "Http",
        "port": 9100,
        "requestPath": "/probe/shop/web",
        "intervalInSeconds": 6,
        "numberOfProbes": 2,
        "probeThreshold": 2,
        "noHealthyBackendsBehavior": "AllProbedUp",
    }
    addresses = {
        one["name"]: one["properties"]["ipAddress"] for one in pool["properties"]["loadBalancerBackendAddresses"]
    }
    assert addresses == {"vm1": "10.0.1.4", "vm2": "10.0.1.5"}
    http, dns = (rule["properties"] for rule in rules)
    assert [rule["name"] for rule in rules] == ["farmstead.shop.web.http", "farmstead.shop.web.dns"]
    assert (http["frontendPort"], http["backendPort"], http["idleTimeoutInMinutes"]) == (80, 8080, 10)
    assert (http["loadDistribution"], http["enableTcpReset"], http["disableOutboundSnat"]) == ("SourceIP", True, True)
    assert (dns["protocol"], dns["loadDistribution"], dns["enableTcpReset"]) == ("Udp", "SourceIPProtocol", False)


async def test_nothing_to_change_is_no_put(site: Site) -> None:
    shares = [site.share("web"), site.public_share("api"), site.share("db")]
    await site.declare(*shares)
    await site.in_place(*shares)
    site.azure.log.clear()
    await site.restart(drift_seconds=0.1)
    await site.declare(*shares, *shares)
    await site.in_place(*shares)
    reads = site.azure.log.matching
    await site.until(lambda: len(reads(method="GET", path="loadBalancers/lb")) > 5, "reading again and again")
    assert site.puts() == []


async def test_thirty_clusters_at_once_are_few_puts(site: Site) -> None:
    site.azure.set_delay(0.2)
    shares = [site.share(f"web-{number:02}") for number in range(30)]
    await site.declare(*shares)
    await site.in_place(*shares)
    assert len(site.puts()) <= 5
    assert len(site.names("loadBalancingRules")) == 30


async def test_changes_during_an_operation_go_into_the_next_put(site: Site) -> None:
    site.azure.set_delay(0.3)
    first = site.share("first")
    await site.declare(first)
    await site.until(lambda: site.state(first).pending_operation is not None, "the operation")
    later = [site.share(f"later-{number}") for number in range(5)]
    await site.declare(*later)
    await site.in_place(first, *later)
    assert len(site.puts()) == 2


async def test_a_machine_leaves_the_pool(site: Site) -> None:
    share = site.share()
    await site.declare(share)
    await site.in_place(share)
    fewer = replace(share, backends=(BackendAddress("vm2", "10.0.1.5"),))
    await site.declare(fewer)
    assert not site.state(fewer).in_place
    await site.in_place(fewer)
    model = site.model()
    assert model is not None
    [pool] = model["properties"]["backendAddressPools"]
    assert [one["name"] for one in pool["properties"]["loadBalancerBackendAddresses"]] == ["vm2"]


async def test_foreign_items_stay_as_they_are(site: Site) -> None:
    site.put("loadBalancers", "lb", foreign(site))
    before = foreign_items(site.model())
    share = site.share()
    await site.declare(share)
    await site.in_place(share)
    assert foreign_items(site.model()) == before
    read, sent = site.azure.log.matching(method="GET", path="loadBalancers/lb")[0].response, site.puts()[0].request
    assert read is not None
    assert sent is not None
    assert foreign_items(sent) == read, "what Azure computes goes back as it came, too"
    assert [rule["name"] for rule in sent["properties"]["loadBalancingRules"]] == ["farmstead.shop.web.http"]
    await site.withdraw(share)
    await site.gone(share)
    assert foreign_items(site.model()) == before == site.model()


async def test_a_load_balancer_that_we_did_not_create_is_never_deleted(site: Site) -> None:
    site.put("loadBalancers", "lb", {"location": "eastus", "sku": {"name": "Standard"}, "properties": {}})
    share = site.share()
    await site.declare(share)
    await site.in_place(share)
    await site.withdraw(share)
    await site.gone(share)
    assert site.model() is not None
    assert site.names("frontendIPConfigurations") == []


async def test_what_is_ours_goes_with_the_last_share(site: Site) -> None:
    web, api = site.public_share("web"), site.share("api")
    await site.declare(web, api)
    await site.in_place(web, api)
    assert site.public_ip_names() == ["web-ip"]
    await site.withdraw(web)
    await site.gone(web)
    assert site.public_ip_names() == []
    assert site.names("probes") == ["farmstead.shop.api.probe"]
    await site.withdraw(api)
    await site.gone(api)
    assert site.model() is None
    await site.writers.forget(site.key(), api.cluster)
    assert not site.state(api).gone


async def test_foreign_items_keep_our_load_balancer(site: Site) -> None:
    share = site.share()
    await site.declare(share)
    await site.in_place(share)

    def add(body: dict[str, Any]) -> None:
        body["properties"]["probes"].append({"name": "theirs", "properties": {"protocol": "Tcp", "port": 22}})

    site.azure.edit_as_other_client(site.key().id, add)
    await site.withdraw(share)
    await site.gone(share)
    assert site.names("probes") == ["theirs"]


async def test_a_public_address_is_adopted_and_left(site: Site) -> None:
    site.put(
        "publicIPAddresses",
        "web-ip",
        {
            "location": "eastus",
            "sku": {"name": "Standard"},
            "properties": {"publicIPAllocationMethod": "Static"},
        },
    )
    share = site.public_share()
    await site.declare(share)
    await site.in_place(share)
    assert site.state(share).frontend_address.startswith("127.80.0.")
    assert site.azure.log.matching(method="PUT", path="publicIPAddresses") == []
    await site.withdraw(share)
    await site.gone(share)
    assert site.public_ip_names() == ["web-ip"]


async def test_two_clusters_on_one_public_address(site: Site) -> None:
    web = site.public_share("web", "both", listeners=(Listener(name="http", port=80),))
    api = site.public_share("api", "both", listeners=(Listener(name="http", port=81),))
    await site.declare(web, api)
    await site.in_place(web, api)
    assert len(site.names("frontendIPConfigurations")) == 1
    assert site.state(web).frontend_address == site.state(api).frontend_address != ""
    await site.withdraw(api)  # whose frontend it is
    await site.gone(api)
    assert len(site.names("frontendIPConfigurations")) == 1
    assert site.public_ip_names() == ["both"]
    await site.withdraw(web)
    await site.gone(web)
    assert site.model() is None
    assert site.public_ip_names() == []


async def test_another_frontend_replaces_the_first(site: Site) -> None:
    share = site.public_share()
    await site.declare(share)
    await site.in_place(share)
    inside = replace(share, frontend=Frontend(subnet_id=site.subnet(), private_ip_address="10.0.0.77"))
    await site.declare(inside)
    await site.in_place(inside)
    assert site.state(inside).frontend_address == "10.0.0.77"
    assert len(site.names("frontendIPConfigurations")) == 1
    await site.until(lambda: site.public_ip_names() == [], "the end of the public address")


async def test_drift_is_repaired_and_told(site: Site) -> None:
    await site.restart(drift_seconds=0.2)
    share = site.share()
    await site.declare(share)
    await site.in_place(share)

    def spoil(body: dict[str, Any]) -> None:
        body["properties"]["probes"][0]["properties"]["requestPath"] = "/wrong"

    site.azure.edit_as_other_client(site.key().id, spoil)
    await site.until(lambda: site.state(share).repair is not None and site.state(share).in_place, "the repair")
    repair = site.state(share).repair
    assert repair is not None
    assert "requestPath: /wrong instead of /probe/shop/web" in repair.message
    assert len(site.puts()) == 2


async def test_the_backends_health_is_read(site: Site) -> None:
    share = site.share()
    await site.declare(share)
    await site.until(lambda: len(site.state(share).backends) == 2, "the backends")
    assert {one.listener for one in site.state(share).backends} == {"http"}
    assert {one.address for one in site.state(share).backends} == {"10.0.1.4", "10.0.1.5"}
    status = site.state(share).status
    assert status.backends_observed_at.endswith("Z")
    assert status.id == site.key().id


async def test_a_change_of_the_backends_health_is_told(site: Site) -> None:
    share = site.share()
    await site.declare(share)
    await site.until(lambda: {one.state for one in site.state(share).backends} == {"Up"}, "the backends")
    site.azure.states.set("10.0.1.5", "Down", "Down_Probe_HttpStatusCodeError")
    await site.until(lambda: [one.state for one in site.state(share).backends] == ["Up", "Down"], "the change")
    assert site.state(share).backends[1].reason == "Down_Probe_HttpStatusCodeError"


async def test_calls_are_counted(site: Site) -> None:
    share = site.share()
    await site.declare(share)
    await site.in_place(share)
    assert ("PUT", 201, False) in site.calls
    assert ("GET", 404, False) in site.calls


async def test_a_withdrawal_without_a_resource_group_is_done(site: Site) -> None:
    share = site.share()
    key = replace(site.key(), resource_group="never-was")
    await site.writers.withdraw(key, share.cluster)
    await site.until(lambda: site.writers.state(key, share.cluster).gone, "the end")
    assert key.resource_group != GROUP
