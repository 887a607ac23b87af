"""Machines behave as machines: they boot, lose power, keep their disks; cables between them can be cut."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from testbed.leftovers import assert_nothing_left, left_behind
from testbed.machines import Fabric, Machine
from testbed.run import sweep

PORT = 8080

# A service as the agent is one: takes over its listening socket, and starts an application that is to outlive
# it, in a cgroup of its own. Every answer tells who gives it.
SERVICE = """
import json, os, socket, subprocess
from pathlib import Path

application = Path("/sys/fs/cgroup/application")
application.mkdir(exist_ok=True)
if "populated 0" in (application / "cgroup.events").read_text():
    started = subprocess.Popen(["sleep", "infinity"])
    (application / "cgroup.procs").write_text(str(started.pid))
assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1"
listening = socket.socket(fileno=3)
while True:
    connection, _ = listening.accept()
    with connection:
        connection.sendall(f"{os.getpid()}".encode())
"""

# Says what it gets, and how it ended; 1.5 s is long in here.
CLIENT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5) as connection:
        print(connection.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
"""

# Keeps one connection and asks over it at each line it is given.
ECHO_SERVICE = """
import socket
listening = socket.socket(fileno=3)
connection, _ = listening.accept()
while data := connection.recv(100):
    connection.sendall(data)
"""


def ours(path: str) -> str | None:
    """What the real machine has there."""
    return Path(path).read_text() if Path(path).exists() else None


async def ask(asking: Machine, asked: Machine) -> str:
    answer = await asking.run(sys.executable, "-c", CLIENT, asked.address, str(PORT))
    return answer.strip()


@pytest_asyncio.fixture
async def pair(fabric: Fabric) -> AsyncIterator[tuple[Machine, Machine]]:
    """Two machines, switched on, whose service answers at PORT."""
    machines = fabric.machine("vm1"), fabric.machine("vm2")
    try:
        for machine in machines:
            machine.set_service(sys.executable, "-c", SERVICE, listen=[("0.0.0.0", PORT)])
        await asyncio.gather(*(machine.boot() for machine in machines))
        yield machines
    finally:
        await asyncio.gather(*(fabric.remove(machine) for machine in machines))


async def test_machines_reach_each_other_until_a_cable_is_cut(pair: tuple[Machine, Machine]) -> None:
    vm1, vm2 = pair
    assert (await ask(vm1, vm2)).isdigit()
    await vm2.cut()
    assert await ask(vm1, vm2) == "TimeoutError"
    assert await ask(vm2, vm1) == "TimeoutError"
    await vm2.heal()
    assert (await ask(vm1, vm2)).isdigit()


async def test_one_peer_and_one_direction_can_be_cut(pair: tuple[Machine, Machine], fabric: Fabric) -> None:
    vm1, vm2 = pair
    clients = await fabric.namespace("clients")
    try:
        await vm2.cut_from(vm1.address, directions={"in"})
        assert await ask(vm1, vm2) == "TimeoutError"
        answer = await clients.run(sys.executable, "-c", CLIENT, vm2.address, str(PORT))
        assert answer.strip().isdigit()
        await vm2.heal_from(vm1.address, directions={"in"})
        assert (await ask(vm1, vm2)).isdigit()
    finally:
        await fabric.remove(clients)


async def test_an_established_connection_is_cut_without_a_word(pair: tuple[Machine, Machine], fabric: Fabric) -> None:
    vm1, _ = pair
    vm1.set_service(sys.executable, "-c", ECHO_SERVICE, listen=[("0.0.0.0", PORT)])
    await vm1.crash()
    await vm1.boot()
    reader, writer = await asyncio.open_connection(vm1.address, PORT)
    try:
        writer.write(b"one")
        assert await reader.read(100) == b"one"
        await vm1.cut()
        writer.write(b"two")
        reading = asyncio.ensure_future(reader.read(100))
        done, _ = await asyncio.wait([reading], timeout=0.5)
        assert not done, "neither data nor an error comes through"
        await vm1.heal()
        assert await reading == b"two", "TCP sends it again, as it does after any loss"
    finally:
        writer.close()


async def test_a_restart_of_the_service_spares_what_it_started_and_its_sockets(
    pair: tuple[Machine, Machine],
) -> None:
    vm1, vm2 = pair
    first = await ask(vm2, vm1)
    application = await vm1.run("cat", "/sys/fs/cgroup/application/cgroup.procs")
    assert application.strip()

    await vm1.kill_service()
    assert await vm1.service_pid() is None
    waiting = asyncio.ensure_future(ask(vm2, vm1))
    # The kernel takes the connection although nobody serves it: seen from here, it is established.
    connected = "sport", f"= :{PORT}"
    async with asyncio.timeout(10):
        while not await vm1.run("ss", "-Htn", "state", "established", *connected):
            assert not waiting.done()
    await vm1.start_service()
    second = await waiting

    assert second.isdigit()
    assert second != first
    assert await vm1.run("cat", "/sys/fs/cgroup/application/cgroup.procs") == application


async def test_a_crash_ends_everything_but_the_disk(pair: tuple[Machine, Machine]) -> None:
    vm1, vm2 = pair
    hierarchies = await vm1.run("grep", "cgroup", "/proc/mounts")
    assert hierarchies.startswith("cgroup2 /sys/fs/cgroup cgroup2 ")
    assert hierarchies.count("\n") == 1, "as on a machine of today"
    boot_id = "cat", "/proc/sys/kernel/random/boot_id"
    before = await vm1.run(*boot_id)
    assert before != ours("/proc/sys/kernel/random/boot_id")
    vm1.path("/var/lib/farmstead/members.json").write_text("kept")
    vm1.path("/run/farmstead/lock").write_text("forgotten")
    assert ours("/var/lib/farmstead/members.json") is None

    await vm1.crash()
    assert await ask(vm2, vm1) in ("TimeoutError", "OSError")
    await vm1.boot()

    assert await vm1.run(*boot_id) != before
    assert await vm1.run("cat", "/var/lib/farmstead/members.json") == "kept"
    assert "farmstead" not in await vm1.run("ls", "/run")
    assert (await vm1.run("hostname")).strip() == "vm1"
    assert (await ask(vm2, vm1)).isdigit()


async def test_what_is_cut_stays_cut_over_a_boot(pair: tuple[Machine, Machine]) -> None:
    vm1, vm2 = pair
    await vm1.cut_from(vm2.address)
    await vm1.crash()
    await vm1.boot()
    assert await ask(vm2, vm1) == "TimeoutError"


STORY = """
import asyncio, json, os, signal, sys
from testbed.machines import Fabric
from testbed.run import Run

async def main():
    ending = sys.argv[1]
    with Run() as run:
        async with Fabric(run) as fabric:
            await fabric.namespace("clients")
            machine = fabric.machine("vm1")
            machine.set_service("sleep", "infinity")
            await machine.boot()
            print(json.dumps({"network": str(fabric.network), "run": run.id}), flush=True)
            if ending == "killed with its keeper":
                os.kill(run.keeper_pid, signal.SIGKILL)
            if ending != "orderly":
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("ending", ["orderly", "killed", "killed with its keeper"])
def test_a_run_leaves_nothing_however_it_ends(fabric: Fabric, ending: str) -> None:
    story = [sys.executable, "-c", STORY, ending]
    ended = subprocess.run(story, check=False, capture_output=True, timeout=60)
    assert ended.returncode == (0 if ending == "orderly" else -signal.SIGKILL), ended.stderr.decode()
    told = json.loads(ended.stdout)
    assert told["network"] != str(fabric.network)
    if ending == "killed with its keeper":
        assert left_behind(told["run"]), "there is nobody to clear up"
        sweep()  # as the next run does first
    assert_nothing_left(told["run"])
