"""The unchanged Azure SDK against the emulator: reads, writes, etags, long-running operations, refusals."""

from __future__ import annotations

import copy
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.identity.aio import ClientSecretCredential, WorkloadIdentityCredential
from azure.mgmt.network import models
from azure.mgmt.network.aio import NetworkManagementClient

from testbed.azure import AzureEmulator, Settings
from testbed.azure.samples import create_foundations, load_balancer, public_ip
from testbed.azure.sdk import SCOPE, network_client

Json = dict[str, Any]
RULES, FRONTENDS = "loadBalancingRules", "frontendIPConfigurations"


class Rig:
    """An emulator with one group, a public address and a network, and a client of it."""

    def __init__(self, azure: AzureEmulator, client: NetworkManagementClient, ip: str, network: str) -> None:
        self.azure = azure
        self.client = client
        self.ip = ip
        self.network = network

    def body(self, **options: Any) -> Json:
        return load_balancer(self.azure.subscription_id, frontend_ip=self.ip, network=self.network, **options)

    async def put(self, body: Any, *, name: str = "lb", etag: str | None = None) -> models.LoadBalancer:
        headers = {"If-Match": etag} if etag else {}
        parameters = body if isinstance(body, models.LoadBalancer) else models.LoadBalancer(body)
        poller = await self.client.load_balancers.begin_create_or_update("rg", name, parameters, headers=headers)
        return await poller.result()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with (
        AzureEmulator(Settings(frontends="127.80.6.0/24", retry_after=0)) as azure,
        network_client(azure) as client,
    ):
        azure.add_group("rg")
        yield Rig(azure, client, *await create_foundations(client))


def _codes(error: HttpResponseError) -> tuple[int | None, str | None, list[str]]:
    """Status, code and the codes of the details: what the operator decides by."""
    assert error.error is not None
    return error.status_code, error.error.code, [str(one.code) for one in error.error.details or []]


async def test_a_load_balancer_gets_defaults_back_references_and_one_etag(rig: Rig) -> None:
    body = rig.body()
    del body["properties"]["probes"][0]["properties"]["intervalInSeconds"]
    made = await rig.put(body)
    found = await rig.client.load_balancers.get("rg", "lb")
    assert found.as_dict() == made.as_dict()
    inner = found.as_dict()["properties"]
    (probe,), (rule,) = inner["probes"], inner["loadBalancingRules"]
    (pool,), (frontend,) = inner["backendAddressPools"], inner["frontendIPConfigurations"]
    defaults = {"intervalInSeconds": 15, "numberOfProbes": 2, "probeThreshold": 1}
    assert defaults.items() <= probe["properties"].items()
    assert {"idleTimeoutInMinutes": 4, "loadDistribution": "Default"}.items() <= rule["properties"].items()
    assert rule["properties"]["backendAddressPools"] == [{"id": pool["id"]}]
    for part in (probe, pool, frontend):
        assert part["properties"]["loadBalancingRules"] == [{"id": rule["id"]}]
        assert part["etag"] == found.etag
    assert [inner[name] for name in ("inboundNatRules", "outboundRules", "inboundNatPools")] == [[], [], []]
    address = await rig.client.public_ip_addresses.get("rg", "ip")
    assert address.ip_configuration is not None
    assert address.ip_configuration.id == frontend["id"]
    assert address.ip_address == "127.80.6.1"


async def test_order_and_unknown_fields_survive_get_and_put(rig: Rig) -> None:
    body = rig.body()
    pools = body["properties"]["backendAddressPools"]
    pools[:0] = [{"name": name, "properties": {}} for name in ("z", "a", "m")]
    pools[0]["properties"]["fieldOfTomorrow"] = {"deep": [1]}
    await rig.put(body)
    found = await rig.client.load_balancers.get("rg", "lb")
    before = rig.azure.snapshot()
    await rig.put(found, etag=found.etag)
    assert rig.azure.snapshot() == before
    again = (await rig.client.load_balancers.get("rg", "lb")).as_dict()["properties"]["backendAddressPools"]
    assert [pool["name"] for pool in again] == ["z", "a", "m", "pool"]
    assert again[0]["properties"]["fieldOfTomorrow"] == {"deep": [1]}


async def test_a_put_replaces_and_an_old_etag_is_refused(rig: Rig) -> None:
    first = await rig.put(rig.body())
    second = await rig.put(rig.body(members=("127.0.0.8",)), etag=first.etag)
    assert second.etag != first.etag
    addresses = second.as_dict()["properties"]["backendAddressPools"][0]["properties"]
    assert [a["properties"]["ipAddress"] for a in addresses["loadBalancerBackendAddresses"]] == ["127.0.0.8"]
    with pytest.raises(HttpResponseError) as refused:
        await rig.put(rig.body(), etag=first.etag)
    assert _codes(refused.value) == (412, "PreconditionFailed", ["PreconditionFailedEtagMismatch"])
    await rig.put(rig.body(), etag=str(second.etag).removeprefix('W/"').strip('"'))


async def test_ids_are_found_in_any_spelling_and_printed_in_the_first(rig: Rig) -> None:
    await rig.put(rig.body())
    found = await rig.client.load_balancers.get("RG", "LB")
    assert found.name == "lb"
    body = rig.body()
    for rule in body["properties"]["loadBalancingRules"]:
        for name in ("probe", "backendAddressPool", "frontendIPConfiguration"):
            rule["properties"][name] = {"id": rule["properties"][name]["id"].upper()}
    await rig.put(body, name="LB")
    assert [one.name async for one in rig.client.load_balancers.list_all()] == ["lb"]


async def test_a_second_put_cancels_the_first_also_across_pool_and_load_balancer(rig: Rig) -> None:
    await rig.put(rig.body())
    rig.azure.set_delay(0.3)
    balancers, pools = rig.client.load_balancers, rig.client.load_balancer_backend_address_pools
    first = await balancers.begin_create_or_update("rg", "lb", models.LoadBalancer(rig.body()))
    second = await pools.begin_create_or_update("rg", "lb", "more", models.BackendAddressPool({}))
    third = await balancers.begin_create_or_update("rg", "lb", models.LoadBalancer(rig.body()))
    for loser in (first, second):
        with pytest.raises(HttpResponseError) as canceled:
            await loser.result()
        superseded = (200, "Canceled", ["CanceledAndSupersededDueToAnotherOperation"])
        assert _codes(canceled.value) == superseded
    won = (await third.result()).as_dict()["properties"]
    assert [pool["name"] for pool in won["backendAddressPools"]] == ["pool"]


async def test_an_operation_is_resumed_from_its_continuation_token(rig: Rig) -> None:
    rig.azure.set_delay(0.2)
    poller = await rig.client.load_balancers.begin_create_or_update("rg", "lb", models.LoadBalancer(rig.body()))
    token = poller.continuation_token()
    async with network_client(rig.azure) as other:
        resumed = await other.load_balancers.begin_create_or_update(
            "rg", "lb", models.LoadBalancer({}), continuation_token=token
        )
        assert (await resumed.result()).provisioning_state == "Succeeded"
    assert len(rig.azure.log.matching(method="PUT", path="/loadBalancers/")) == 1


async def test_while_an_operation_runs_the_goal_shows_as_updating(rig: Rig) -> None:
    rig.azure.set_delay(0.3)
    poller = await rig.client.load_balancers.begin_create_or_update("rg", "lb", models.LoadBalancer(rig.body()))
    assert (await rig.client.load_balancers.get("rg", "lb")).provisioning_state == "Updating"
    lb = rig.azure.resource_id("rg", "loadBalancers", "lb")
    await rig.azure.wait_until(lambda: rig.azure.snapshot()[lb]["properties"]["provisioningState"] == "Succeeded")
    assert (await poller.result()).provisioning_state == "Succeeded"


async def test_a_public_address_in_the_making_can_not_be_used_yet(rig: Rig) -> None:
    rig.azure.set_delay(0.3)
    poller = await rig.client.public_ip_addresses.begin_create_or_update(
        "rg", "fresh", models.PublicIPAddress(public_ip())
    )
    body = load_balancer(
        rig.azure.subscription_id,
        frontend_ip=rig.azure.resource_id("rg", "publicIPAddresses", "fresh"),
        network=rig.network,
    )
    with pytest.raises(HttpResponseError) as refused:
        await rig.put(body)
    assert _codes(refused.value) == (429, "RetryableError", ["ReferencedResourceNotProvisioned"])
    await poller.result()
    await rig.put(body)


async def test_pools_are_written_on_their_own_and_probes_are_not(rig: Rig) -> None:
    made = await rig.put(rig.body())
    pools = rig.client.load_balancer_backend_address_pools
    pool = await pools.get("rg", "lb", "pool")
    pool["properties"]["drainPeriodInSeconds"] = 30
    changed = await (
        await pools.begin_create_or_update("rg", "lb", "pool", pool, headers={"If-Match": pool.etag})
    ).result()
    assert changed.etag != made.etag
    assert (await rig.client.load_balancers.get("rg", "lb")).etag == changed.etag
    await (await pools.begin_create_or_update("rg", "lb", "spare", models.BackendAddressPool({}))).result()
    assert [one.name async for one in pools.list("rg", "lb")] == ["pool", "spare"]
    await (await pools.begin_delete("rg", "lb", "spare")).result()
    await (await pools.begin_delete("rg", "lb", "spare")).result()
    with pytest.raises(HttpResponseError) as used:
        await pools.begin_delete("rg", "lb", "pool")
    assert _codes(used.value)[:2] == (400, "InvalidResourceReference")
    for collection in ("probes", "loadBalancingRules", "frontendIPConfigurations"):
        path = f"{made.id}/{collection}/probe?api-version=2026-03-01"
        status, answer = await _raw(rig.azure, "PUT", path, {"properties": {}})
        assert (status, answer["error"]["code"]) == (405, "MethodNotAllowed")


async def test_children_are_read_one_by_one_and_listed(rig: Rig) -> None:
    await rig.put(rig.body())
    client = rig.client
    assert (await client.load_balancer_probes.get("rg", "lb", "PROBE")).name == "probe"
    rules = [one.name async for one in client.load_balancer_load_balancing_rules.list("rg", "lb")]
    frontends = [one.name async for one in client.load_balancer_frontend_ip_configurations.list("rg", "lb")]
    assert (rules, frontends) == (["rule"], ["frontend"])
    with pytest.raises(ResourceNotFoundError) as missing:
        await client.load_balancer_probes.get("rg", "lb", "nothing")
    assert _codes(missing.value)[:2] == (404, "NotFound")


async def test_tags_are_patched_alone(rig: Rig) -> None:
    before = await rig.put(rig.body())
    tagged = await rig.client.load_balancers.update_tags("rg", "lb", models.TagsObject(tags={"owner": "x"}))
    assert tagged.tags == {"owner": "x"}
    assert tagged.etag != before.etag
    assert tagged["properties"] == (await rig.client.load_balancers.get("rg", "lb"))["properties"]


async def test_what_is_missing_is_named(rig: Rig) -> None:
    with pytest.raises(ResourceNotFoundError) as missing:
        await rig.client.load_balancers.get("rg", "nothing")
    assert _codes(missing.value)[1] == "ResourceNotFound"
    with pytest.raises(ResourceNotFoundError) as missing:
        await rig.client.load_balancers.get("nowhere", "lb")
    assert _codes(missing.value)[1] == "ResourceGroupNotFound"
    with pytest.raises(ResourceNotFoundError) as missing:
        await rig.client.load_balancer_backend_address_pools.begin_create_or_update(
            "rg", "nothing", "pool", models.BackendAddressPool({})
        )
    assert _codes(missing.value)[1] == "ParentResourceNotFound"


async def test_deleting_frees_what_was_used_and_deleting_nothing_is_no_error(rig: Rig) -> None:
    await rig.put(rig.body())
    with pytest.raises(HttpResponseError) as used:
        await rig.client.public_ip_addresses.begin_delete("rg", "ip")
    assert _codes(used.value)[:2] == (400, "PublicIPAddressCannotBeDeleted")
    await (await rig.client.load_balancers.begin_delete("rg", "lb")).result()
    await (await rig.client.load_balancers.begin_delete("rg", "lb")).result()
    await (await rig.client.public_ip_addresses.begin_delete("rg", "ip")).result()
    await (await rig.client.virtual_networks.begin_delete("rg", "vnet")).result()
    assert rig.azure.snapshot() == {}


async def test_an_internal_frontend_gets_the_lowest_address_and_keeps_it(rig: Rig) -> None:
    subnet = {"id": f"{rig.network}/subnets/members"}
    body = rig.body()
    frontend = body["properties"]["frontendIPConfigurations"][0]
    frontend["properties"], frontend["zones"] = {"subnet": subnet}, ["1", "2", "3"]
    made = await rig.put(body)
    found = made.as_dict()["properties"]["frontendIPConfigurations"][0]
    assert found["properties"]["privateIPAddress"] == "127.0.0.4"
    assert found["zones"] == ["1", "2", "3"]
    again = (await rig.put(body)).as_dict()["properties"]["frontendIPConfigurations"][0]
    assert again["properties"]["privateIPAddress"] == "127.0.0.4"
    with pytest.raises(HttpResponseError) as used:
        await rig.client.subnets.begin_delete("rg", "vnet", "members")
    assert _codes(used.value)[:2] == (400, "InUseSubnetCannotBeDeleted")


async def test_rule_health_comes_as_the_result_of_an_operation(rig: Rig) -> None:
    rig.azure.set_delay(0.1)
    await rig.put(rig.body(members=("127.0.0.1", "127.0.0.2")))
    rig.azure.states.set("127.0.0.2", "Down", "Down_Probe_HttpStatusCodeError")
    rules = rig.client.load_balancer_load_balancing_rules
    health = await (await rules.begin_health("rg", "lb", "rule")).result()
    assert (health.up, health.down) == (1, 1)
    assert [one.reason for one in health.load_balancer_backend_addresses or []] == [
        "Up_Probe_Success",
        "Down_Probe_HttpStatusCodeError",
    ]


def _properties(collection: str, **changes: Any) -> Callable[[Json], None]:
    return lambda lb: lb["properties"][collection][0]["properties"].update(changes)


def _twice(collection: str, name: str, **changes: Any) -> Callable[[Json], None]:
    def change(balancer: Json) -> None:
        items = balancer["properties"][collection]
        items.append(copy.deepcopy(items[0]) | {"name": name})
        items[-1]["properties"] |= changes

    return change


def _nowhere(name: str) -> Json:
    return {"id": f"/subscriptions/x/resourceGroups/rg/providers/Microsoft.Network/{name}"}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("InvalidResourceReference", _properties(RULES, probe=_nowhere("loadBalancers/lb/probes/no"))),
        ("InvalidResourceReference", _properties(FRONTENDS, publicIPAddress=_nowhere("publicIPAddresses/n"))),
        ("RulesUseSameBackendPortProtocolAndPool", _twice(RULES, "other", frontendPort=81)),
        ("RulesUseSameFrontendPortProtocolAndIPConfig", _twice(RULES, "other", backendPort=81)),
        ("InvalidResourceName", _twice("probes", "x" * 81)),
        ("InvalidResourceName", _twice("probes", "-starts-badly")),
        ("InvalidRequestFormat", _twice("probes", "PROBE")),
        ("InvalidRequestFormat", _properties("probes", intervalInSeconds=4)),
        ("InvalidRequestFormat", _properties("probes", port=0)),
        ("InvalidRequestFormat", _properties("probes", protocol="Icmp")),
        ("InvalidRequestFormat", _properties(RULES, frontendPort=65536)),
        ("InvalidRequestFormat", _properties(RULES, idleTimeoutInMinutes=3)),
        ("PublicIPAddressInUse", _twice(FRONTENDS, "other")),
        ("FrontendIPConfigHasNoSubnetOrPublicIP", _properties(FRONTENDS, publicIPAddress=None)),
        ("PublicIPAndLBSkuDoNotMatch", lambda lb: lb.update(sku={"name": "Basic"})),
        ("LocationRequired", lambda lb: lb.update(location=None)),
    ],
)  # fmt: skip
async def test_what_azure_refuses_is_refused_with_its_code(rig: Rig, code: str, change: Callable[[Json], None]) -> None:
    body = rig.body()
    change(body)
    with pytest.raises(HttpResponseError) as refused:
        await rig.put(body)
    assert _codes(refused.value)[:2] == (400, code), refused.value
    assert [one async for one in rig.client.load_balancers.list("rg")] == []


async def test_limits_hold(rig: Rig) -> None:
    body = rig.body()
    addresses = body["properties"]["backendAddressPools"][0]["properties"]["loadBalancerBackendAddresses"]
    addresses[:] = [{"name": f"m{n}", "properties": {"ipAddress": f"127.1.{n // 250}.{n % 250}"}} for n in range(5001)]
    with pytest.raises(HttpResponseError) as refused:
        await rig.put(body)
    assert _codes(refused.value)[:2] == (400, "ResourceLimitExceeded")


async def test_an_address_that_another_load_balancer_has_is_not_given_twice(rig: Rig) -> None:
    await rig.put(rig.body())
    with pytest.raises(HttpResponseError) as refused:
        await rig.put(rig.body(name="second"), name="second")
    assert _codes(refused.value)[:2] == (400, "PublicIPAddressInUse")


async def test_both_credentials_get_tokens_and_wrong_ones_do_not(rig: Rig) -> None:
    azure = rig.azure
    options: Json = {"authority": azure.authority, "connection_verify": azure.ca_file}
    good: list[Any] = [
        ClientSecretCredential(azure.tenant_id, azure.client_id, azure.client_secret, **options),
        WorkloadIdentityCredential(
            tenant_id=azure.tenant_id,
            client_id=azure.client_id,
            token_file_path=azure.federated_token_file,
            **options,
        ),
    ]
    for credential in good:
        async with credential:
            assert (await credential.get_token(SCOPE)).expires_on > 0
    wrong = ClientSecretCredential(azure.tenant_id, azure.client_id, "not it", **options)
    async with wrong:
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
            await wrong.get_token(SCOPE)


async def test_a_request_needs_a_token_of_today_and_an_api_version(rig: Rig) -> None:
    path = f"/subscriptions/{rig.azure.subscription_id}/resourceGroups"
    status, answer = await _raw(rig.azure, "GET", f"{path}?api-version=2021-04-01", token="")
    assert (status, answer["error"]["code"]) == (401, "AuthenticationFailed")
    status, answer = await _raw(rig.azure, "GET", f"{path}?api-version=2021-04-01", token="made up")
    assert (status, answer["error"]["code"]) == (401, "InvalidAuthenticationToken")
    status, answer = await _raw(rig.azure, "GET", path)
    assert (status, answer["error"]["code"]) == (400, "MissingApiVersionParameter")
    rig.azure.identity.expire_all()
    with pytest.raises(ClientAuthenticationError) as expired:
        await rig.client.load_balancers.get("rg", "lb")
    assert _codes(expired.value)[1] == "ExpiredAuthenticationToken"


async def test_groups_and_the_discovery_documents_are_there(rig: Rig) -> None:
    azure = rig.azure
    groups = f"/subscriptions/{azure.subscription_id}/resourcegroups"
    status, made = await _raw(azure, "PUT", f"{groups}/new?api-version=2021-04-01", {"location": "eastus"})
    assert (status, made["type"]) == (201, "Microsoft.Resources/resourceGroups")
    status, listed = await _raw(azure, "GET", f"{groups}?api-version=2021-04-01")
    assert [one["name"] for one in listed["value"]] == ["rg", "new"]
    status, document = await _raw(azure, "GET", f"/{azure.tenant_id}/v2.0/.well-known/openid-configuration")
    assert document["token_endpoint"] == f"{azure.authority}/{azure.tenant_id}/oauth2/v2.0/token"
    assert (await _raw(azure, "GET", "/common/discovery/instance?api-version=1.1"))[0] == 200


async def _raw(
    azure: AzureEmulator, method: str, path: str, body: Json | None = None, *, token: str | None = None
) -> tuple[int, Json]:
    """A request that the SDK would not send."""
    context = ssl.create_default_context(cafile=azure.ca_file)
    if token is None:
        proof = {
            "grant_type": "client_credentials",
            "client_id": azure.client_id,
            "client_secret": azure.client_secret,
        }
        token = azure.identity.token(azure.tenant_id, proof)["access_token"]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, azure.endpoint + path, json=body, ssl=context, headers=headers) as answer,
    ):
        return answer.status, await answer.json()
