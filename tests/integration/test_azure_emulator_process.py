"""The emulator as a process of its own: one command, steered by `EmulatorAdmin`, reached by the SDK."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from azure.mgmt.network import models

from testbed.azure import Availability, EmulatorAdmin, Fault, Kind
from testbed.azure.backends import serving
from testbed.azure.samples import create_foundations, load_balancer
from testbed.azure.sdk import network_client

PORT = 18082
MEMBERS = ("127.77.2.1", "127.77.2.2")


@pytest.fixture
async def azure(tmp_path: Path) -> AsyncIterator[EmulatorAdmin]:
    state = tmp_path / "azure.json"
    arguments = ("--listen", "127.0.0.1:0", "--frontends", "127.80.3.0/24", "--group", "rg", "--speed", "100")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "testbed.azure", "--state-file", str(state), *arguments),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        admin = await asyncio.to_thread(EmulatorAdmin.from_state_file, state)
        yield admin
        admin.stop()
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert not state.exists()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_serves_the_sdk_carries_traffic_and_does_what_it_is_told(azure: EmulatorAdmin) -> None:
    async with serving(*MEMBERS, port=PORT) as backends, network_client(azure) as client:
        ip, network = await create_foundations(client)
        body = load_balancer(
            azure.subscription_id,
            frontend_ip=ip,
            network=network,
            members=MEMBERS,
            frontend_port=PORT,
            backend_port=PORT,
            probe={"requestPath": "/healthz", "intervalInSeconds": 20},
        )

        async def put() -> models.LoadBalancer:
            poller = await client.load_balancers.begin_create_or_update("rg", "lb", models.LoadBalancer(body))
            return await poller.result()

        made = await put()
        await _until(azure, "Up", "Up")
        reader, writer = await asyncio.open_connection("127.80.3.1", PORT)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"127.77.2." in await reader.readuntil(b"127.77.2.")
        writer.close()
        backends[0].probe_status = 503
        await _until(azure, "Down", "Up")

        before = azure.snapshot()
        azure.fail(Fault(Kind.CONFLICT))
        with pytest.raises(HttpResponseError):
            await put()
        assert [fault.kind for fault in azure.faults_taken()] == [Kind.CONFLICT]
        assert (azure.faults_waiting(), azure.snapshot()) == ([], before)

        azure.edit_as_other_client(str(made.id), {"tags": {"team": "other"}})
        assert (await client.load_balancers.get("rg", "lb")).tags == {"team": "other"}

        azure.set_availability(Availability.REFUSE)
        for _ in range(2):  # the first may meet the connection that was kept
            with pytest.raises(Exception, match=r"127\.0\.0\.1|disconnected|reset"):
                await client.load_balancers.get("rg", "lb")
        with pytest.raises(ServiceRequestError):
            await client.load_balancers.get("rg", "lb")
        azure.set_availability(Availability.UP)
        azure.log(clear=True)
        await client.load_balancers.get("rg", "lb")
        assert azure.counters() == {"GET 200": 1}
        (entry,) = azure.log(method="GET", path="/loadBalancers/")
        assert entry.response is not None
        assert entry.response["tags"] == {"team": "other"}


async def test_it_says_what_it_does_not_understand(azure: EmulatorAdmin) -> None:
    with pytest.raises(RuntimeError, match="no id of a resource"):
        azure.edit_as_other_client("nonsense", {})
    provider = f"/subscriptions/{azure.subscription_id}/resourceGroups/rg/providers/Microsoft.Network"
    with pytest.raises(RuntimeError, match="ResourceNotFound"):
        azure.edit_as_other_client(f"{provider}/loadBalancers/nothing", {})


async def _until(azure: EmulatorAdmin, *states: str) -> None:
    await asyncio.to_thread(
        azure.wait_backends,
        lambda rules: (
            bool(rules)
            and rules[0]["listening"]
            and [backend["state"] for backend in rules[0]["backends"]] == list(states)
        ),
    )
