"""Operations on farms: one at a time, one member after the other, held until somebody ends it."""

from typing import Any

import pytest

from farmstead_api.operation import OperationType
from farmstead_kube import Permanent
from testbed.stand_in_agents import StandInAgents


@pytest.fixture
async def running(farm: Any, agents: StandInAgents) -> None:
    await farm.operator()
    await farm.cluster()
    await farm.condition("Ready", "True")
    agents.history.clear()


@pytest.mark.usefixtures("running")
async def test_a_restart_goes_from_machine_to_machine(farm: Any, machines: list[str], agents: StandInAgents) -> None:
    done = await farm.operation(await farm.operate("Restart"), "Succeeded")
    assert agents.history == [f"Restart web {node}" for node in machines]
    assert [(step.member, step.phase) for step in done.status.steps] == [(node, "Succeeded") for node in machines]
    assert done.status.message == "3 of 3 members done"

    async def taken_back() -> bool:
        return not any("operation" in member["spec"] for member in (await farm.members()).values())

    await farm.until(taken_back, "no Member carries it any more")


@pytest.mark.usefixtures("running")
async def test_a_failed_step_ends_the_roll(farm: Any, machines: list[str], agents: StandInAgents) -> None:
    agents.fails = {OperationType.STOP_START}
    done = await farm.operation(await farm.operate("StopStart"), "Failed")
    assert agents.history == [f"StopStart web {machines[0]}"]
    assert done.status.message == f"{machines[0]}: as told; ended there, 2 members not touched"


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("words", [("Drain", "Undrain", "Drained"), ("Stop", "Start", "Stopped")])
async def test_a_hold_lasts_until_it_is_ended(
    farm: Any, machines: list[str], agents: StandInAgents, words: tuple[str, str, str]
) -> None:
    hold, end, state = words
    await farm.operation(await farm.operate(hold, member=machines[0]), "Succeeded")
    await farm.condition("Held", "True", says=f"{machines[0]} is {state}")
    await farm.condition("Ready", "True", says="2 of 3")
    assert not agents.running["web", machines[0]]
    await farm.operation(await farm.operate(end), "Succeeded")
    await farm.condition("Held", "False")
    await farm.condition("Ready", "True", says="3 of 3")
    assert agents.running["web", machines[0]]


@pytest.mark.usefixtures("running")
async def test_a_change_of_the_desired_state_ends_a_hold(farm: Any, machines: list[str], agents: StandInAgents) -> None:
    await farm.operation(await farm.operate("Stop", member=machines[0]), "Succeeded")
    await farm.cluster(desiredState="Stopped")
    await farm.condition("Ready", "True", reason="Stopped")
    await farm.cluster(desiredState="Running")
    await farm.condition("Ready", "True", says="3 of 3")
    assert agents.running["web", machines[0]]


@pytest.mark.usefixtures("running", "agents")
async def test_what_can_not_be_done_says_why(farm: Any, machines: list[str]) -> None:
    no_member = await farm.operation(await farm.operate("Restart", member="nobody"), "Failed")
    assert f"has no member nobody; it has {', '.join(machines)}" in no_member.status.message
    with pytest.raises(Permanent, match="are for mirrors"):
        await farm.operate("Switchover")
    mirror = await farm.operate("Switchover", clusterRef={"kind": "MirrorCluster", "name": "erp"})
    assert "knows no MirrorCluster" in (await farm.operation(mirror, "Failed")).status.message
    no_cluster = await farm.operation(await farm.operate("Restart", cluster="nothing"), "Failed")
    assert "there is no FarmCluster nothing" in no_cluster.status.message


@pytest.mark.usefixtures("running")
async def test_one_at_a_time_and_the_silent_do_not_hold_up_a_hold(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    agents.obey = False
    first = await farm.operate("Restart", member=machines[0])
    await farm.operation(first, "Running")
    second = await farm.operate("Drain", member=machines[1])
    assert first in (await farm.operation(second, "Pending")).status.message
    agents.obey = True
    for member in list(agents.members.values()):
        await agents.act(member)
    await farm.operation(first, "Succeeded")
    await farm.operation(second, "Succeeded")


@pytest.mark.usefixtures("running", "agents")
async def test_a_finished_operation_is_removed_after_its_time(farm: Any) -> None:
    await farm.operate("ResetFailures", ttlSecondsAfterFinished=0)

    async def removed() -> bool:
        listing: str = await farm.control_plane.kubectl("get", "fop", "-n", farm.namespace, "-o", "name")
        return listing == ""

    await farm.until(removed, "no Operation left")
