"""A drain costs not one request: new connections and kept ones, short requests and long ones, without any retry."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from testbed.agent_rig import PORT, Rig, ready
from testbed.load.http import Connection, ExchangeError

PROBE_SECONDS = 5.0


class LoadBalancer:
    """Azure's manner: probes every 5 seconds; a new connection goes to a machine whose last probe was good."""

    def __init__(self, rigs: tuple[Rig, ...]) -> None:
        self._rigs = rigs
        self._up = list(rigs)
        self._turn: Iterator[int] = itertools.count()

    async def probe_for_ever(self) -> None:
        while True:
            answers = await asyncio.gather(*(rig.probe() for rig in self._rigs))
            self._up = [rig for rig, (status, _) in zip(self._rigs, answers, strict=True) if status == 200]
            await asyncio.sleep(PROBE_SECONDS)

    async def connect(self) -> Connection:
        rig = self._up[next(self._turn) % len(self._up)]
        return await Connection.open(rig.machine.address, PORT)


class Clients:
    """Clients without retries, and what became of their requests."""

    def __init__(self, balancer: LoadBalancer) -> None:
        self._balancer = balancer
        self.failures: list[str] = []
        self.served: Counter[str] = Counter()

    async def client(self, path: str, *, keep: bool, pause: float) -> None:
        connection: Connection | None = None
        try:
            while True:
                if connection is None or connection.closed_by_peer:
                    connection = await self._balancer.connect()
                answer = await connection.get(path, host="web", keep=keep)
                self.served[answer.served_by] += 1
                if answer.close:
                    connection.close()
                    connection = None
                await asyncio.sleep(pause)
        except ExchangeError as error:
            self.failures.append(f"{path} keep={keep}: {error}")  # one is too many: this client is done
        finally:
            if connection is not None:
                connection.close()


async def test_a_drain_under_load_costs_no_request(rigs: tuple[Rig, Rig]) -> None:
    await asyncio.gather(*(rig.serving() for rig in rigs))
    balancer = LoadBalancer(rigs)
    clients = Clients(balancer)
    drained, staying = rigs
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(balancer.probe_for_ever())]
        for path, keep, pause in [
            *[("/", True, 0.02)] * 8,
            *[("/", True, 2.5)] * 8,
            *[("/slow", True, 0.01)] * 6,
            *[("/", False, 0.05)] * 4,
            *[("/slow", False, 0.05)] * 4,
        ]:
            tasks.append(group.create_task(clients.client(path, keep=keep, pause=pause)))
        await asyncio.sleep(2)
        await drained.apply(
            override={"state": "Drained", "operationUID": "u1"}, operation={"uid": "u1", "type": "Drain"}
        )
        member = await drained.until(lambda m: m.status.state == "Stopped", within=40)
        assert member.status.operation is not None
        assert member.status.operation.phase == "Succeeded"
        before = Counter(clients.served)
        await asyncio.sleep(2)
        await drained.apply(operation={"uid": "u2", "type": "Undrain"})
        await drained.until(ready)
        await asyncio.sleep(PROBE_SECONDS + 1)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
    assert clients.failures == []
    assert before[drained.node] > 100
    assert clients.served[staying.node] > before[staying.node]
    assert clients.served[drained.node] > before[drained.node]
    assert "0 connections left" not in member.status.message
    print(dict(clients.served), member.status.last_actions)
