"""The emulator's data plane with real sockets: who gets new flows, and what becomes of old ones.

Probe times are divided by 100 (`speed`), so that an interval of 20 s passes in 0.2 s; nothing here waits on
time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from azure.mgmt.network import models
from azure.mgmt.network.aio import NetworkManagementClient

from testbed.azure import AzureEmulator, DataPlane, PlaneSettings, Settings
from testbed.azure.backends import Backend, serving
from testbed.azure.samples import create_foundations, load_balancer
from testbed.azure.sdk import network_client

PORT = 18080
MEMBERS = ("127.77.0.1", "127.77.0.2")
FRONTEND = "127.80.7.1"
Json = dict[str, Any]


class Rig:
    """A load balancer with two members in front of two small servers."""

    def __init__(self, azure: AzureEmulator, client: NetworkManagementClient, backends: list[Backend]) -> None:
        assert azure.data_plane is not None
        self.azure = azure
        self.client = client
        self.backends = backends
        self.plane: DataPlane = azure.data_plane
        self.body: Json = {}

    async def put(self, change: Callable[[Json], None] | None = None) -> None:
        if change is not None:
            change(self.body["properties"])
        body = models.LoadBalancer(self.body)
        await (await self.client.load_balancers.begin_create_or_update("rg", "lb", body)).result()

    async def until(self, *states: str) -> None:
        """Wait until the members are in these states and the listener follows."""
        await self.plane.wait_until(
            lambda rules: (
                bool(rules)
                and [one["state"] for one in rules[0]["backends"]] == list(states)
                and rules[0]["listening"] == ("Up" in states)
            )
        )

    async def reasons(self) -> list[str]:
        poller = await self.client.load_balancer_load_balancing_rules.begin_health("rg", "lb", "rule")
        health = await poller.result()
        return [str(one.reason) for one in health.load_balancer_backend_addresses or []]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    plane = PlaneSettings(speed=100, probe_source="127.77.0.99")
    settings = Settings(frontends="127.80.7.0/24", retry_after=0, data_plane=plane)
    async with (
        serving(*MEMBERS, port=PORT) as backends,
        AzureEmulator(settings) as azure,
        network_client(azure) as client,
    ):
        azure.add_group("rg")
        ip, network = await create_foundations(client)
        rig = Rig(azure, client, backends)
        rig.body = load_balancer(
            azure.subscription_id,
            frontend_ip=ip,
            network=network,
            members=MEMBERS,
            frontend_port=PORT,
            backend_port=PORT,
            probe={"requestPath": "/healthz", "intervalInSeconds": 20},
            rule={"enableTcpReset": True},
        )
        await rig.put()
        await rig.until("Up", "Up")
        yield rig


async def _open(source: str | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(FRONTEND, PORT, local_addr=(source, 0) if source else None)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str = "/") -> str:
    """One request on a connection: who answered."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: any\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
    return (await reader.readexactly(length)).decode()


async def _who() -> str:
    """Who answers a new flow."""
    reader, writer = await _open()
    try:
        return await _ask(reader, writer)
    finally:
        writer.close()


async def _everyone(flows: int = 40) -> set[str]:
    return {await _who() for _ in range(flows)}


async def _flow_to(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A keep-alive connection that has been answered by this member."""
    for _ in range(100):
        reader, writer = await _open()
        if await _ask(reader, writer) == address:
            return reader, writer
        writer.close()
    raise AssertionError(f"no flow of 100 reached {address}")


async def test_new_flows_go_to_every_healthy_member(rig: Rig) -> None:
    assert await _everyone() == set(MEMBERS)
    assert await rig.reasons() == ["Up_Probe_Success", "Up_Probe_Success"]
    assert rig.backends[0].probed_from == {"127.77.0.99"}


async def test_a_demoted_member_gets_no_new_flow_and_keeps_its_old_ones(rig: Rig) -> None:
    reader, writer = await _flow_to(MEMBERS[0])
    rig.backends[0].probe_status = 503
    await rig.until("Down", "Up")
    assert await _everyone() == {MEMBERS[1]}
    assert await _ask(reader, writer) == MEMBERS[0]
    assert await rig.reasons() == ["Down_Probe_HttpStatusCodeError", "Up_Probe_Success"]
    rig.backends[0].probe_status = 200
    await rig.until("Up", "Up")
    assert await _everyone() == set(MEMBERS)
    writer.close()


async def test_with_no_healthy_member_new_flows_are_refused_and_old_ones_go_on(rig: Rig) -> None:
    reader, writer = await _flow_to(MEMBERS[1])
    for backend in rig.backends:
        backend.probe_status = 500
    await rig.until("Down", "Down")
    with pytest.raises(ConnectionRefusedError):
        await _open()
    assert await _ask(reader, writer) == MEMBERS[1]
    writer.close()


async def test_all_probed_up_sends_flows_to_members_that_fail_their_probes(rig: Rig) -> None:
    for backend in rig.backends:
        backend.probe_status = 500
    await rig.until("Down", "Down")
    await rig.put(lambda lb: lb["probes"][0]["properties"].update(noHealthyBackendsBehavior="AllProbedUp"))
    await rig.until("Up", "Up")
    assert await _everyone() == set(MEMBERS)
    assert await rig.reasons() == ["Up_Probe_AllDownIsUp", "Up_Probe_AllDownIsUp"]


async def test_admin_state_overrides_the_probe_both_ways(rig: Rig) -> None:
    rig.backends[1].probe_status = 500
    await rig.until("Up", "Down")

    def flip(balancer: Json) -> None:
        first, second = balancer["backendAddressPools"][0]["properties"]["loadBalancerBackendAddresses"]
        first["properties"]["adminState"], second["properties"]["adminState"] = "Down", "Up"

    await rig.put(flip)
    await rig.until("Down", "Up")
    assert await _everyone() == {MEMBERS[1]}
    assert await rig.reasons() == ["Down_Admin", "Up_Admin"]


async def test_source_ip_affinity_keeps_a_client_on_one_member(rig: Rig) -> None:
    await rig.put(lambda lb: lb["loadBalancingRules"][0]["properties"].update(loadDistribution="SourceIP"))
    await rig.until("Up", "Up")
    answers: dict[str, set[str]] = {}
    for client in range(1, 21):
        for _ in range(3):
            reader, writer = await _open(f"127.78.0.{client}")
            answers.setdefault(f"127.78.0.{client}", set()).add(await _ask(reader, writer))
            writer.close()
    assert all(len(members) == 1 for members in answers.values()), answers
    assert set().union(*answers.values()) == set(MEMBERS)


async def test_half_closes_pass_in_both_directions(rig: Rig) -> None:
    reader, writer = await _open()
    writer.write(b"GET /echo HTTP/1.1\r\n\r\n" + b"x" * 300_000)
    writer.write_eof()
    assert await reader.read() == b"x" * 300_000 + b"bye"
    writer.close()


async def test_a_reset_by_the_backend_reaches_the_client(rig: Rig) -> None:
    reader, writer = await _flow_to(MEMBERS[0])
    for server_side in rig.backends[0].writers:
        _reset_on_close(server_side.get_extra_info("socket"))
        server_side.transport.abort()
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()


async def test_a_reset_by_the_client_reaches_the_backend(rig: Rig) -> None:
    _, writer = await _flow_to(MEMBERS[0])
    (server_side,) = [one for one in rig.backends[0].writers if one.get_extra_info("peername")]
    _reset_on_close(writer.get_extra_info("socket"))
    writer.transport.abort()
    await rig.plane.wait_until(lambda rules: rules[0]["backends"][0]["flows"] == 0)
    with contextlib.suppress(ConnectionError):
        await server_side.wait_closed()
    assert server_side not in rig.backends[0].writers


async def test_a_backend_that_refuses_resets_the_client_until_the_probe_notices(rig: Rig) -> None:
    await rig.put(lambda lb: lb["loadBalancingRules"][0]["properties"].update(backendPort=1))
    await rig.until("Up", "Up")
    reader, writer = await _open()
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()


async def test_a_flow_to_a_cut_backend_waits_and_moves_when_the_probe_has_noticed(rig: Rig) -> None:
    """A listening socket whose queue is full drops SYNs: it looks like a machine whose cable was pulled."""
    with _cut("127.77.0.3", PORT + 1) as cut:

        def only_the_cut_one_answers(balancer: Json) -> None:
            addresses = balancer["backendAddressPools"][0]["properties"]["loadBalancerBackendAddresses"]
            addresses[0]["properties"]["ipAddress"] = cut
            addresses[0]["properties"]["adminState"] = "Up"
            addresses[1]["properties"]["adminState"] = "Down"
            balancer["loadBalancingRules"][0]["properties"]["backendPort"] = PORT + 1

        async with serving(MEMBERS[1], port=PORT + 1):
            await rig.put(only_the_cut_one_answers)
            await rig.until("Up", "Down")
            reader, writer = await _open()
            asking = asyncio.create_task(_ask(reader, writer))
            await rig.plane.wait_until(lambda rules: rules[0]["backends"][0]["accepted"] > 0)
            assert not asking.done()

            def swap(balancer: Json) -> None:
                addresses = balancer["backendAddressPools"][0]["properties"]["loadBalancerBackendAddresses"]
                for address, state in zip(addresses, ("Down", "Up"), strict=True):
                    address["properties"]["adminState"] = state

            await rig.put(swap)
            assert await asyncio.wait_for(asking, 10) == MEMBERS[1]
            writer.close()


async def test_idle_flows_are_reset_after_the_idle_time(rig: Rig) -> None:
    reader, writer = await _open()
    assert await _ask(reader, writer) in MEMBERS
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1), 20)
    writer.close()


async def test_a_changed_rule_leaves_the_flows_of_the_others_alone(rig: Rig) -> None:
    reader, writer = await _flow_to(MEMBERS[0])

    def add_rule(balancer: Json) -> None:
        rule = balancer["loadBalancingRules"][0]
        other = {**rule["properties"], "frontendPort": PORT + 7, "backendPort": PORT + 7}
        balancer["loadBalancingRules"].append({"name": "other", "properties": other})

    await rig.put(add_rule)
    await rig.plane.wait_until(lambda rules: len(rules) == 2)
    assert await _ask(reader, writer) == MEMBERS[0]
    await rig.put(lambda lb: lb["loadBalancingRules"].pop(0))
    await rig.plane.wait_until(lambda rules: len(rules) == 1)
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()


def _reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def _cut(address: str, port: int) -> Any:
    listener = socket.socket()
    fillers = [socket.socket() for _ in range(4)]
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        for filler in fillers:
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect((address, port))
        yield address
    finally:
        for sock in (listener, *fillers):
            sock.close()
