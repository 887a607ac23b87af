"""What agents and people may do, asked of the real API server as they ask it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from farmstead_kube import (
    FARM_NODES,
    MEMBERS,
    Client,
    EventKind,
    EventRecorder,
    Note,
    Permanent,
    Regarding,
    connect,
    micro_time,
    renew_lease,
)
from farmstead_kube.resources import EVENTS
from testbed.stand_in_agents import LEASE_SECONDS, SYSTEM, StandInAgents


async def agent_of(farm: Any, node: str) -> Client:
    kubeconfig = farm.control_plane.kubeconfig_for(user=f"farmstead:node:{node}", groups=["farmstead:nodes"])
    return await connect(kubeconfig=kubeconfig, field_manager="farmstead-agent")


async def heartbeat(client: Client, node: str) -> None:
    now = datetime.now(UTC)
    await renew_lease(client, name=node, namespace=SYSTEM, holder=node, duration_seconds=LEASE_SECONDS, now=now)


async def test_an_agent_writes_its_own_and_nobody_elses(farm: Any, machines: list[str], agents: StandInAgents) -> None:
    await farm.operator()
    await farm.cluster()
    await farm.condition("Ready", "True")
    mine, other = machines[:2]
    agent = await agent_of(farm, mine)

    def status(node: str, **said: Any) -> Any:
        return {"metadata": {"name": f"web.{node}", "namespace": farm.namespace}, "status": said}

    try:
        await agent.apply_status(MEMBERS, status(mine, message="mine"))
        await agent.apply_status(FARM_NODES, {"metadata": {"name": mine}, "status": {"agentVersion": "1"}})
        await heartbeat(agent, mine)
        for refused in (
            agent.apply_status(MEMBERS, status(other, message="not mine")),
            agent.apply_status(FARM_NODES, {"metadata": {"name": other}, "status": {"agentVersion": "1"}}),
            heartbeat(agent, other),
            heartbeat(agent, "farmstead-operator"),
            agent.patch(FARM_NODES, mine, {"metadata": {"labels": {"pool": "web"}}}),
            agent.delete(MEMBERS, f"web.{mine}", namespace=farm.namespace),
        ):
            with pytest.raises(Permanent) as caught:
                await refused
            assert caught.value.status in (403, 422)
    finally:
        await agent.close()


async def test_an_agent_changes_no_labels_even_where_somebody_gave_it_too_many_rights(
    farm: Any, machines: list[str]
) -> None:
    kubectl = farm.control_plane.kubectl
    user = f"farmstead:node:{machines[0]}"
    await kubectl("create", "clusterrole", farm.namespace, "--verb=patch", "--resource=farmnodes.farmstead.dev")
    await kubectl("create", "clusterrolebinding", farm.namespace, f"--clusterrole={farm.namespace}", f"--user={user}")
    agent = await agent_of(farm, machines[0])
    try:
        with pytest.raises(Permanent, match="agents don't change labels"):
            await agent.patch(FARM_NODES, machines[0], {"metadata": {"labels": {"pool": "other"}}})
        with pytest.raises(Permanent, match="agents don't change specs"):
            await agent.patch(FARM_NODES, machines[0], {"spec": {"allowedNamespaces": ["*"]}})
    finally:
        await agent.close()


async def test_an_agent_signs_its_own_events_and_rewrites_nobody_elses(farm: Any, machines: list[str]) -> None:
    note = Note(Regarding(FARM_NODES, machines[0], "uid"), EventKind.NORMAL, "Started", "Start", "as told")
    mine, other = [await agent_of(farm, node) for node in machines[:2]]
    own = EventRecorder(mine, controller="farmstead.dev/agent", instance=machines[0])
    stranger = EventRecorder(mine, controller="farmstead.dev/agent", instance="nobody")

    async def in_force() -> bool:
        """The API server takes a second to read a policy that was just applied."""
        try:
            await stranger.write(note)
        except Permanent:
            return True
        return False

    try:
        await farm.until(in_force, "the guard is in force")
        await own.write(note)
        await own.write(note)  # counted: a patch
        for forged in (
            EventRecorder(mine, controller="farmstead.dev/agent", instance=machines[1]),
            EventRecorder(mine, controller="farmstead.dev/operator", instance=machines[0]),
        ):
            with pytest.raises(Permanent, match="reportingInstance"):
                await forged.write(note)
        listed = await farm.control_plane.kubectl("get", "events.v1.events.k8s.io", "-o", "json")
        (entry,) = (one for one in json.loads(listed)["items"] if one["reportingInstance"] == machines[0])
        count = {"series": {"count": 99, "lastObservedTime": micro_time(datetime.now(UTC))}}
        for claim in (count, count | {"reportingInstance": machines[1]}):
            with pytest.raises(Permanent, match="reportingInstance"):
                await other.patch(EVENTS, entry["metadata"]["name"], claim, namespace="default")
    finally:
        await mine.close()
        await other.close()
