"""The witness client and the MirrorWitness rules, on the real API server: cuts, absence, deletion, forbidden steps."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from testbed.controlplane import CommandError, ControlPlane
from testbed.faulty_proxy import Fault, Proxy
from testbed.rust import rust_program
from testbed.witness import ACCOUNT, allow_witness, install_witness_kind, witness_record

VM1, VM2 = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
BOOT, PROCESS = "00000000-0000-0000-0000-0000000000b1", "00000000-0000-0000-0000-0000000000c1"
LINEAGE, OPERATION = "00000000-0000-0000-0000-0000000000d1", "00000000-0000-0000-0000-0000000000e1"


def entry(name: str) -> dict[str, str]:
    return {"name": name, "boot": BOOT, "process": PROCESS}


@pytest.fixture
async def crd(control_plane: ControlPlane) -> None:
    await install_witness_kind(control_plane.kubectl)


async def put(control_plane: ControlPlane, namespace: str, **changes: Any) -> None:
    record = witness_record("shop", members={"vm1": VM1, "vm2": VM2}, primary="vm1", lineage=LINEAGE)
    record["spec"] |= changes
    await control_plane.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(record))


FORBIDDEN = [
    ({"generation": 3}, "generation grows by exactly one"),
    ({"generation": 2, "primary": "vm2", "inSync": [entry("vm2")]}, "a new primary was in sync before"),
    ({"generation": 2, "lineage": OPERATION}, "lineage changes only when an Operation forces it"),
    ({"generation": 2, "inSync": [entry("vm2")]}, "the primary is in sync"),
    ({"generation": 2, "primary": "vm3", "inSync": [entry("vm3")]}, "the primary is a member"),
]


@pytest.mark.parametrize(("changes", "reason"), FORBIDDEN, ids=[reason for _, reason in FORBIDDEN])
async def test_a_forbidden_step_is_refused(
    control_plane: ControlPlane, namespace: str, crd: None, changes: dict[str, Any], reason: str
) -> None:
    await put(control_plane, namespace)
    alone = {"generation": 1, "inSync": [entry("vm1")]}
    await put(control_plane, namespace, **alone)
    with pytest.raises(CommandError, match=reason):
        await put(control_plane, namespace, **alone | changes)


async def test_an_operation_may_force_a_step(control_plane: ControlPlane, namespace: str, crd: None) -> None:
    await put(control_plane, namespace)
    await put(control_plane, namespace, generation=1, inSync=[entry("vm1")])
    forced = {"primary": "vm2", "inSync": [entry("vm2")], "lineage": OPERATION, "forced": OPERATION}
    await put(control_plane, namespace, generation=2, **forced)


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


@asynccontextmanager
async def driver(
    control_plane: ControlPlane, namespace: str, proxy: Proxy, folder: Path, *, process: str = PROCESS
) -> AsyncIterator[Driver]:
    ca, token = folder / "ca.pem", folder / "token"
    ca.write_bytes(control_plane.authorities)
    token.write_text(await control_plane.kubectl("-n", namespace, "create", "token", ACCOUNT))
    arguments = [proxy.address, str(ca), str(token), namespace, "shop", str(folder), VM1, VM2, BOOT, process]
    pipe = asyncio.subprocess.PIPE
    program = await rust_program("farmstead-mirror-witness", "witness-drive")
    running = await asyncio.create_subprocess_exec(program, *arguments, stdin=pipe, stdout=pipe)
    try:
        yield Driver(running)
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


@pytest.fixture
async def account(control_plane: ControlPlane, namespace: str, crd: None) -> str:
    """The namespace, with a record in generation 0 and an account that may write it."""
    await put(control_plane, namespace)
    await allow_witness(control_plane.kubectl, namespace)
    return namespace


@pytest.fixture
async def proxy(control_plane: ControlPlane) -> AsyncIterator[Proxy]:
    host, port = control_plane.url.removeprefix("https://").rsplit(":", 1)
    async with Proxy(host=host, port=int(port)) as proxy:
        yield proxy


async def generation(control_plane: ControlPlane, namespace: str) -> int:
    path = "jsonpath={.spec.generation}"
    return int(await control_plane.kubectl("-n", namespace, "get", "mirrorwitness", "shop", "-o", path))


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.REFUSE, Fault.SLOW])
async def test_the_source_makes_the_first_step_once_it_can(
    control_plane: ControlPlane, account: str, proxy: Proxy, tmp_path: Path, fault: Fault
) -> None:
    proxy.fault = fault
    async with driver(control_plane, account, proxy, tmp_path) as driving:
        async with asyncio.timeout(30):
            while proxy.connections < 3 and fault is not Fault.NONE:
                await asyncio.sleep(0.05)
        proxy.fault = Fault.NONE
        await driving.until(role="Alone", generation=1)
    assert await generation(control_plane, account) == 1


async def test_a_deleted_record_halts_the_node_which_goes_on(
    control_plane: ControlPlane, account: str, proxy: Proxy, tmp_path: Path
) -> None:
    async with driver(control_plane, account, proxy, tmp_path) as driving:
        await driving.until(role="Alone")
        await control_plane.kubectl("-n", account, "delete", "mirrorwitness", "shop")
        await driving.until(notice="the witness record is gone")
        await put(control_plane, account)
        await driving.until(notice="deleted and created again")


async def test_a_restarted_node_recognises_its_own_record(
    control_plane: ControlPlane, account: str, proxy: Proxy, tmp_path: Path
) -> None:
    async with driver(control_plane, account, proxy, tmp_path) as driving:
        await driving.until(role="Alone", generation=1)
    later = "00000000-0000-0000-0000-0000000000c2"
    async with driver(control_plane, account, proxy, tmp_path, process=later) as driving:
        await driving.until(role="Alone", generation=2)
