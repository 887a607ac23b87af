"""Two replicas, one leader; and a leader that notices when it no longer sees what is there."""

import signal
from typing import Any

from farmstead_kube import CONFIG_MAPS, LEASES, NotFound
from testbed.stand_in_agents import StandInAgents


async def leader(farm: Any) -> str:
    try:
        lease = await farm.client.get(LEASES, "farmstead-operator", namespace="farmstead-system")
    except NotFound:
        return ""
    holder: str = lease["spec"].get("holderIdentity", "")
    return holder


async def leads(farm: Any, name: str) -> bool:
    return await leader(farm) == f"{farm.namespace}-{name}"


async def test_a_standby_takes_over_from_a_leader_that_was_killed(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    one = await farm.operator("one")
    await farm.until(lambda: leads(farm, "one"), "one leads")
    await farm.operator("two")
    await farm.cluster()
    await farm.condition("Ready", "True")
    assert (await farm.replicas[1].get("/readyz"))[0] == 200
    assert "farmstead_leader 0.0" in (await farm.replicas[1].get("/metrics"))[1]
    await farm.kill(one)
    new = await farm.machine("dddd")
    agents.nodes.add(new)
    await agents.renew()
    await farm.condition("Ready", "True", says="4 of 4")
    assert await leads(farm, "two")
    assert set(agents.history[:-1]) == {f"start web {node}" for node in machines}
    assert agents.history[-1] == f"start web {new}", "each once: nobody was started again by the other replica"
    assert len(agents.history) == len(machines) + 1


async def test_a_leader_that_hangs_ends_itself_before_it_can_do_harm(farm: Any, agents: StandInAgents) -> None:
    one = await farm.operator("one")
    await farm.until(lambda: leads(farm, "one"), "one leads")
    await farm.operator("two")
    first = one.child
    first.signal(signal.SIGSTOP)
    await farm.until(lambda: leads(farm, "two"), "two leads")
    first.signal(signal.SIGCONT)
    assert await first.wait() == 1
    await farm.cluster()
    await farm.condition("Ready", "True")
    assert await leads(farm, "two")


async def test_a_leader_that_ends_gently_hands_over_at_once(farm: Any) -> None:
    one = await farm.operator("one", leaderElection={"leaseSeconds": 600, "renewDeadlineSeconds": 10})
    await farm.until(lambda: leads(farm, "one"), "one leads")
    await one.end(grace_seconds=15)
    farm.replicas.remove(one)
    assert await leader(farm) == ""


async def test_killed_at_any_moment_it_ends_where_it_would_have(farm: Any, agents: StandInAgents) -> None:
    """SIGKILL again and again while members come, are operated on and go."""
    replica = await farm.operator("one")
    await farm.cluster()
    for number in range(6):
        await farm.until(lambda: leads(farm, "one"), "one leads")
        operation = await farm.operate("Restart")
        await farm.operation(operation, "Running" if number % 2 else "Succeeded")
        replica.child.signal(signal.SIGKILL)
        await farm.operation(operation, "Succeeded")
    await farm.condition("Ready", "True")
    restarts = [line for line in agents.history if line.startswith("Restart")]
    assert len(restarts) == 6 * 3, "each carried out once a machine"


async def test_a_script_of_a_config_map_is_carried(farm: Any, agents: StandInAgents) -> None:
    await farm.operator()
    await farm.cluster(application={"scripts": {"configMap": {"name": "scripts"}}})
    assert "create it" in await farm.condition("Stalled", "True", reason="ConfigMapMissing")
    await _scripts(farm, start="#!/bin/sh\n")
    await farm.condition("Stalled", "True", reason="ConfigMapIncomplete", says="has no stop")
    await _scripts(farm, start="#!/bin/sh\n", stop="#!/bin/sh\n# old")
    await farm.condition("Ready", "True")
    await _scripts(farm, start="#!/bin/sh\n", stop="#!/bin/sh\n# new")

    async def new() -> bool:
        listing = await farm.members()
        texts = [entry["text"] for one in listing.values() for entry in one["spec"]["application"]["scripts"]["files"]]
        return texts.count("#!/bin/sh\n# new") == 3

    await farm.until(new, "the new script everywhere")
    await farm.control_plane.kubectl("delete", "configmap", "scripts", "-n", farm.namespace)
    await farm.condition("Stalled", "True", reason="ConfigMapMissing")
    assert await new(), "what was carried stays"
    await farm.condition("Available", "True")


async def _scripts(farm: Any, **scripts: str) -> None:
    body = {"metadata": {"name": "scripts", "namespace": farm.namespace}, "data": scripts}

    await farm.client.apply(CONFIG_MAPS, body)


async def test_a_machine_that_is_not_allowed_is_named(farm: Any, machines: list[str], agents: StandInAgents) -> None:
    await farm.operator()
    await farm.cluster(members={"names": [*machines, "nowhere"]})
    await farm.condition("Stalled", "True", reason="FarmNodeMissing", says="nowhere")
    await farm.control_plane.kubectl(
        "patch", "farmnode", machines[0], "--type=merge", '-p={"spec":{"allowedNamespaces":[]}}'
    )
    await farm.condition("Stalled", "True", reason="FarmNodeNotAllowed", says="allowedNamespaces")

    async def left() -> bool:
        return sorted(await farm.members()) == machines[1:]

    await farm.until(left, "it was stopped in good order")
    assert agents.history[-1] == f"stop web {machines[0]}"
