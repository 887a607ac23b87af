"""`python -m testbed.bench_operator`: how fast, and how large, the operator is with many clusters.

Real API server and emulator of Azure; the members' statuses are written by stand-ins, since machines would be what is
measured otherwise. Prints the time until every cluster is Ready, then how long a change of a Member's status takes to
show in its cluster's status, from the moment the write is sent, then the time until all clusters, deleted at once, are
gone; API calls, ARM calls, CPU and memory besides.
Everything shares one machine: what each part computed, and waited for a processor, is printed too, so that a duration
can be told from a crowd.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from azure.mgmt.network.models import AddressSpace, VirtualNetwork, VirtualNetworkPropertiesFormat

from farmstead_api import FarmCluster, Member, parse
from farmstead_api.member import MemberState, MemberStatus, Readiness
from farmstead_api.names import AGENT_FIELD_MANAGER
from farmstead_kube import FARM_CLUSTERS, FARM_NODES, Client, EventType, Json, Selection, Transient, Watch, connect
from testbed.api_requests import requests
from testbed.azure.client import EmulatorAdmin
from testbed.azure.sdk import network_client
from testbed.child import Child
from testbed.controlplane import ControlPlane
from testbed.costs import Cost, cost, memory
from testbed.farm import OPERATOR_GROUPS, OPERATOR_USER
from testbed.run import Run
from testbed.stand_in_agents import StandInAgents

ROOT = Path(__file__).parents[2]
NAMESPACE = "bench"
GROUP = "bench"
NODES = 50
PATIENCE = 300.0
MARK = "change "


@dataclass
class Shown:
    """What the clusters' statuses show: who is Ready, and which marks have come through."""

    ready: set[str] = field(default_factory=set)
    there: set[str] = field(default_factory=set)
    sent: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """By cluster and machine: changes that are not shown yet, numbered, and when they were sent."""
    delays: list[float] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, client: Client) -> None:
        """Watch the clusters for ever."""
        async for event in Watch(client, Selection(FARM_CLUSTERS, namespace=NAMESPACE)):
            if event.type is EventType.SYNCED:
                continue
            now = time.monotonic()
            cluster = parse(FarmCluster, event.object)
            self.there.add(cluster.metadata.name)
            if event.type is EventType.DELETED:
                self.there.discard(cluster.metadata.name)
            self.last = [f"{entry.type}={entry.status} {entry.message}" for entry in cluster.status.conditions]
            if any(entry.type == "Ready" and entry.status == "True" for entry in cluster.status.conditions):
                self.ready.add(cluster.metadata.name)
            else:
                self.ready.discard(cluster.metadata.name)
            for entry in cluster.status.members:
                self._shown(f"{cluster.metadata.name}.{entry.name}", entry.reason, now)
            self.changed.set()

    def _shown(self, member: str, mark: str, now: float) -> None:
        """A change is shown once it, or a later one of the same member, is."""
        if not mark.startswith(MARK) or member not in self.sent:
            return
        number = int(mark.removeprefix(MARK))
        self.delays += [now - sent for one, sent in self.sent[member] if one <= number]
        left = [(one, sent) for one, sent in self.sent[member] if one > number]
        if left:
            self.sent[member] = left
        else:
            del self.sent[member]

    async def until(self, what: str, reached: Any) -> None:
        """Wait until the statuses say so."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not reached():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise SystemExit(f"{what}: not in {PATIENCE:.0f} s; last: {self.last}") from None
        print(f"  {what}", flush=True)


@dataclass
class Phase:
    """A stretch of the benchmark: how long it took, what each process spent in it, what the API server was asked."""

    pids: Mapping[str, int]
    seconds: float
    costs: dict[str, Cost]
    asked: Counter[str]

    @classmethod
    async def begin(cls, client: Client, pids: Mapping[str, int]) -> "Phase":
        """Start counting."""
        asked = await requests(client)
        return cls(pids, time.monotonic(), {name: cost(pid) for name, pid in pids.items()}, asked)

    async def end(self, client: Client) -> "Phase":
        """What it came to."""
        seconds = time.monotonic() - self.seconds
        costs = {name: cost(pid) - self.costs[name] for name, pid in self.pids.items()}
        return Phase(self.pids, seconds, costs, await requests(client) - self.asked)

    def tell(self) -> None:
        """Print it."""
        print(f"    {self.seconds:.1f} s")
        for name, spent in self.costs.items():
            print(f"    {name:>16}  {spent}")
        asked = ", ".join(f"{count} {what}" for what, count in sorted(self.asked.items()))
        print(f"    the API server answered {asked}", flush=True)


async def main(options: argparse.Namespace) -> None:
    """Run the benchmark."""
    with Run() as run:
        async with ControlPlane(run) as control_plane:
            await control_plane.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
            await control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
            await control_plane.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/testbed"))
            await control_plane.kubectl("create", "namespace", NAMESPACE)
            state = run.folder / "azure.json"
            azure = Child(
                [
                    *(sys.executable, "-m", "testbed.azure", "--listen", "127.0.0.1:0", "--group", GROUP),
                    *("--delay", "0.5", "--state-file", str(state), "--frontends", "127.80.0.0/16", "--control-only"),
                ],
                log=run.folder / "azure.log",
                env=dict(os.environ),
            )
            admin = await asyncio.to_thread(EmulatorAdmin.from_state_file, state)
            network = await _network(admin)
            client = await connect(kubeconfig=control_plane.admin_kubeconfig, field_manager="bench")
            operator = _operator(run, control_plane, admin, network)
            pids = {
                "operator": operator.pid,
                **control_plane.pids,
                "emulator": azure.pid,
                "load generator": os.getpid(),
            }
            try:
                async with _machines(control_plane) as machines:
                    await _measure(options, client, operator, machines=machines, pids=pids)
            except BaseException:
                print(operator.log.read_text()[-1500:], file=sys.stderr)
                raise
            finally:
                await operator.stop(grace_seconds=10)
                await azure.stop(grace_seconds=5)
                await client.close()


@contextlib.asynccontextmanager
async def _machines(control_plane: ControlPlane) -> AsyncIterator[dict[str, Client]]:
    """What each machine's agent writes by: a name, a certificate and a connection of its own, as on real machines."""
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for node in (f"n{number}" for number in range(NODES)):
            kubeconfig = control_plane.kubeconfig_for(user=f"farmstead:node:{node}", groups=["farmstead:nodes"])
            clients[node] = await connect(kubeconfig=kubeconfig, field_manager=AGENT_FIELD_MANAGER)
            stack.push_async_callback(clients[node].close)
        yield clients


async def _network(admin: EmulatorAdmin) -> str:
    """The virtual network that the machines are in; gives its id."""
    space = AddressSpace(address_prefixes=["10.0.0.0/16"])
    async with network_client(admin) as azure:
        wanted = VirtualNetwork(location="eastus", properties=VirtualNetworkPropertiesFormat(address_space=space))
        poller = await azure.virtual_networks.begin_create_or_update(GROUP, "net", wanted)
        return str((await poller.result()).id)


def _operator(run: Run, control_plane: ControlPlane, admin: EmulatorAdmin, network: str) -> Child:
    settings = {
        "kubeconfig": str(control_plane.kubeconfig_for(user=OPERATOR_USER, groups=OPERATOR_GROUPS)),
        "http": {"address": "127.0.0.1", "port": 0},
        "azure": {
            "subscriptionID": admin.subscription_id,
            "resourceGroup": GROUP,
            "location": "eastus",
            "virtualNetworkID": network,
            "credential": "WorkloadIdentity",
            "tenantID": admin.tenant_id,
            "clientID": admin.client_id,
            "tokenFile": admin.federated_token_file,
            "authority": admin.authority,
            "endpoint": admin.endpoint,
            "caFile": admin.ca_file,
        },
    }
    config = run.folder / "operator.yaml"
    config.write_text(yaml.safe_dump(settings))
    argv = [sys.executable, "-m", "farmstead_operator", "--config", str(config)]
    return Child(argv, log=run.folder / "operator.log", env=dict(os.environ))


async def _measure(
    options: argparse.Namespace,
    client: Client,
    operator: Child,
    *,
    machines: Mapping[str, Client],
    pids: Mapping[str, int],
) -> None:
    nodes = list(machines)
    await asyncio.gather(
        *(client.apply(FARM_NODES, _farm_node(node, f"10.0.1.{number + 1}")) for number, node in enumerate(nodes))
    )
    begun = time.monotonic()
    await _metrics(operator)
    print(f"  the operator is up after {time.monotonic() - begun:.1f} s, {cost(operator.pid)}", flush=True)
    shown = Shown()
    async with StandInAgents(client, nodes, as_node=machines) as agents:
        follower = asyncio.create_task(shown.follow(client))
        phase = await Phase.begin(client, pids)
        wanted = [_cluster(number, options.members, nodes, options.balancers) for number in range(options.clusters)]
        await asyncio.gather(*(client.apply(FARM_CLUSTERS, cluster) for cluster in wanted))
        names = {f"c{number}" for number in range(options.clusters)}
        await shown.until("all clusters Ready", lambda: names <= shown.ready)
        start = await phase.end(client)
        start.tell()
        agents.obey = False
        phase = await Phase.begin(client, pids)
        writes = await _change(options, agents, shown)
        await shown.until("all changes shown", lambda: not shown.sent)
        change = await phase.end(client)
        change.tell()
        agents.obey = True
        await asyncio.gather(*map(agents.act, agents.members.values()))
        await shown.until("all clusters Ready again", lambda: names <= shown.ready)
        phase = await Phase.begin(client, pids)
        await asyncio.gather(*(client.delete(FARM_CLUSTERS, name, namespace=NAMESPACE) for name in names))
        await shown.until("all clusters deleted", lambda: not shown.there)
        end = await phase.end(client)
        end.tell()
        follower.cancel()
    metrics = await _metrics(operator)
    _report(options, shown.delays, writes, start=start, change=change, end=end, pid=operator.pid, metrics=metrics)


async def _change(options: argparse.Namespace, agents: StandInAgents, shown: Shown) -> list[float]:
    """Change one Member's status after the other, evenly, and don't wait for what comes of it.

    Gives how long the API server took for each write.
    """
    took: list[float] = []

    async def write(member: Member, status: MemberStatus) -> None:
        """As an agent does it: what was not taken is written again a second later."""
        sent = time.monotonic()
        while True:
            try:
                await agents.write(member, status)
            except Transient as error:
                print(f"  written again: {error}", flush=True)
                await asyncio.sleep(1)
            else:
                break
        took.append(time.monotonic() - sent)

    keys = sorted(agents.members)
    begun = time.monotonic()
    writes = set()
    for number in range(options.rate * options.seconds):
        await asyncio.sleep(max(0.0, begun + number / options.rate - time.monotonic()))
        member = agents.members[keys[number * 7 % len(keys)]]
        status = MemberStatus(
            observed_revision=member.spec.revision,
            state=MemberState.UP,
            readiness=Readiness.NOT_READY,
            reason="CheckFailed",
            message=f"{MARK}{number}",
        )
        shown.sent.setdefault(member.metadata.name, []).append((number, time.monotonic()))
        task = asyncio.create_task(write(member, status))
        writes.add(task)
        task.add_done_callback(writes.discard)
    await asyncio.gather(*writes)
    return took


def _farm_node(name: str, address: str) -> Json:
    addresses = [{"name": "default", "address": address}]
    return {"metadata": {"name": name}, "spec": {"addresses": addresses, "allowedNamespaces": [NAMESPACE]}}


def _cluster(number: int, members: int, nodes: list[str], balancers: int) -> Json:
    chosen = [nodes[(number * members + offset) % len(nodes)] for offset in range(members)]
    spec: Json = {
        "members": {"names": chosen},
        "application": {"scripts": {"directory": "/opt/app"}},
        "checks": [{"name": "answers", "http": {"port": 8080}}, {"name": "worker", "process": {"name": "worker"}}],
    }
    if balancers:
        spec["listeners"] = [{"name": "http", "port": 80, "backendPort": 8000 + number}]
        frontend = {"publicIPAddress": {"name": f"ip-{number}"}}
        spec["loadBalancer"] = {"azure": {"name": f"lb-{number % balancers}", "frontend": frontend}}
    return {"metadata": {"name": f"c{number}", "namespace": NAMESPACE}, "spec": spec}


async def _metrics(operator: Child) -> dict[str, float]:
    marker = "metrics on port "
    while marker not in (log := operator.log.read_text()):
        if not operator.running:
            raise SystemExit(f"the operator ended: {log[-1500:]}")
        await asyncio.sleep(0.1)
    port = log.split(marker)[1].split()[0]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        lines = (await response.text()).splitlines()
    pairs = (line.rpartition(" ")[::2] for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def _report(
    options: argparse.Namespace,
    delays: list[float],
    writes: list[float],
    *,
    start: "Phase",
    change: "Phase",
    end: "Phase",
    pid: int,
    metrics: dict[str, float],
) -> None:
    resident, most = memory(pid)
    spent = change.costs["operator"]
    rows = {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}",
        "size": f"{options.clusters} clusters x {options.members} members, {options.balancers} load balancers",
        "other load": f"load average {os.getloadavg()[0]:.0f} over the last minute, this benchmark included",
        "all Ready after": f"{start.seconds:.1f} s",
        "all deleted after": f"{end.seconds:.1f} s",
        "changes": f"{len(delays)} at {options.rate}/s",
        "until shown": f"{_spread(delays)} (goal: p99 below 1000)",
        "- of that, the write": _spread(writes),
        "API writes": json.dumps(_sum(metrics, "farmstead_writes_total")),
        "passes": json.dumps(_sum(metrics, "farmstead_reconciles_total")),
        "ARM calls": json.dumps(_sum(metrics, "farmstead_azure_calls_total")),
        "CPU while changing": f"{spent.computed / change.seconds:.0%} of a core, "
        f"{spent.computed / len(delays) * 1000:.1f} ms a change",
        "memory": f"{resident:.0f} MiB, at most {most:.0f} (goal: below 256)",
    }
    for name, value in rows.items():
        print(f"{name:>22}  {value}")


def _spread(seconds: list[float]) -> str:
    """Median, 99th percentile and longest, in ms."""
    ordered = sorted(seconds)
    chosen = {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)], "longest": ordered[-1]}
    return ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in chosen.items())


def _sum(metrics: dict[str, float], name: str) -> dict[str, int]:
    return {key[len(name) :]: int(value) for key, value in metrics.items() if key.startswith(f"{name}{{")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m testbed.bench_operator", description=__doc__)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--balancers", type=int, default=10, help="load balancers that the clusters share; 0: none")
    parser.add_argument("--rate", type=int, default=50, help="changes a second")
    parser.add_argument("--seconds", type=int, default=30)
    asyncio.run(main(parser.parse_args()))
