"""The witness client and the MirrorWitness rules, on the real API server, and all that goes wrong on the way to it.

The client is the product's; what drives it is a real core in a process of its own, without a peer.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from testbed.controlplane import CommandError, ControlPlane
from testbed.faulty_gateway import Gateway, Mishap
from testbed.faulty_proxy import Fault, Proxy
from testbed.rust import rust_program
from testbed.witness import ACCOUNT, allow_witness, install_witness_kind, witness_record

VM1, VM2 = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
VM3 = "00000000-0000-0000-0000-000000000003"
BOOT, PROCESS = "00000000-0000-0000-0000-0000000000b1", "00000000-0000-0000-0000-0000000000c1"
LATER = "00000000-0000-0000-0000-0000000000c2"
LINEAGE, OPERATION = "00000000-0000-0000-0000-0000000000d1", "00000000-0000-0000-0000-0000000000e1"


MEMBERS_WITHOUT_VM1 = [{"name": "vm2", "nodeUID": VM2}, {"name": "vm3", "nodeUID": VM3}]


def entry(name: str) -> dict[str, str]:
    return {"name": name, "boot": BOOT, "process": PROCESS}


class Witness:
    """One record, as `kubectl` sees it."""

    def __init__(self, control_plane: ControlPlane, namespace: str, token: str) -> None:
        self._control_plane, self.namespace, self.token = control_plane, namespace, token
        self.name = f"shop-{secrets.token_hex(4)}"

    async def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return await self._control_plane.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    async def put(self, **changes: Any) -> None:
        record = witness_record(self.name, members={"vm1": VM1, "vm2": VM2}, primary="vm1", lineage=LINEAGE)
        record["spec"] |= changes
        await self.kubectl("apply", "-f", "-", stdin=json.dumps(record))

    async def says(self, field: str = "spec.generation") -> str:
        return await self.kubectl("get", "mirrorwitness", self.name, "-o", f"jsonpath={{.{field}}}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def account(control_plane: ControlPlane) -> tuple[str, str]:
    """A namespace whose records an account may write, and that account's token."""
    namespace = f"test-{secrets.token_hex(4)}"
    await install_witness_kind(control_plane.kubectl)
    await control_plane.kubectl("create", "namespace", namespace)
    await allow_witness(control_plane.kubectl, namespace)
    return namespace, await control_plane.kubectl("-n", namespace, "create", "token", ACCOUNT)


@pytest.fixture
async def witness(control_plane: ControlPlane, account: tuple[str, str]) -> Witness:
    """A record in generation 0, as the operator makes it."""
    witness = Witness(control_plane, *account)
    await witness.put()
    return witness


FORBIDDEN = [
    ({"generation": 3}, "generation grows by exactly one"),
    ({"generation": 2, "primary": "vm2", "inSync": [entry("vm2")]}, "a new primary was in sync before"),
    ({"generation": 2, "lineage": OPERATION}, "lineage changes only when an Operation forces it"),
    ({"generation": 2, "inSync": [entry("vm2")]}, "the primary is in sync"),
    ({"generation": 2, "primary": "vm3", "inSync": [entry("vm3")]}, "the primary is a member"),
    ({"generation": 2, "inSync": [entry("vm1"), entry("vm3")]}, "only members are in sync"),
    (
        {
            "generation": 2,
            "members": MEMBERS_WITHOUT_VM1,
            "primary": "vm2",
            "inSync": [entry("vm2")],
            "forced": OPERATION,
        },
        "only a member that is neither primary nor in sync can be replaced",
    ),
]


@pytest.mark.parametrize(("changes", "reason"), FORBIDDEN, ids=[reason for _, reason in FORBIDDEN])
async def test_a_forbidden_step_is_refused(witness: Witness, changes: dict[str, Any], reason: str) -> None:
    alone = {"generation": 1, "inSync": [entry("vm1")]}
    await witness.put(**alone)
    with pytest.raises(CommandError, match=reason):
        await witness.put(**alone | changes)


async def test_an_operation_may_force_a_step(witness: Witness) -> None:
    await witness.put(generation=1, inSync=[entry("vm1")])
    forced = {"primary": "vm2", "inSync": [entry("vm2")], "lineage": OPERATION, "forced": OPERATION}
    await witness.put(generation=2, **forced)


async def test_a_member_that_is_out_may_be_replaced(witness: Witness) -> None:
    await witness.put(generation=1, inSync=[entry("vm1")])
    members = [{"name": "vm1", "nodeUID": VM1}, {"name": "vm3", "nodeUID": VM3}]
    await witness.put(generation=2, inSync=[entry("vm1")], members=members)


class Driver:
    """A core with nothing but the witness, run as a process of its own; what it says arrives as JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until(self, **wanted: Any) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while line := await self._process.stdout.readline():
                said: dict[str, Any] = json.loads(line)
                if all(str(value) in str(said.get(key)) for key, value in wanted.items()):
                    return said
        raise AssertionError(f"it ended without saying {wanted}")

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    def order(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())


class Machine:
    """A machine's folder with what the client needs, and the processes that lived on it."""

    def __init__(self, folder: Path, witness: Witness) -> None:
        self.folder, self._witness = folder, witness
        self.token = folder / "token"
        self.token.write_text(witness.token)

    @asynccontextmanager
    async def driver(self, way: Proxy | Gateway, *, process: str = PROCESS) -> AsyncIterator[Driver]:
        ca = self.folder / "ca.pem"
        ca.write_bytes(way.authority)
        record = [self._witness.namespace, self._witness.name]
        arguments = [way.address, str(ca), str(self.token), *record, str(self.folder)]
        pipe = asyncio.subprocess.PIPE
        program = await rust_program("farmstead-mirror-witness", "witness-drive")
        whose = [VM1, VM2, BOOT, process]
        running = await asyncio.create_subprocess_exec(program, *arguments, *whose, stdin=pipe, stdout=pipe)
        try:
            yield Driver(running)
        finally:
            if running.returncode is None:
                running.kill()
            await running.wait()

    def knows(self, process: str) -> bool:
        """Whether a nonce of this process is on its disk."""
        nonce = UUID(process).int.to_bytes(16, "little")
        return any(nonce in slot.read_bytes() for slot in self.folder.glob("state.*"))


@pytest.fixture
def machine(witness: Witness, tmp_path: Path) -> Machine:
    return Machine(tmp_path, witness)


@pytest.fixture
async def proxy(control_plane: ControlPlane) -> AsyncIterator[Proxy]:
    host, port = control_plane.url.removeprefix("https://").rsplit(":", 1)
    async with Proxy(host=host, port=int(port), authority=control_plane.authorities) as proxy:
        yield proxy


@pytest.fixture
async def gateway(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with Gateway(control_plane.url, control_plane.authorities, tmp_path) as gateway:
        yield gateway


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.REFUSE, Fault.SLOW])
async def test_the_source_makes_the_first_step_once_it_can(
    witness: Witness, machine: Machine, proxy: Proxy, fault: Fault
) -> None:
    proxy.fault = fault
    async with machine.driver(proxy) as driving:
        if fault is not Fault.NONE:
            await proxy.until(3)
        proxy.fault = Fault.NONE
        await driving.until(role="Alone", generation=1)
    assert await witness.says() == "1"


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.DRIP])
async def test_an_exchange_ends_well_before_the_lease(machine: Machine, proxy: Proxy, fault: Fault) -> None:
    proxy.fault = fault
    async with machine.driver(proxy):
        await proxy.until(4)
    # The client's limit is L/4 = 0.5 s; at L/2 a primary must have time for its compare-and-swap.
    assert len(proxy.held) >= 3
    assert max(proxy.held[:3]) < 1.0


# Where it took effect, one PUT is all there ever is: the outcome is read, not guessed.
TOOK_EFFECT = [Mishap.ANSWER_LOST, Mishap.ANSWER_CUT, Mishap.ANSWER_REPLACED, Mishap.ANSWER_LATE, Mishap.REPEATED]


@pytest.mark.parametrize("mishap", TOOK_EFFECT)
async def test_an_answer_that_is_lost_after_it_took_effect_is_read_back(
    witness: Witness, machine: Machine, gateway: Gateway, mishap: Mishap
) -> None:
    gateway.next("PUT", mishap)
    async with machine.driver(gateway) as driving:
        await driving.until(role="Alone", generation=1)
    assert len([seen for seen in gateway.seen if seen.method == "PUT"]) == 1
    assert await witness.says() == "1"


@pytest.mark.parametrize("mishap", [Mishap.LOST, Mishap.REFUSED])
async def test_what_never_reached_the_server_is_sent_again(
    witness: Witness, machine: Machine, gateway: Gateway, mishap: Mishap
) -> None:
    gateway.next("PUT", mishap, mishap)
    async with machine.driver(gateway) as driving:
        await driving.until(role="Alone", generation=1)
    assert gateway.answered("PUT") == [200]
    assert await witness.says() == "1"


async def test_a_put_that_lands_late_changes_nothing(witness: Witness, machine: Machine, gateway: Gateway) -> None:
    gateway.next("PUT", Mishap.HELD)
    async with machine.driver(gateway) as driving:
        await driving.until(role="Alone", generation=1)
        gateway.release.set()
        await gateway.until("PUT", Mishap.HELD, status=409)
    assert await witness.says() == "1"


async def test_the_nonce_is_on_disk_before_the_put_so_a_killed_node_knows_its_record(
    witness: Witness, machine: Machine, gateway: Gateway
) -> None:
    gateway.next("PUT", Mishap.HELD)
    async with machine.driver(gateway) as driving:
        await gateway.until("PUT", Mishap.HELD)
        await driving.kill()
    assert machine.knows(PROCESS)
    gateway.release.set()
    await gateway.until("PUT", Mishap.HELD, status=200)
    # The record names a process that is dead. The next one has its own proof that this was the machine's own step.
    assert PROCESS in await witness.says("spec.nonce")
    async with machine.driver(gateway, process=LATER) as driving:
        await driving.until(role="Alone", generation=2)


@pytest.mark.parametrize("mishap", [Mishap.LOST, Mishap.REFUSED, Mishap.NOT_FOUND, Mishap.ANSWER_CUT])
async def test_what_is_no_answer_of_the_server_is_no_news_of_the_record(
    machine: Machine, gateway: Gateway, mishap: Mishap
) -> None:
    gateway.next("GET", mishap, mishap, mishap)
    async with machine.driver(gateway) as driving:
        said = await driving.until()
        while said.get("role") != "Alone":
            assert "notice" not in said, said
            said = await driving.until()


async def test_a_renewed_token_is_used_without_a_restart(machine: Machine, gateway: Gateway) -> None:
    valid = machine.token.read_text()
    machine.token.write_text("expired")
    async with machine.driver(gateway) as driving:
        await gateway.until("GET", status=401)
        machine.token.write_text(f"{valid}\n")
        await driving.until(role="Alone", generation=1)


async def test_a_deleted_record_halts_the_node_until_a_person_names_the_new_one(
    witness: Witness, machine: Machine, proxy: Proxy
) -> None:
    async with machine.driver(proxy) as driving:
        await driving.until(role="Alone")
        await witness.kubectl("delete", "mirrorwitness", witness.name)
        await driving.until(notice="the witness record is gone")
        # As the machine that goes on has it on its disk.
        await witness.put(generation=1, inSync=[entry("vm1")])
        await driving.until(notice="deleted and created again")
        await driving.kill()
    async with machine.driver(proxy, process=LATER) as driving:
        await driving.until(notice="deleted and created again")
        driving.order(f"recreated {await witness.says('metadata.uid')}")
        await driving.until(role="Alone", generation=2)


async def test_a_restarted_node_recognises_its_own_record(machine: Machine, proxy: Proxy) -> None:
    async with machine.driver(proxy) as driving:
        await driving.until(role="Alone", generation=1)
    async with machine.driver(proxy, process=LATER) as driving:
        await driving.until(role="Alone", generation=2)


async def test_a_restored_etcd_halts_the_node_which_does_not_write_to_the_past(
    control_plane: ControlPlane, witness: Witness, machine: Machine, gateway: Gateway
) -> None:
    async with machine.driver(gateway) as driving:
        await driving.until(role="Alone", generation=1)
    past = control_plane.snapshot_etcd()
    async with machine.driver(gateway, process=LATER) as driving:
        await driving.until(role="Alone", generation=2)
        writes = len(gateway.answered("PUT"))
        await control_plane.restore_etcd(past)
        await driving.until(notice="older than this node's disk")
        assert await witness.says() == "1"
    # Restarted, it has the disk alone to know it by.
    async with machine.driver(gateway, process=PROCESS) as driving:
        await driving.until(notice="older than this node's disk")
    assert len(gateway.answered("PUT")) == writes
    assert await witness.says() == "1"
