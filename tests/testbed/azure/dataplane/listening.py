"""One frontend address and port: the listening socket, its flows, and who new ones go to.

Listens only while there is a member to send to: with none, a client is refused at once (Azure lets it wait).
Which members are eligible is told by `plane`; joining two connections is `forwarding`'s.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable

from testbed.azure.dataplane.affinity import Flow, choose
from testbed.azure.dataplane.forwarding import FlowPair
from testbed.azure.dataplane.view import Rule

_LOG = logging.getLogger(__name__)
_BACKLOG = 1024


class Listener:
    """The data plane of one rule. `notify` is called when a flow comes or goes."""

    def __init__(self, rule: Rule, notify: Callable[[], None]) -> None:
        self.rule = rule
        self._notify = notify
        self.eligible: tuple[str, ...] = ()
        self.flows: set[FlowPair] = set()
        self.accepted: Counter[str] = Counter()
        self.problem = ""
        self._server: asyncio.Server | None = None

    @property
    def listening(self) -> bool:
        return self._server is not None

    @property
    def active(self) -> dict[str, int]:
        """Flows now, by member address."""
        return dict(Counter(flow.backend[0] for flow in self.flows if flow.backend is not None))

    async def update(self, rule: Rule, eligible: tuple[str, ...]) -> None:
        """Take over a changed rule or other eligible members; established flows stay, waiting ones move.

        Established flows stay even when no member is eligible: Standard load balancers let them continue.
        """
        self.rule, self.eligible = rule, eligible
        for flow in [one for one in self.flows if not one.connected]:
            if flow.backend is not None and flow.backend[0] not in eligible:
                flow.reroute()
        if eligible and self._server is None:
            await self._listen()
        if not eligible:
            self._stop_listening()

    async def close(self) -> None:
        """The rule is gone: no listener, no flows."""
        self._stop_listening()
        self._reset_flows()

    def end_idle(self, now: float, speed: float) -> None:
        """End flows over which nothing went for the rule's idle time: by reset, or by silence."""
        oldest = now - self.rule.idle_seconds / speed
        for flow in [one for one in self.flows if one.last_activity < oldest]:
            if self.rule.reset_when_idle:
                flow.reset()
            else:
                flow.forget()

    async def _listen(self) -> None:
        family = socket.AF_INET6 if ":" in self.rule.frontend else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        try:
            sock.bind((self.rule.frontend, self.rule.port))
        except OSError as error:
            sock.close()
            self.problem = f"can't listen on {self.rule.frontend}:{self.rule.port}: {error.strerror}"
            _LOG.warning("rule %s: %s", self.rule.key, self.problem)
            return
        self.problem = ""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_flow, sock=sock, backlog=_BACKLOG)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _reset_flows(self) -> None:
        for flow in list(self.flows):
            flow.reset()

    def _new_flow(self) -> asyncio.Protocol:
        return FlowPair(self._choose, self._started, self._ended).client_protocol()

    def _started(self, flow: FlowPair) -> None:
        self.flows.add(flow)
        self._notify()

    def _ended(self, flow: FlowPair) -> None:
        self.flows.discard(flow)
        self._notify()

    def _choose(self, peer: tuple[str, int]) -> tuple[str, int] | None:
        rule = self.rule
        member = choose(Flow(*peer, rule.frontend, rule.port), self.eligible, rule.affinity)
        if member is None:
            return None
        self.accepted[member] += 1
        return member, rule.backend_port
