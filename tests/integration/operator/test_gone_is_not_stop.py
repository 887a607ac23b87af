"""What vanishes is no order: members, kinds and the past itself go away, and nothing on a machine stops."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from farmstead_kube import MEMBERS, KubeError
from testbed.controlplane import ControlPlane
from testbed.installation import install_farmstead, install_kinds
from testbed.run import Run
from testbed.stand_in_agents import StandInAgents


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def control_plane() -> AsyncIterator[ControlPlane]:
    """One of our own: who deletes kinds, or puts etcd back, takes everybody's objects away."""
    with Run() as run:
        async with ControlPlane(run) as control_plane:
            yield control_plane


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installed(control_plane: ControlPlane) -> ControlPlane:
    """It, with our kinds, rights and guards."""
    await install_farmstead(control_plane.kubectl)
    return control_plane


async def running(farm: Any, agents: StandInAgents) -> None:
    await farm.operator()
    await farm.cluster()
    await farm.condition("Ready", "True")
    agents.history.clear()


async def test_a_member_that_somebody_deletes_is_drawn_again(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    await running(farm, agents)
    before = (await farm.members())[machines[0]]["metadata"]["uid"]
    await farm.client.delete(MEMBERS, f"web.{machines[0]}", namespace=farm.namespace)

    async def again() -> bool:
        member = (await farm.members()).get(machines[0])
        return bool(member and member["metadata"]["uid"] != before and member.get("status"))

    await farm.until(again, "a new Member")
    await farm.condition("Ready", "True")
    assert agents.history == []


async def test_a_hold_survives_its_member(farm: Any, machines: list[str], agents: StandInAgents) -> None:
    await running(farm, agents)
    await farm.operation(await farm.operate("Stop", member=machines[0]), "Succeeded")
    await farm.condition("Held", "True", says=machines[0])
    before = (await farm.members())[machines[0]]["metadata"]["uid"]
    await farm.client.delete(MEMBERS, f"web.{machines[0]}", namespace=farm.namespace)

    async def again() -> bool:
        member = (await farm.members()).get(machines[0])
        return bool(member and member["metadata"]["uid"] != before and member.get("status"))

    await farm.until(again, "a new Member")
    await farm.condition("Ready", "True")
    assert agents.history == [f"Stop web {machines[0]}", f"stop web {machines[0]}"] or agents.history == [
        f"stop web {machines[0]}",
        f"Stop web {machines[0]}",
    ]


async def test_a_selector_that_matches_nothing_takes_nobody_away(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    await running(farm, agents)
    await farm.cluster(members={"selector": {"matchLabels": {"pool": "mistyped"}}})
    message = await farm.condition("Stalled", "True", reason="NoMembers")
    assert "correct the selector" in message
    assert len(await farm.members()) == 3
    await farm.cluster()
    await farm.condition("Ready", "True")
    assert agents.history == []


async def test_farmnodes_that_are_pruned_stop_nothing(farm: Any, machines: list[str], agents: StandInAgents) -> None:
    await running(farm, agents)
    await farm.control_plane.kubectl("delete", "farmnode", *machines)
    await farm.condition("Stalled", "True", reason="NoMembers")
    for name in ("a", "bb", "ccc"):
        await farm.machine(name)
    await farm.condition("Ready", "True", says="3 of 3")
    assert agents.history == []


async def test_an_older_etcd_is_brought_up_to_date(farm: Any, machines: list[str], agents: StandInAgents) -> None:
    await farm.operator()
    past = farm.control_plane.snapshot_etcd()
    await farm.cluster()
    await farm.condition("Ready", "True")
    agents.history.clear()
    await farm.control_plane.restore_etcd(past)
    assert await farm.read() is None
    await farm.cluster()
    await farm.condition("Ready", "True", says="3 of 3")
    assert agents.history == []


async def test_kinds_that_are_deleted_and_applied_again_stop_nothing(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    await running(farm, agents)
    kinds = [f"{plural}.farmstead.dev" for plural in ("farmclusters", "members", "farmnodes", "operations")]
    await farm.control_plane.kubectl("delete", "crd", *kinds, "--timeout=60s")
    await _applied(farm)
    for name in ("a", "bb", "ccc"):
        await farm.machine(name)
    await farm.cluster()
    await farm.condition("Ready", "True", says="3 of 3")
    assert agents.history == []


async def _applied(farm: Any) -> None:
    await install_kinds(farm.control_plane.kubectl)

    async def served() -> bool:
        try:
            await farm.members()
        except KubeError:
            return False
        return True

    await farm.until(served, "the kinds are served")
