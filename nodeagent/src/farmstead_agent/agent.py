"""Puts the agent together: what is on disk first, then the probe, then the API server. Decides nothing itself.

The order is the point. Members that run are taken over before the probe answers, so its first answer is true;
the API server comes last and may be away for as long as it likes. SIGTERM ends the agent and nothing else.
"""

import asyncio
import contextlib
import fcntl
import importlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from farmstead_agent.application.launcher import CgroupLauncher
from farmstead_agent.checks.http import HttpClient
from farmstead_agent.clock import SystemClock
from farmstead_agent.commands import Commands
from farmstead_agent.control import Control
from farmstead_agent.errors import ConflictError, PermanentError
from farmstead_agent.machine import Machine, boot_id
from farmstead_agent.members import Members
from farmstead_agent.metrics import CONTENT_TYPE, Metrics
from farmstead_agent.probe.answers import Answers
from farmstead_agent.probe.responder import Answer, serve
from farmstead_agent.probe.sockets import listening, probe_socket
from farmstead_agent.settings import Settings

if TYPE_CHECKING:
    from farmstead_agent.kube.session import Session

log = logging.getLogger("farmstead.agent")
HEARTBEAT_SECONDS = 5.0


async def run(settings: Settings) -> None:
    """Be this machine's agent until SIGTERM or SIGINT.

    Raises PermanentError where this machine can't run members at all, ConflictError where another agent does.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with only_agent(Path(settings.state_directory)):
        await _live(settings, stopping)


async def _live(settings: Settings, stopping: asyncio.Event) -> None:
    heartbeat = Path(settings.state_directory) / "heartbeat"
    listener = probe_socket(settings.probe.address, settings.probe.port)
    launcher = CgroupLauncher(settings.launcher.root)
    if problem := launcher.problem():
        raise PermanentError(problem, reason="LauncherUnusable")
    metrics = Metrics()
    machine = Machine(
        settings=settings,
        boot_id=boot_id(),
        clock=SystemClock(),
        launcher=launcher,
        client=HttpClient(),
        metrics=metrics,
        answers=Answers(metrics),
    )
    members = Members(machine)
    await members.load(silent_seconds=silence(heartbeat))
    probe = await serve(listener, machine.answers.answer)
    log.info("the probe answers on port %d for %d members", settings.probe.port, len(members.entries))
    members.begin()
    control = Control(Path(settings.control_socket), Commands(machine, members).table())
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(control.run(), name="control"),
                group.create_task(_follow(machine, members), name="session"),
                group.create_task(_beat(heartbeat, members), name="heartbeat"),
                group.create_task(_serve_metrics(settings, metrics), name="metrics"),
            ]
            await stopping.wait()
            for task in tasks:
                task.cancel()
    finally:
        await members.end()
        _touch(heartbeat)
        await probe.close()
        launcher.close()
        await machine.client.close()
    log.info("the agent ends; what it has started runs on")


@contextlib.contextmanager
def only_agent(state: Path) -> Iterator[None]:
    """Hold the state directory. Raises ConflictError where another agent works from it."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConflictError(f"another agent works from {state}") from error
    else:
        yield
    finally:
        os.close(descriptor)


def silence(heartbeat: Path) -> float:
    """How long no agent has watched over this machine, in seconds."""
    try:
        return max(0.0, time.time() - heartbeat.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def _touch(heartbeat: Path) -> None:
    heartbeat.touch()


async def _beat(heartbeat: Path, members: Members) -> None:
    """Every few seconds: leave a sign of life for the next agent, and fetch what applications have written."""
    while True:
        _touch(heartbeat)
        for entry in members.entries.values():
            entry.runner.pump_output()
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _follow(machine: Machine, members: Members) -> None:
    """Work with the API server.

    What that takes is loaded now, in a thread, while the probe already answers: it is most of a start's time.
    """
    module = await asyncio.to_thread(importlib.import_module, "farmstead_agent.kube.session")
    session: Session = module.Session(machine.settings)
    await session.run(machine, members)


async def _serve_metrics(settings: Settings, metrics: Metrics) -> None:
    if not settings.metrics.port:
        return

    def answer(path: str) -> Answer:
        if path != "/metrics":
            return Answer(status=HTTPStatus.NOT_FOUND, body=b"/metrics\n")
        return Answer(status=HTTPStatus.OK, body=metrics.text(), content_type=CONTENT_TYPE)

    async with await serve(listening(settings.metrics.address, settings.metrics.port), answer):
        await asyncio.Event().wait()
