"""A farm from its first line to its last, over the real API server."""

import asyncio
from typing import Any

import pytest

from testbed.stand_in_agents import StandInAgents


async def test_members_are_rendered_and_the_status_says_so(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    await farm.operator()
    await farm.cluster()
    assert await farm.condition("Ready", "True") == "3 of 3 members ready"
    members = await farm.members()
    assert sorted(members) == sorted(machines)
    assert all(not member["metadata"].get("finalizers") for member in members.values())
    cluster = await farm.read()
    assert (cluster.status.ready_members, cluster.status.total_members) == (3, 3)
    assert {entry.state for entry in cluster.status.members} == {"Up"}
    for kind in ("Available", "RedundancyReady"):
        await farm.condition(kind, "True")
    for kind in ("Reconciling", "Stalled", "Held", "MembersChangePending"):
        await farm.condition(kind, "False")


async def test_nothing_is_written_when_nothing_changes(farm: Any, agents: StandInAgents) -> None:
    replica = await farm.operator()
    await farm.cluster()
    await farm.condition("Ready", "True")
    await farm.kill(replica)
    before = await farm.read(), await farm.members()
    await farm.operator("two")

    async def leads() -> bool:
        return "farmstead_leader 1.0" in (await farm.replicas[0].get("/metrics"))[1]

    await farm.until(leads, "a leader")

    async def looked() -> bool:
        return 'farmstead_reconciles_total{result="success"} ' in (await farm.replicas[0].get("/metrics"))[1]

    await farm.until(looked, "a pass")
    assert (await farm.read(), await farm.members()) == before


async def test_deletion_stops_one_after_the_other_and_leaves_nothing(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    await farm.operator()
    await farm.cluster()
    await farm.condition("Ready", "True")
    agents.stuck = {machines[1]}
    await farm.delete()

    async def waits() -> bool:
        cluster = await farm.read()
        return [entry.name for entry in cluster.status.members] == machines[1:]

    await farm.until(waits, "the first stopped, the second stuck")
    await farm.condition("Reconciling", "True", reason="StoppingMembers", says="does not stop")
    assert agents.history[-1] == f"stop web {machines[0]}"
    assert agents.running["web", machines[2]]
    agents.stuck = set()
    for member in agents.members.values():
        await agents.act(member)
    await farm.gone()
    assert [line for line in agents.history if line.startswith("stop")] == [f"stop web {node}" for node in machines]
    assert await farm.members() == {}


async def test_a_deletion_is_over_the_moment_that_the_last_step_is(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    await farm.operator()
    await farm.cluster()
    await farm.condition("Ready", "True")
    agents.stuck = {machines[-1]}
    ending = asyncio.create_task(
        farm.control_plane.kubectl("delete", "farmcluster", "web", "-n", farm.namespace, "--timeout=60s")
    )
    await farm.condition("Reconciling", "True", reason="StoppingMembers", says="does not stop")

    async def settled() -> str | None:
        """The cluster's version, once kopf has put the deletion off."""
        cluster = await farm.read()
        return cluster.metadata.resource_version if _PUT_OFF in cluster.metadata.annotations else None

    before = await farm.until(settled, "kopf has put it off")
    await asyncio.sleep(3)  # nothing happens meanwhile: there is no event to wait for
    assert await settled() == before, "nobody writes while it waits"
    agents.stuck = set()
    for member in agents.members.values():
        await agents.act(member)

    async def memberless() -> bool:
        return not await farm.members()

    await farm.until(memberless, "the last step")
    await asyncio.wait_for(ending, 1)


_PUT_OFF = "operator.farmstead.dev/deletion"


async def test_a_machine_that_is_gone_for_good_holds_nobody_up(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    await farm.operator(silenceSeconds=2)
    await farm.cluster()
    await farm.condition("Ready", "True")
    agents.silent = {machines[0]}
    await farm.until(lambda: _state(farm, machines[0], "Unknown"), "silence")
    await farm.delete()
    await farm.until(lambda: _only(farm, machines[0]), "the others stopped")
    await farm.condition("Reconciling", "True", reason="StoppingMembers", says=f"delete FarmNode {machines[0]}")
    await farm.control_plane.kubectl("delete", "farmnode", machines[0])
    await farm.gone()


async def _state(farm: Any, node: str, state: str) -> bool:
    cluster = await farm.read()
    return any(entry.name == node and entry.state == state for entry in cluster.status.members)


async def _only(farm: Any, node: str) -> bool:
    cluster = await farm.read()
    return [entry.name for entry in cluster.status.members] == [node]


@pytest.mark.parametrize("policy", ["Stop", "Orphan"])
async def test_a_machine_that_leaves_is_stopped_in_good_order(
    farm: Any, machines: list[str], agents: StandInAgents, policy: str
) -> None:
    await farm.operator()
    await farm.cluster(deletionPolicy=policy)
    await farm.condition("Ready", "True")
    await farm.control_plane.kubectl("label", "farmnode", machines[0], "pool-")

    async def left() -> bool:
        return sorted(await farm.members()) == machines[1:]

    await farm.until(left, "the machine has left")
    assert agents.history[-1] == f"stop web {machines[0]}"
    assert await farm.condition("Ready", "True") == "2 of 2 members ready"
