"""What faults and planned work cost clients, who never try again: counted request by request.

Clients ask through Azure's frontend, half of them with a connection a request, half on connections that they keep,
a quarter of the requests takes most of a second.
"""

import asyncio
import time

import pytest

from testbed.datacentre.farm import Farm, Served, serves
from testbed.datacentre.figures import Figures

pytestmark = pytest.mark.asyncio(loop_scope="session")

INTERVAL = 5.0
"""Seconds between two probes, which is also how long a probe waits for an answer."""
EPSILON = 0.5
"""What the load balancer takes to act on a probe, on a busy machine."""
BACK_WITHIN = 2.0
LIE_AT_MOST = 0.3
"""How long the probe may say 200 of an application that has died: the agent's time to notice, on a busy machine."""


@pytest.mark.parametrize("machine", ["vm1", "vm2", "vm3"])
async def test_a_killed_application_is_back_in_two_seconds_and_the_probe_tells_the_truth(
    farm: Farm, figures: Figures, machine: str
) -> None:
    before = await farm.pids(machine)
    async with farm.clients() as served:
        truth = await farm.truth(machine)
        killed = time.monotonic()
        await farm.centre.machines[machine].kill_all("nginx")
        await farm.until_member(machine, lambda m: not serves(m), within=5, what="to notice")
        await farm.until_member(machine, serves, within=10, what="to be back")
        verdict = await truth.stop()
    assert len(verdict.outages) == 1, verdict.outages
    back, lie = verdict.outages[0].served - killed, verdict.longest_lie
    measured = f"serves again after {back:.2f} s, the probe lied for {lie * 1000:.0f} ms"
    figures.note(f"nginx killed on {machine}", served, measured)
    assert back < BACK_WITHIN
    assert lie < LIE_AT_MOST
    assert not verdict.refused
    assert not set(before) & set(await farm.pids(machine))


async def test_a_killed_machine_costs_its_connections_and_what_arrives_within_five_seconds(
    farm: Farm, figures: Figures
) -> None:
    """Without power it answers nothing, so a probe must time out before the share moves; who comes meanwhile waits.

    A connection is not lost by that but late, as long as the client waits for an answer as long as a probe does.
    """
    machine = farm.centre.machines["vm2"]
    async with farm.clients(patience=INTERVAL) as served:
        crashed = time.monotonic()
        await machine.crash()
        await farm.until_balanced({"vm1", "vm3"}, within=3 * INTERVAL)
        moved = time.monotonic() - crashed
        await served.load.until_served_by({"vm1", "vm3"}, within=20, seconds=3)
    await machine.boot()
    figures.note("machine killed (vm2)", served, loss(served, crashed, moved))
    assert served.last_lost_arrival(crashed) <= INTERVAL + EPSILON
    assert moved <= 2 * INTERVAL + EPSILON


async def test_a_machine_that_is_cut_off_costs_what_arrives_before_a_probe_has_timed_out(
    farm: Farm, figures: Figures
) -> None:
    machine = farm.centre.machines["vm3"]
    before = await farm.pids("vm3")
    async with farm.clients(patience=INTERVAL) as served:
        cut = time.monotonic()
        await machine.cut()
        await farm.until_balanced({"vm1", "vm2"}, within=3 * INTERVAL)
        moved = time.monotonic() - cut
        await served.load.until_served_by({"vm1", "vm2"}, within=20, seconds=3)
        await machine.heal()
    figures.note("machine cut off (vm3)", served, loss(served, cut, moved))
    assert served.last_lost_arrival(cut) <= 2 * INTERVAL + EPSILON
    assert moved <= 2 * INTERVAL + EPSILON
    assert await farm.pids("vm3") == before


def loss(served: Served, event: float, moved: float) -> str:
    """For the table."""
    last = served.last_lost_arrival(event)
    return f"share moved after {moved:.1f} s; the last connection that was lost came after {last:.1f} s"


async def test_drains_cost_not_one_request(farm: Farm, figures: Figures) -> None:
    rounds = [("Drain", "Undrain", "vm1"), ("Drain", "Undrain", "vm2"), ("Drain", "Undrain", "vm3")]
    rounds += [("Stop", "Start", "vm1"), ("Drain", "Undrain", "vm2")]
    slowest = 0.0
    async with farm.clients(new=12, keep=12) as served:
        for away, back, machine in rounds:
            began = time.monotonic()
            await farm.operate(away, machine)
            slowest = max(slowest, time.monotonic() - began)
            assert await farm.pids(machine) == []
            await farm.operate(back, machine)
            await farm.until_balanced(farm.centre.machines, within=2 * INTERVAL)
    figures.note(f"{len(rounds)} drains and stops by Operation", served, f"each took {slowest:.1f} s at most")
    assert served.failures == []


@pytest.mark.parametrize("how", ["restart", "kill", "upgrade"])
async def test_the_agent_comes_and_goes_without_a_trace(farm: Farm, figures: Figures, how: str) -> None:
    before = await farm.all_pids()
    slowest = 0.0
    async with farm.clients() as served:
        for name, machine in farm.centre.machines.items():  # one after the other, as an upgrade is rolled out
            truth = await farm.truth(name)
            match how:
                case "restart":
                    await machine.restart_service()
                case "kill":
                    await machine.kill_service()
                    await machine.start_service()
                case _:
                    await farm.centre.upgrade_agent(name, version="99.0")
            verdict = await truth.stop()
            slowest = max(slowest, verdict.slowest)
            bad = [answer.outcome for answer in verdict.probe if not answer.good]
            # SIGKILL takes along what the agent has accepted a moment ago, and we ask one question at a time. The
            # kernel resets the connection, or ends it where the question was read already.
            taken_along = (["Connection reset by peer"], ["closed before the whole answer came"])
            assert bad == [] or (how == "kill" and bad in taken_along)
            if how == "upgrade":
                await farm.until_node(
                    name, lambda n: n.status.agent_version == "99.0", within=15, what="to be upgraded"
                )
    figures.note(f"agents: {how}", served, f"the probe's latest answer took {slowest:.2f} s")
    assert served.failures == []
    assert await farm.all_pids() == before
    assert slowest < INTERVAL


async def test_a_deleted_cluster_stops_one_machine_after_the_other_and_breaks_no_request(
    farm: Farm, figures: Figures
) -> None:
    async with farm.clients() as served:
        deleting = asyncio.create_task(farm.kubectl("delete", "farmcluster", "web", "--timeout=120s"))
        await farm.until_balanced((), within=60)
        nobody_left = time.monotonic()
        await deleting
    figures.note("the cluster is deleted", served, "failed: all of them once nobody was left to serve")
    assert [failure for failure in served.failures if failure["opened"] < nobody_left - EPSILON] == []
    await farm.apply()
    await farm.settled()
