"""The real agent on a machine, with the real API server and real nginx: start, probe, death, adoption, stop."""

import asyncio
import json
import time

from testbed.agent_rig import FARMSTEAD, Rig, ready


async def test_a_member_starts_and_is_ready(rig: Rig) -> None:
    assert (await rig.probe())[0] == 503
    await rig.apply()
    member = await rig.until(ready)
    assert member.status.state == "Up"
    assert member.status.application_revision == "a1"
    assert {r.name: r.state.value for r in member.status.resources} == {
        "application": "Up",
        "nginx": "Up",
        "answers": "Up",
    }
    assert await rig.probe() == (200, "Up/Ready Serving: 2 of 2 checks pass\n")
    assert await rig.served()
    status = json.loads(await rig.machine.run(FARMSTEAD, "status", "-o", "json"))
    assert status["members"][0]["status"]["state"] == "Up"
    events = json.loads(await rig.machine.run(FARMSTEAD, "events", "-o", "json"))
    assert [event["after"] for event in events] == ["Prestart", "Start", "Up"]


async def test_a_killed_application_serves_again_within_two_seconds(rig: Rig) -> None:
    before = await rig.serving()
    assert await rig.kill_application() < 2.0
    member = await rig.until(lambda m: ready(m) and m.status.actions_in_window == 1)
    assert member.status.last_actions[-1].action == "Restart"
    assert not set(before) & set(await rig.pids())


async def test_a_member_that_dies_too_often_stops_until_a_person_acts(rig: Rig) -> None:
    await rig.apply(failover={"maxActions": 1})
    await rig.until(ready)
    await rig.kill_application()
    await rig.until(lambda m: ready(m) and m.status.actions_in_window == 1)
    await rig.machine.run("kill", "-KILL", *map(str, await rig.pids()))
    member = await rig.until(lambda m: m.status.state == "Stopped")
    assert member.status.reason == "GivenUp"
    assert "ResetFailures" in member.status.message
    await rig.apply(failover={"maxActions": 1}, operation={"uid": "u1", "type": "ResetFailures"})
    member = await rig.until(ready)
    assert member.status.operation is not None
    assert member.status.operation.phase == "Succeeded"


async def test_the_agent_may_be_killed_at_any_time(rig: Rig) -> None:
    before = await rig.serving()
    for _ in range(3):
        await rig.machine.kill_service()
        probing = asyncio.create_task(rig.probe())
        await asyncio.sleep(0.2)
        assert not probing.done()
        await rig.machine.start_service()
        assert (await probing)[0] == 200
        assert await rig.pids() == before


async def test_what_died_while_no_agent_was_there_is_not_called_ready(rig: Rig) -> None:
    before = await rig.serving()
    await rig.machine.kill_service()
    await rig.machine.run("kill", "-KILL", *map(str, before))
    await rig.machine.start_service()
    status, reason = await rig.probe()
    assert status == 503, reason
    await rig.until(lambda m: ready(m) and m.status.actions_in_window == 1)
    assert await rig.served()


async def test_a_script_goes_on_while_the_agent_is_dead(rig: Rig) -> None:
    scripts = {
        "start": "#!/bin/sh\nsleep 1.5\nsleep 1000 &\necho started >> /var/started\n",
        "stop": "#!/bin/sh\nexit 1\n",
    }
    files = [{"name": name, "text": text} for name, text in scripts.items()]
    await rig.apply(application={"scripts": {"files": files}}, checks=[])
    await rig.until(lambda m: m.status.reason == "Starting")
    await rig.machine.kill_service()
    await rig.machine.start_service()
    await rig.until(ready)
    assert rig.machine.path("/var/started").read_text() == "started\n"


async def test_stop_is_a_drain_and_start_brings_it_back(rig: Rig) -> None:
    await rig.serving()
    asked = time.monotonic()
    await rig.apply(desiredState="Stopped")
    await rig.until(lambda m: m.status.reason == "Draining")
    assert (await rig.probe())[0] == 503
    assert await rig.served()
    member = await rig.until(lambda m: m.status.state == "Stopped")
    assert 6.0 <= time.monotonic() - asked < 12.0
    assert member.status.application_revision == ""
    assert await rig.pids() == []
    await rig.apply()
    await rig.until(ready)


async def test_the_machines_shutdown_drains_and_the_boot_starts_again(rig: Rig) -> None:
    await rig.serving()
    shutdown = asyncio.create_task(rig.machine.run(FARMSTEAD, "shutdown-machine"))
    await rig.until(lambda m: m.status.reason == "Draining")
    assert await rig.served()
    assert f"{rig.operator.namespace}/web" in await shutdown
    assert await rig.pids() == []
    await rig.until(lambda m: m.status.reason == "MachineShutdown")
    await rig.machine.crash()
    await rig.machine.boot()
    await rig.until(ready)
