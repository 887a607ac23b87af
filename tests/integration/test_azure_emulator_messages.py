"""Every message of a whole session is as Azure describes its messages, and as it was recorded to send them.

Three judges: the official Swagger (where that folder is there), recorded traffic (the same), and always the
installed SDK's own model types, which must know each field.
"""

from __future__ import annotations

import copy
import json
import re
import ssl
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from azure.core.exceptions import HttpResponseError
from azure.mgmt.network import models
from azure.mgmt.network.aio import NetworkManagementClient

from testbed.azure import AzureEmulator, Entry, Fault, Kind, Settings
from testbed.azure.samples import create_foundations, load_balancer
from testbed.azure.sdk import network_client
from testbed.azure.specs import Checker, find_specs

SPECS = find_specs()
needs_specs = pytest.mark.skipif(
    SPECS is None, reason="no Azure specification: set FARMSTEAD_AZURE_SPECS to its folder"
)
NO_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
Json = dict[str, Any]


async def _session(azure: AzureEmulator, client: NetworkManagementClient) -> None:
    """Create, read, update, conflict, health, pools, tags, refusals, a failed operation, deletion."""
    azure.add_group("rg")
    ip, network = await create_foundations(client)
    body = load_balancer(
        azure.subscription_id,
        frontend_ip=ip,
        network=network,
        members=("127.0.0.1", "127.0.0.2"),
        rule={"loadDistribution": "SourceIP", "enableTcpReset": True},
    )
    balancers, pools = client.load_balancers, client.load_balancer_backend_address_pools

    async def put(etag: str | None = None, **changes: Any) -> models.LoadBalancer:
        parameters = models.LoadBalancer(body | changes)
        headers = {"If-Match": etag} if etag else {}
        poller = await balancers.begin_create_or_update("rg", "lb", parameters, headers=headers)
        return await poller.result()

    made = await put()
    azure.set_delay(0.05)
    again = await put(made.etag)
    azure.fail(Fault(Kind.OPERATION_FAILED), Fault(Kind.THROTTLED, retry_after=1, nth=2))
    for etag in (again.etag, again.etag, made.etag):
        with pytest.raises(HttpResponseError):
            await put(etag)
    with pytest.raises(HttpResponseError):
        await put(sku={"name": "Basic"})
    poller = await client.load_balancer_load_balancing_rules.begin_health("rg", "lb", "rule")
    assert (await poller.result()).up == 2
    pool = await pools.get("rg", "lb", "pool")
    await (await pools.begin_create_or_update("rg", "lb", "pool", pool)).result()
    await (await pools.begin_create_or_update("rg", "lb", "more", models.BackendAddressPool({}))).result()
    await (await pools.begin_delete("rg", "lb", "more")).result()
    for children in (
        client.load_balancer_probes,
        client.load_balancer_load_balancing_rules,
        client.load_balancer_frontend_ip_configurations,
        pools,
    ):
        assert [child.name async for child in children.list("rg", "lb")]
    await client.load_balancer_probes.get("rg", "lb", "probe")
    with pytest.raises(HttpResponseError):
        await client.load_balancer_probes.get("rg", "lb", "nothing")
    await balancers.update_tags("rg", "lb", models.TagsObject(tags={"a": "b"}))
    assert [one.name async for one in balancers.list_all()]
    assert [one.name async for one in balancers.list("rg")]
    await (await balancers.begin_delete("rg", "lb")).result()
    await (await balancers.begin_delete("rg", "lb")).result()
    with pytest.raises(HttpResponseError):
        await balancers.get("rg", "lb")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def entries() -> list[Entry]:
    """The log of one whole session; who changes an entry changes a copy."""
    async with (
        AzureEmulator(Settings(frontends="127.80.4.0/24", retry_after=0)) as azure,
        network_client(azure) as client,
    ):
        await _session(azure, client)
        return list(azure.log.entries)


@needs_specs
@pytest.mark.parametrize("strict", [False, True])
async def test_a_whole_session_has_no_error_against_the_swagger(entries: list[Entry], strict: bool) -> None:
    assert SPECS is not None
    checker = Checker.load(SPECS, strict=strict)
    judged = [entry for entry in entries if checker.operation(entry.method, entry.path)]
    verbs = {(entry.method, entry.status) for entry in judged}
    assert {("PUT", 201), ("PUT", 200), ("PUT", 412), ("PUT", 429), ("PUT", 400), ("GET", 200)} <= verbs
    assert {("GET", 404), ("PATCH", 200), ("DELETE", 202), ("DELETE", 204), ("POST", 202)} <= verbs
    assert [error for entry in judged for error in checker.errors(entry)] == []
    (health,) = [entry for entry in entries if entry.response and "up" in entry.response]
    assert checker.spec.response("LoadBalancerLoadBalancingRules_Health", 200, health.response) == []


@needs_specs
@pytest.mark.parametrize(
    ("strict", "damage"),
    [
        (False, ("response", "probes", "port", "eighty")),
        (False, ("request", "probes", "intervalInSeconds", "often")),
        (False, ("response", "loadBalancingRules", "loadDistribution", "Fairly")),
        (True, ("response", "loadBalancingRules", "idleTimeoutInMinute", 4)),
    ],
)
async def test_a_broken_message_is_found(entries: list[Entry], strict: bool, damage: tuple[str, str, str, Any]) -> None:
    assert SPECS is not None
    checker = Checker.load(SPECS, strict=strict)
    good = next(one for one in entries if one.method == "PUT" and one.path.endswith("/loadBalancers/lb"))
    assert checker.errors(good) == []
    side, collection, name, value = damage
    bad = copy.deepcopy(good)
    message = bad.request if side == "request" else bad.response
    assert message is not None
    message["properties"][collection][0]["properties"][name] = value
    assert len(checker.errors(bad)) == 1


MODELS: dict[str, Any] = {
    "/loadbalancers": models.LoadBalancer,
    "/backendaddresspools": models.BackendAddressPool,
    "/probes": models.Probe,
    "/loadbalancingrules": models.LoadBalancingRule,
    "/frontendipconfigurations": models.FrontendIPConfiguration,
    "/publicipaddresses": models.PublicIPAddress,
    "/virtualnetworks": models.VirtualNetwork,
    "/subnets": models.Subnet,
}


async def test_the_installed_sdk_knows_every_field_of_every_message(entries: list[Entry]) -> None:
    checked: set[str] = set()
    for entry in entries:
        for kind, body in _typed(entry):
            checked.add(kind.__name__)
            assert list(_unknown(kind(body), entry.path)) == []
    assert checked == {
        "LoadBalancer",
        "BackendAddressPool",
        "Probe",
        "LoadBalancingRule",
        "FrontendIPConfiguration",
        "PublicIPAddress",
        "VirtualNetwork",
        "LoadBalancerHealthPerRule",
    }


async def test_a_field_that_the_sdk_does_not_know_is_found(entries: list[Entry]) -> None:
    good = next(one for one in entries if one.method == "PUT" and one.path.endswith("/loadBalancers/lb"))
    bad = copy.deepcopy(good)
    assert bad.response is not None
    bad.response["properties"]["probes"][0]["properties"]["intervalInSecond"] = 5
    (found,) = [one for kind, body in _typed(bad) for one in _unknown(kind(body), "")]
    assert found.endswith("intervalInSecond")


def _typed(entry: Entry) -> Iterator[tuple[Any, Json]]:
    """Bodies of an entry with the SDK's type for them."""
    if entry.response is not None and "up" in entry.response:
        yield models.LoadBalancerHealthPerRule, entry.response
    parts = [f"/{part.lower()}" for part in entry.path.strip("/").split("/")]
    names = [MODELS[part] for part in parts if part in MODELS]
    if not names:
        return
    bodies = [entry.request, entry.response if entry.status < 400 else None]
    for body in bodies:
        if body is not None and entry.method != "PATCH":
            for one in body.get("value", [body]):
                yield names[-1], one


def _unknown(value: Any, where: str) -> Iterator[str]:
    """Names in a model's data that its type does not have."""
    if isinstance(value, list):
        for item in value:
            yield from _unknown(item, where)
    fields = getattr(type(value), "_attr_to_rest_field", None)
    if fields is None:
        return
    known = {field._rest_name: name for name, field in fields.items()}
    for key in value:
        if key not in known:
            yield f"{where}/{key}"
        else:
            yield from _unknown(getattr(value, known[key]), f"{where}/{key}")


# -- recorded traffic

_RECORDINGS = ["loadbalancer", "backendaddresspool", "publicipaddress", "virtualnetwork", "subnet"]
# What differs by nature: lengths, counters, dates.
_UNSTABLE_HEADERS = {"content-length", "date", "retry-after"}


@needs_specs
@pytest.mark.parametrize("name", _RECORDINGS)
async def test_recorded_sessions_are_answered_as_azure_did(name: str) -> None:
    assert SPECS is not None
    recording = SPECS / "recordings" / f"{name}client.AZURECLOUD.yaml"
    azure = AzureEmulator(Settings(frontends="40.121.142.0/24"))
    azure.subscription_id = NO_SUBSCRIPTION
    async with azure:
        replay = _Replay(azure)
        async with aiohttp.ClientSession() as session:
            for interaction in yaml.safe_load(recording.read_text(encoding="utf-8"))["interactions"]:
                await replay.compare(session, interaction)
        assert replay.compared > 10


class _Replay:
    """Sends recorded requests to an emulator and holds its answers to the recorded ones."""

    def __init__(self, azure: AzureEmulator) -> None:
        self._azure = azure
        self._links: dict[str, str] = {}
        self._context = ssl.create_default_context(cafile=azure.ca_file)
        proof = {
            "grant_type": "client_credentials",
            "client_id": azure.client_id,
            "client_secret": azure.client_secret,
        }
        token = azure.identity.token(azure.tenant_id, proof)["access_token"]
        self._headers = {"Authorization": f"Bearer {token}"}
        self.compared = 0

    async def compare(self, session: aiohttp.ClientSession, interaction: Json) -> None:
        request, recorded = interaction["request"], interaction["response"]
        url = self._url(request["url"])
        headers = dict(self._headers)
        if "If-Match" in request["headers"]:
            headers["If-Match"] = request["headers"]["If-Match"][0]
        async with session.request(
            request["method"], url, data=request["body"] or None, headers=headers, ssl=self._context
        ) as answer:
            text = await answer.text()
            where = f"{interaction['id']} {request['method']} {request['url']}: {text}"
            assert answer.status == recorded["code"], where
            wanted = {name.lower() for name in recorded["headers"]} - _UNSTABLE_HEADERS
            assert wanted <= {name.lower() for name in answer.headers}, where
            assert _comparable(text) == _comparable(recorded["body"]), where
            for name in ("Azure-AsyncOperation", "Location"):
                if name in answer.headers:
                    self._links[name] = answer.headers[name]
        self.compared += 1

    def _url(self, recorded: str) -> str:
        """Operations have other ids here: go where the last answer pointed."""
        if "/operations/" in recorded:
            return self._links["Azure-AsyncOperation"]
        if "/operationresults/" in recorded.lower():
            return self._links["Location"]
        return recorded.replace("https://management.azure.com", self._azure.endpoint)


def _comparable(text: str) -> Any:
    """A body without what differs from run to run: GUIDs and addresses."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", NO_SUBSCRIPTION, text)
    text = re.sub(r"\b40\.121\.142\.\d+\b", "40.121.142.0", text)
    return json.loads(text) if text else None
