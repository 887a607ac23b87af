"""Keeps listeners and probes in step with the model, and tells rule health from what the probes found.

One task does all the changing, woken by the model and by probe results. Rules that did not change are not
touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from testbed.azure.dataplane.interfaces import Interface
from testbed.azure.dataplane.listening import Listener
from testbed.azure.dataplane.probing import Prober
from testbed.azure.dataplane.selection import MemberHealth, Verdict, judge
from testbed.azure.dataplane.view import Probe, Rule, rules_of
from testbed.azure.errors import Json
from testbed.azure.health import health_answer
from testbed.azure.ids import ResourceId
from testbed.azure.store import Store

_LOG = logging.getLogger(__name__)
_IDLE_CHECKS = 20


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """`speed` divides intervals and timeouts (tests); `probe_source` is where probes come from.

    `interface`: where frontend addresses outside 127/8 are added; None: they are there already.
    """

    speed: float = 1.0
    probe_source: str | None = None
    interface: str | None = None


class DataPlane:
    """The traffic of all load balancers in the model."""

    def __init__(self, store: Store, settings: PlaneSettings) -> None:
        self._store = store
        self._settings = settings
        self._interface = Interface(settings.interface)
        self._own_addresses = {settings.probe_source} if settings.probe_source else set()
        self._listeners: dict[str, Listener] = {}
        self._probers: dict[tuple[str, str], Prober] = {}
        self._dirty = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self._interface.keep(self._own_addresses)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow()), loop.create_task(self._watch_idle())]
        for task in self._tasks:
            task.add_done_callback(_complain)

    async def stop(self) -> None:
        """End every flow and probe and give the addresses back."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for prober in self._probers.values():
            await prober.stop()
        for listener in self._listeners.values():
            await listener.close()
        await self._interface.restore()

    def wake(self) -> None:
        """Something has changed: look again."""
        self._dirty.set()

    # -- what others ask

    def rule_health(self, rule: ResourceId) -> Json:
        """The health of a rule's backends as Azure prints it; no backends where the rule carries no "
        "traffic."""
        found = self._listeners.get(rule.key)
        verdicts = self._verdicts(found.rule) if found else ()
        return health_answer([(one.member.address, one.state, one.reason) for one in verdicts])

    def states(self) -> list[Json]:
        """Every rule with its backends, its flows and whether it listens."""
        return [self._state(listener) for listener in self._listeners.values()]

    async def wait_until(self, reached: Callable[[list[Json]], bool], *, seconds: float = 10.0) -> list[Json]:
        """Wait for states that fit; the states.

        Raises TimeoutError.
        """
        async with asyncio.timeout(seconds):
            while not reached(states := self.states()):
                self._changed.clear()
                await self._changed.wait()
        return states

    def _state(self, listener: Listener) -> Json:
        rule = listener.rule
        return {
            "rule": rule.key,
            "frontend": f"{rule.frontend}:{rule.port}",
            "listening": listener.listening,
            "problem": listener.problem,
            "backends": [
                {
                    "address": verdict.member.address,
                    "state": verdict.state,
                    "reason": verdict.reason,
                    "flows": listener.active.get(verdict.member.address, 0),
                    "accepted": listener.accepted[verdict.member.address],
                }
                for verdict in self._verdicts(rule)
            ],
        }

    # -- the one task that changes things

    async def _follow(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._reconcile()
            except OSError:
                _LOG.exception("the data plane could not follow the model; it tries again at the next change")
            self._changed.set()

    async def _reconcile(self) -> None:
        rules = {rule.key: rule for rule in rules_of(self._store)}
        await self._follow_probes(list(rules.values()))
        for key in [key for key in self._listeners if self._moved(rules.get(key), self._listeners[key])]:
            await self._listeners.pop(key).close()
        await self._interface.keep({rule.frontend for rule in rules.values()} | self._own_addresses)
        for key, rule in rules.items():
            listener = self._listeners.setdefault(key, Listener(rule, self._changed.set))
            eligible = tuple(one.member.address for one in self._verdicts(rule) if one.up)
            await listener.update(rule, eligible)

    def _moved(self, rule: Rule | None, listener: Listener) -> bool:
        was = listener.rule
        return rule is None or (rule.frontend, rule.port) != (was.frontend, was.port)

    async def _follow_probes(self, rules: list[Rule]) -> None:
        wanted: dict[tuple[str, str], Probe] = {
            (rule.probe.key, member.address): rule.probe
            for rule in rules
            if rule.probe is not None
            for member in rule.members
        }
        for key in [key for key in self._probers if key not in wanted]:
            await self._probers.pop(key).stop()
        for key, probe in wanted.items():
            if key in self._probers:
                self._probers[key].probe = probe
                continue
            source, speed = self._settings.probe_source, self._settings.speed
            self._probers[key] = Prober(probe, key[1], source, speed, self.wake)
            self._probers[key].start()

    async def _watch_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            shortest = min((one.rule.idle_seconds for one in self._listeners.values()), default=240.0)
            await asyncio.sleep(shortest / self._settings.speed / _IDLE_CHECKS)
            for listener in self._listeners.values():
                listener.end_idle(loop.time(), self._settings.speed)

    def _verdicts(self, rule: Rule) -> tuple[Verdict, ...]:
        def health_of(address: str) -> MemberHealth:
            prober = self._probers.get((rule.probe.key, address)) if rule.probe else None
            return prober.health if prober else MemberHealth()

        return judge(rule, health_of)


def _complain(task: asyncio.Task[None]) -> None:
    """A data plane that has stopped following the model must not look as if it had not."""
    if not task.cancelled() and task.exception() is not None:
        _LOG.critical("the data plane has stopped", exc_info=task.exception())
