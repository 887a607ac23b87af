"""A watch that dies without a word: connected still, and nothing arrives. It is noticed, told, and replaced."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest_asyncio

from farmstead_kube import FARM_CLUSTERS
from testbed.controlplane import ControlPlane
from testbed.farm import OPERATOR_USER, Replica
from testbed.proxy import Connection, Proxy
from testbed.run import Run
from testbed.stand_in_agents import StandInAgents

BALLAST = 50_000


@pytest_asyncio.fixture
async def proxy(installed: ControlPlane) -> AsyncIterator[Proxy]:
    """Between the operator and the API server."""
    server = urlsplit(installed.url)
    assert server.hostname
    assert server.port
    async with Proxy(server.hostname, server.port) as proxy:
        yield proxy


def through(proxy: Proxy, control_plane: ControlPlane, folder: Path) -> str:
    """The operator's kubeconfig, by way of the proxy."""
    config = json.loads(control_plane.kubeconfig_for(user=OPERATOR_USER).read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = folder / f"kubeconfig-by-{proxy.port}"
    path.write_text(json.dumps(config))
    return str(path)


async def kopf_s_watch(farm: Any, proxy: Proxy) -> Connection:
    """The connection on which a large FarmCluster comes without having been asked for: kopf alone watches them."""
    proxy.count()
    ballast = {"metadata": {"annotations": {"example.com/ballast": "x" * BALLAST}}}
    await farm.client.patch(FARM_CLUSTERS, "web", ballast, namespace=farm.namespace)

    async def found() -> Connection | None:
        silent = [one for one in proxy.connections if one.down > BALLAST and not one.up]
        return silent[0] if silent else None

    connection: Connection = await farm.until(found, "kopf's watch")
    return connection


async def dead_watches(replica: Replica) -> float:
    metrics = (await replica.get("/metrics"))[1]
    counted = re.search(r'farmstead_dead_watches_total\{kind="FarmCluster"\} (\S+)', metrics)
    return float(counted[1]) if counted else 0.0


async def test_a_dead_watch_is_noticed_told_and_replaced(
    farm: Any, run: Run, proxy: Proxy, machines: list[str], agents: StandInAgents
) -> None:
    patient = {"leaseSeconds": 15, "renewDeadlineSeconds": 10, "retrySeconds": 2}
    kubeconfig = through(proxy, farm.control_plane, run.folder)
    replica: Replica = await farm.operator(kubeconfig=kubeconfig, leaderElection=patient)
    await farm.cluster()
    await farm.condition("Ready", "True")
    assert (await replica.get("/readyz"))[0] == 200
    assert await dead_watches(replica) == 0

    (await kopf_s_watch(farm, proxy)).swallowed = True
    await farm.cluster(desiredState="Stopped")

    async def told() -> str | None:
        status, text = await replica.get("/readyz")
        return text if status == 503 else None

    assert "kopf's watch of FarmClusters is dead, 1 changes were not shown" in await farm.until(told, "not ready")
    assert await dead_watches(replica) == 1
    assert (await replica.get("/healthz"))[0] == 200, "it heals without a new process"

    async def stopped() -> bool:
        return not any(agents.running.get(("web", node)) for node in machines)

    await farm.until(stopped, "the change is seen")

    async def ready() -> bool:
        status, _ = await replica.get("/readyz")
        return status == 200

    await farm.until(ready, "ready again")
    assert await dead_watches(replica) == 1
