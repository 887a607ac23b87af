"""Somebody's own cluster in the place of ours: a control plane that does not know us plays it."""

import asyncio
import json
from pathlib import Path

import pytest

from testbed.controlplane import CommandError, ControlPlane, ControlPlaneError, ExistingCluster
from testbed.run import Run

CRDS = Path(__file__).parents[2] / "crds"


async def who_am_i(cluster: ExistingCluster, kubeconfig: Path) -> dict[str, object]:
    """Who the API server takes the bearer of a kubeconfig for; asks until its proxy listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                said = await cluster.kubectl("auth", "whoami", "-o", "json", kubeconfig=kubeconfig)
            except CommandError:
                await asyncio.sleep(0.1)
            else:
                user: dict[str, object] = json.loads(said)["status"]["userInfo"]
                return user


async def test_a_cluster_of_ones_own() -> None:
    with Run() as run:
        async with ControlPlane(run) as control_plane:
            theirs = control_plane.admin_kubeconfig
            async with ExistingCluster(run, kubeconfig=theirs, address="127.0.0.1") as cluster:
                agent = await who_am_i(
                    cluster, cluster.kubeconfig_for(user="farmstead:node:vm1", groups=["farmstead:nodes"])
                )
                assert agent["username"] == "farmstead:node:vm1"
                assert agent["groups"] == ["farmstead:nodes", "system:authenticated"]

            await control_plane.kubectl("apply", "--server-side", "-f", str(CRDS))
            with pytest.raises(ControlPlaneError, match="has Farmstead's kinds already"):
                async with ExistingCluster(run, kubeconfig=theirs, address="127.0.0.1"):
                    pass
