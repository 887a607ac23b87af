"""Frontend addresses on an interface: in a network namespace of the test's own, which ends with its "
"process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import asyncio, subprocess
from testbed.azure.dataplane.interfaces import Interface

def shown():
    text = subprocess.check_output(["ip", "-o", "address", "show", "dev", "farm0"], text=True)
    return sorted(line.split()[3] for line in text.splitlines() if " inet " in line)

async def main():
    interface = Interface("farm0")
    await interface.keep({"10.1.2.3", "10.1.2.4", "10.9.9.9", "127.0.0.9"})
    print(*shown())
    await interface.keep({"10.1.2.4"})
    print(*shown())
    await interface.restore()
    print(*shown())

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
def test_addresses_are_added_removed_and_those_of_others_left_alone() -> None:
    setup = "ip link add farm0 type veth peer name farm1 && ip address add 10.9.9.9/32 dev farm0 && ip link set lo up"
    found = subprocess.run(
        ["unshare", "--net", "sh", "-c", f'{setup} && exec "$0" -c "$1"', sys.executable, _SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.stderr == ""
    assert found.stdout.splitlines() == [
        "10.1.2.3/32 10.1.2.4/32 10.9.9.9/32",
        "10.1.2.4/32 10.9.9.9/32",
        "10.9.9.9/32",
    ]
