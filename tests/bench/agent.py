"""`make bench-agent`: what one agent costs with ten members of two checks each, all serving, nothing happening.

Real nginx, real API server, checks at their default interval; memory and processor time from /proc, after a minute to
settle. Prints a table and fails when the goal is missed (80 MiB, 1 % of a core).
"""

import argparse
import asyncio
import os
import sys
import time
from typing import Any

from testbed import agents
from testbed.agent_rig import ready
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric, Machine
from testbed.run import Run

MEMBERS = 10
RSS_GOAL_MIB = 80
CPU_GOAL_PERCENT = 1.0
TICKS = os.sysconf("SC_CLK_TCK")


def spec(number: int) -> dict[str, Any]:
    """A member: nginx on a port of its own, watched by two checks."""
    application = agents.nginx_scripts()
    port = 8100 + number
    application["scripts"]["environment"] = [
        {"name": "PORT", "value": str(port)},
        {"name": "PREFIX", "value": f"/run/nginx-{number}"},
    ]
    return {
        "application": application,
        "listeners": [{"name": "http", "port": port}],
        "checks": [
            {"name": "nginx", "process": {"name": "nginx"}},
            {"name": "answers", "http": {"port": port, "path": "/healthz"}},
        ],
    }


async def cpu_seconds(machine: Machine, pid: int) -> float:
    """Processor time of a process and of the children it has waited for, in seconds."""
    fields = (await machine.run("cat", f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


async def memory_mib(machine: Machine, pid: int) -> dict[str, float]:
    """Resident memory and its peak, in MiB."""
    lines = (await machine.run("cat", f"/proc/{pid}/status")).splitlines()
    fields = dict(line.split(":\t", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")}


async def measure(run: Run, settle: float, seconds: float) -> bool:
    """Set up, wait, measure, print; whether the goal is met."""
    async with Fabric(run) as fabric, ControlPlane(run, address=fabric.gateway) as api:
        await agents.prepare(api)
        await api.kubectl("create", "namespace", "bench")
        machine = fabric.machine("vm1")
        agents.install(machine, api)
        async with agents.operating(api, "bench") as operator:
            await operator.add_node("vm1", machine.address)
            await machine.boot()
            began = time.monotonic()
            for number in range(MEMBERS):
                await operator.apply(f"web{number}", "vm1", spec(number))
            await asyncio.gather(*(operator.until(f"web{n}", "vm1", ready, within=60) for n in range(MEMBERS)))
            all_ready = time.monotonic() - began
        pid = await machine.service_pid()
        assert pid is not None
        await asyncio.sleep(settle)
        before, began = await cpu_seconds(machine, pid), time.monotonic()
        await asyncio.sleep(seconds)
        percent = (await cpu_seconds(machine, pid) - before) / (time.monotonic() - began) * 100
        memory = await memory_mib(machine, pid)
        await fabric.remove(machine)
    print(f"members                  {MEMBERS}, two checks each, interval 10 s")
    print(f"all Ready after          {all_ready:.1f} s")
    print(f"resident memory          {memory['VmRSS']:.1f} MiB (peak {memory['VmHWM']:.1f}; goal < {RSS_GOAL_MIB})")
    print(f"processor when idle      {percent:.2f} % of a core over {seconds:.0f} s (goal < {CPU_GOAL_PERCENT:.0f} %)")
    return memory["VmRSS"] < RSS_GOAL_MIB and percent < CPU_GOAL_PERCENT


def main() -> int:
    """Run the benchmark; 0 where the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settle", type=float, default=30)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with Run() as run:
        return 0 if asyncio.run(measure(run, options.settle, options.seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
