"""Scripted faults as a client of the real SDK meets them, and what they leave in the model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.mgmt.network import models
from azure.mgmt.network.aio import NetworkManagementClient

from testbed.azure import Availability, AzureEmulator, Fault, Kind, Settings
from testbed.azure.samples import create_foundations, load_balancer
from testbed.azure.sdk import network_client

Json = dict[str, Any]


class Rig:
    """An emulator with a load balancer `lb` in it, and a client that retries nothing."""

    def __init__(self, azure: AzureEmulator, client: NetworkManagementClient, body: Json) -> None:
        self.azure = azure
        self.client = client
        self.body = body

    async def put(self, *, etag: str | None = None, client: NetworkManagementClient | None = None) -> None:
        headers = {"If-Match": etag} if etag else {}
        poller = await (client or self.client).load_balancers.begin_create_or_update(
            "rg", "lb", models.LoadBalancer(self.body), headers=headers
        )
        await poller.result()

    async def refused(self, *, etag: str | None = None) -> tuple[int | None, str | None, str | None]:
        """Status, code and Retry-After of a PUT that must not succeed."""
        with pytest.raises(HttpResponseError) as error:
            await self.put(etag=etag)
        found = error.value
        after = getattr(found.response, "headers", {}).get("Retry-After")
        return found.status_code, found.error.code if found.error else None, after

    async def etag(self) -> str:
        return str((await self.client.load_balancers.get("rg", "lb")).etag)

    def add_pool(self) -> None:
        self.body["properties"]["backendAddressPools"].append({"name": "added", "properties": {}})

    def pools(self) -> list[str]:
        lb = self.azure.snapshot()[self.azure.resource_id("rg", "loadBalancers", "lb")]
        return [pool["name"] for pool in lb["properties"]["backendAddressPools"]]

    def state(self) -> str:
        lb = self.azure.snapshot()[self.azure.resource_id("rg", "loadBalancers", "lb")]
        return str(lb["properties"]["provisioningState"])


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with (
        AzureEmulator(Settings(frontends="127.80.5.0/24", retry_after=0)) as azure,
        network_client(azure) as client,
    ):
        azure.add_group("rg")
        ip, network = await create_foundations(client)
        rig = Rig(azure, client, load_balancer(azure.subscription_id, frontend_ip=ip, network=network))
        await rig.put()
        azure.log.clear()
        yield rig


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(Kind.THROTTLED, retry_after=17), (429, "SubscriptionRequestsThrottled", "17")),
        (Fault(Kind.THROTTLED), (429, "SubscriptionRequestsThrottled", None)),
        (Fault(Kind.RETRYABLE, retry_after=3), (429, "RetryableError", "3")),
        (Fault(Kind.RETRYABLE), (429, "RetryableError", None)),
        (Fault(Kind.CONFLICT), (409, "AnotherOperationInProgress", None)),
        (Fault(Kind.STATUS, status=500), (500, "InternalServerError", None)),
        (
            Fault(Kind.STATUS, status=403, code="AuthorizationFailed", message="No."),
            (403, "AuthorizationFailed", None),
        ),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
async def test_an_answer_in_place_of_the_real_one_changes_nothing(
    rig: Rig, fault: Fault, expected: tuple[int, str, str | None]
) -> None:
    rig.azure.fail(fault)
    rig.add_pool()
    assert await rig.refused() == expected
    assert rig.pools() == ["pool"]
    await rig.put()
    assert rig.pools() == ["pool", "added"]


async def test_a_conflict_is_what_the_sdk_makes_of_409(rig: Rig) -> None:
    rig.azure.fail(Fault(Kind.CONFLICT))
    with pytest.raises(ResourceExistsError):
        await rig.put()


async def test_a_foreign_writer_between_get_and_put_is_met_by_412(rig: Rig) -> None:
    etag = await rig.etag()
    rig.azure.fail(Fault(Kind.FOREIGN_WRITE, patch={"tags": {"team": "other"}}))
    assert (await rig.refused(etag=etag))[:2] == (412, "PreconditionFailed")
    found = await rig.client.load_balancers.get("rg", "lb")
    assert (found.tags, found.provisioning_state) == ({"team": "other"}, "Succeeded")
    await rig.put(etag=str(found.etag))


async def test_an_operation_that_fails_leaves_what_was_written_marked_failed(rig: Rig) -> None:
    rig.azure.fail(Fault(Kind.OPERATION_FAILED, code="InternalServerError", message="An error occurred."))
    rig.add_pool()
    assert (await rig.refused())[:2] == (200, "InternalServerError")
    assert (rig.state(), rig.pools()) == ("Failed", ["pool", "added"])
    await rig.put()
    assert rig.state() == "Succeeded"


async def test_an_operation_that_is_cancelled_leaves_what_was_before(rig: Rig) -> None:
    rig.azure.fail(Fault(Kind.OPERATION_CANCELED))
    rig.add_pool()
    assert (await rig.refused())[:2] == (200, "Canceled")
    assert (rig.state(), rig.pools()) == ("Canceled", ["pool"])


async def test_a_new_load_balancer_whose_operation_is_undone_is_gone(rig: Rig) -> None:
    await (await rig.client.load_balancers.begin_delete("rg", "lb")).result()
    rig.azure.fail(Fault(Kind.OPERATION_FAILED, applied=False))
    assert (await rig.refused())[0] == 200
    assert rig.azure.resource_id("rg", "loadBalancers", "lb") not in rig.azure.snapshot()


async def test_a_connection_cut_after_the_put_was_applied_leaves_it_applied(rig: Rig) -> None:
    """aiohttp sends a PUT once more by itself when a kept connection breaks, so both are cut."""
    rig.azure.fail(Fault(Kind.DROP_AFTER, times=2))
    rig.add_pool()
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        await rig.put()
    assert rig.pools() == ["pool", "added"]
    assert [(entry.status, entry.fault) for entry in rig.azure.log.entries] == [(0, "DropAfterApplied")] * 2


async def test_a_put_that_was_applied_and_cut_is_sent_again_by_aiohttp_and_meets_its_own_etag(
    rig: Rig,
) -> None:
    etag = await rig.etag()
    rig.azure.fail(Fault(Kind.DROP_AFTER))
    rig.add_pool()
    assert (await rig.refused(etag=etag))[0] == 412
    assert rig.pools() == ["pool", "added"]


async def test_a_connection_cut_before_leaves_nothing(rig: Rig) -> None:
    rig.azure.fail(Fault(Kind.DROP_BEFORE, times=2))
    rig.add_pool()
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        await rig.put()
    assert rig.pools() == ["pool"]


async def test_an_expired_token_is_refused_until_there_is_a_new_one(rig: Rig) -> None:
    rig.azure.fail(Fault(Kind.EXPIRED_TOKEN))
    with pytest.raises(ClientAuthenticationError):
        await rig.put()
    async with network_client(rig.azure) as fresh:
        await rig.put(client=fresh)


async def test_the_nth_request_is_hit_so_often_and_others_are_not(rig: Rig) -> None:
    rig.azure.fail(Fault(Kind.STATUS, path="/loadBalancers/lb", method="GET", nth=2, times=2, status=503))
    statuses = []
    for _ in range(4):
        await rig.client.public_ip_addresses.get("rg", "ip")
        try:
            await rig.client.load_balancers.get("rg", "lb")
            statuses.append(200)
        except HttpResponseError as error:
            statuses.append(error.status_code or 0)
    assert statuses == [200, 503, 503, 200]
    assert rig.azure.faults.waiting == []


async def test_the_service_goes_away_and_comes_back_on_its_address(rig: Rig) -> None:
    await rig.azure.set_availability(Availability.REFUSE)
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        await rig.client.load_balancers.get("rg", "lb")
    with pytest.raises(ServiceRequestError):
        await rig.client.load_balancers.get("rg", "lb")
    await rig.azure.set_availability(Availability.UNAVAILABLE)
    with pytest.raises(HttpResponseError) as unavailable:
        await rig.client.load_balancers.get("rg", "lb")
    assert unavailable.value.status_code == 503
    await rig.azure.set_availability(Availability.UP)
    assert (await rig.client.load_balancers.get("rg", "lb")).name == "lb"


async def test_buckets_run_dry_and_say_when_to_come_back(rig: Rig) -> None:
    rig.azure.throttle.set_scale(0.01)
    for _ in range(2):
        body = models.LoadBalancer(rig.body)
        await rig.client.load_balancers.begin_create_or_update("rg", "lb", body, polling=False)
    status, code, after = await rig.refused()
    assert (status, code) == (429, "SubscriptionRequestsThrottled")
    assert after is not None
    assert int(after) >= 1


async def test_the_sdk_itself_rides_out_what_says_when_to_retry(rig: Rig) -> None:
    rig.azure.fail(Fault(Kind.THROTTLED, retry_after=1))
    async with network_client(rig.azure, retry_total=2) as patient:
        await rig.put(client=patient)
    statuses = [entry.status for entry in rig.azure.log.matching(method="PUT")]
    assert statuses == [429, 200]


async def test_the_log_tells_writes_from_reads(rig: Rig) -> None:
    await rig.client.load_balancers.get("rg", "lb")
    assert rig.azure.log.writes() == []
    await rig.put()
    (write,) = rig.azure.log.writes()
    assert (write.method, write.status) == ("PUT", 200)
    assert write.request is not None
    assert write.request["location"] == "eastus"
    assert rig.azure.log.counters()["PUT 200"] == 1
    assert "Authorization" not in write.request_headers
