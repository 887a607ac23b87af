"""Does what `decide` says for one member: gathers facts, shows the outcome, makes the move, waits for the next reason.

One loop a member. Nothing is decided here; whatever happens (a script has ended, a check has changed its verdict,
the cgroup is empty, the spec is another one) only wakes the loop, which looks at all facts anew. The order within
a move matters: first the probe shows it, then the disk holds it, then it is done.
"""

import asyncio
import contextlib
import dataclasses
import logging
import shutil
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from farmstead_agent import store
from farmstead_agent.application.base import Application, RunningStep, Step, StepResult
from farmstead_agent.application.kinds import application
from farmstead_agent.application.output import Output
from farmstead_agent.checks.base import CheckState
from farmstead_agent.checks.running import CheckContext, Checks
from farmstead_agent.clock import timestamp
from farmstead_agent.connections import established
from farmstead_agent.errors import AgentError
from farmstead_agent.failover.judge import in_window
from farmstead_agent.machine import Happening, Machine
from farmstead_agent.member.advance import shown, started
from farmstead_agent.member.decide import decide
from farmstead_agent.member.facts import CheckFact, Facts, Look, Move, StepFact, StepState, Want
from farmstead_agent.member.history import History, Transition
from farmstead_agent.member.record import SCRIPTS, Phase, Record, adopted
from farmstead_agent.member.scripting import step_of
from farmstead_agent.member.status import clipped, member_status
from farmstead_agent.member.target import target
from farmstead_agent.member.turn import take
from farmstead_api.common import Check
from farmstead_api.common import Phase as CheckPhase
from farmstead_api.member import Member, MemberStatus, ResourceState, ResourceStatus

log = logging.getLogger("farmstead.member")
BEFORE_RUNNING = frozenset({Phase.IDLE, Phase.PRESTART, Phase.START})
FIRST_ANSWERS_SECONDS = 2.0


class MemberRunner:
    """One member's life."""

    def __init__(self, machine: Machine, member: Member, *, on_status: asyncio.Event) -> None:
        self.member = member
        self.namespace = member.metadata.namespace
        self.cluster = member.spec.cluster_ref.name
        self.key = f"{self.namespace}.{self.cluster}"
        self.label = f"{self.namespace}/{self.cluster}"
        self._machine = machine
        self._directory: Path = machine.directory(self.key)
        self._group = machine.launcher.group(self.key, self._directory)
        self._wake = asyncio.Event()
        self._on_status = on_status
        self._output = Output(self.label, self._directory)
        self.history = History(self._directory / "history.jsonl")
        self._checks = Checks(
            CheckContext(
                label=self.label,
                pids=self._group.pids,
                client=machine.client,
                clock=machine.clock,
                metrics=machine.metrics,
                exec_allowed=machine.settings.allow.exec_checks,
            ),
            self._wake.set,
        )
        self._record = Record(uid=member.metadata.uid, boot_id=machine.boot_id)
        self._saved: Record | None = None
        self._look: Look | None = None
        self._step = StepFact()
        self._handle: RunningStep | None = None
        self._follower: asyncio.Task[None] | None = None
        self.status = MemberStatus()
        self.rest = asyncio.Event()
        """Set while nothing of it runs and nothing is being done."""

    # What others tell it

    def update(self, member: Member) -> None:
        """Work from these instructions from now on."""
        self.member = member
        self._wake.set()

    def prepare_shutdown(self) -> None:
        """The machine goes down: `rest` tells when nothing of this member runs any more."""
        self.rest.clear()
        self._wake.set()

    @property
    def removed(self) -> bool:
        """Whether the agent has let go of the application for good."""
        return self._record.phase is Phase.REMOVED

    @property
    def look(self) -> Look | None:
        """How it shows now."""
        return self._look

    @property
    def step_running(self) -> str:
        """The script that runs now, if one does."""
        return self._record.step_id if self._step.state is StepState.RUNNING else ""

    # Beginning

    async def adopt(self, *, silent_seconds: float) -> None:
        """Take over what the last agent left, without touching it; `silent_seconds` is how long there was none.

        Returns when what the member shows is true: checks that the last agent had found Up count as Up where it
        has not been away longer than they need to find a failure, and each has been asked once, if it answers in
        time.
        """
        record = store.read(self._directory / "record.json", Record)
        if record is None:
            self._group.clean()  # what an earlier member of this name has left must not pass for ours
        alive = self._group.alive()
        now = self._machine.clock.monotonic()
        self._record = adopted(record, self.member, boot_id=self._machine.boot_id, alive=alive, now=now)
        self._saved = record
        self._group.watch(self._wake.set)
        if self._record.phase is Phase.UP:
            self._checks.forget(self._known_checks(silent_seconds))
            self._checks.run(self._wanted_checks())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_ANSWERS_SECONDS):
                    await self._checks.first_answers()
        await self._resume()
        facts = self._facts()
        look = decide(self.member.spec, facts, now).look
        self._record = shown(self._record, look, wall=self._machine.clock.time())
        self._show(look, facts)
        log.info("%s: taken over: %s", self.label, self._record.phase)

    def _known_checks(self, silent_seconds: float) -> dict[str, CheckState]:
        """What the last agent knew of each running check, as far as it still holds."""
        before = {status.name: status for status in self._record.checks}
        known = {}
        for check in self.member.spec.checks:
            status = before.get(check.name)
            fresh = silent_seconds <= check.interval_seconds * check.failure_threshold + check.timeout_seconds
            if status is None or not fresh:
                known[check.name] = CheckState()
                self._record = replace(self._record, was_ready=False)  # until it has passed again
                continue
            known[check.name] = CheckState(
                state=status.state,
                since=datetime.fromisoformat(status.since).timestamp(),
                message=status.message,
                passed=status.state is ResourceState.UP,
            )
        return known

    async def _resume(self) -> None:
        """Find the script that was under way again, or begin it where the last agent did not come to it."""
        if not self._script_exists():
            return
        handle = await self._application().resume(self._record.step_id)
        if handle is None:
            await self._begin()
        else:
            self._follow(handle)

    # The loop

    async def run(self) -> None:
        """Live; ends only by cancellation, which touches nothing that runs."""
        try:
            while True:
                self._wake.clear()
                wait = await self._turn()
                if wait is None or wait > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self._wake.wait()
        finally:
            self._checks.run(())
            if self._follower is not None:
                self._follower.cancel()

    async def _turn(self) -> float | None:
        """Look once, and act; how long to wait before the next look (0: not at all)."""
        clock = self._machine.clock
        self._absorb()
        facts = self._facts()
        turn = take(self.member.spec, facts, now=clock.monotonic(), wall=clock.time())
        self._record = turn.record
        self._show(turn.look, facts)
        if turn.move is not None and turn.moved is not None:
            await self._make(turn.move, turn.moved)
            return 0.0
        self._checks.run(self._wanted_checks())
        if self._record.phase is Phase.KILL:
            self._group.kill()
        elif self._record.phase in {Phase.IDLE, Phase.REMOVED}:
            self.rest.set()
        await self._save()
        return turn.wake_after

    def _absorb(self) -> None:
        """Take what has been seen since the last look into the record."""
        if self._record.phase is Phase.UP:
            self._record = started(self._record, alive=self._group.alive())
        seen = tuple(
            ResourceStatus(name=name, state=state.state, since=timestamp(state.since), message=clipped(state.message))
            for name, state in self._checks.states.items()
            if state.since
        )
        if [(s.name, s.state) for s in seen] != [(s.name, s.state) for s in self._record.checks]:
            self._record = replace(self._record, checks=seen)

    async def _make(self, move: Move, after: Record) -> None:
        """Show the move, write it down, do it."""
        before, now = self._record, self._machine.clock.monotonic()
        self.rest.clear()
        self._remember(before, move, now)
        self._record = after
        if before.phase is Phase.UP:
            self._checks.run(())
        if move.phase in {Phase.UP, Phase.IDLE}:
            self._checks.forget()
        interrupted = (
            self._handle if self._step.state is StepState.RUNNING and move.phase is not Phase.REMOVED else None
        )
        if self._follower is not None:
            self._follower.cancel()
        scripted = self._script_exists()
        self._step = StepFact(state=StepState.RUNNING) if scripted else StepFact(ended=now)
        facts = self._facts()
        look = decide(self.member.spec, facts, now).look
        self._record = shown(self._record, look, wall=self._machine.clock.time())
        self._show(look, facts)
        await self._save()
        if interrupted is not None:
            interrupted.abort()
            await interrupted.wait()
        if scripted:
            await self._begin()
        elif move.phase is Phase.KILL:
            self._group.kill()
        elif move.phase in {Phase.UP, Phase.IDLE, Phase.REMOVED}:
            self._output.pump()
            self._group.clean()

    # Facts

    def _facts(self) -> Facts:
        spec, record = self.member.spec, self._record
        draining = record.phase is Phase.DRAIN
        in_force = in_window(record.automatic, now=self._machine.clock.time(), failover=spec.failover)
        return Facts(
            record=record,
            deleting=self.member.metadata.deleting,
            shutdown=self._machine.shutting_down,
            problem=self._problem(),
            scripts=self._application().scripts(),
            step=self._step,
            alive=self._group.alive(),
            connections=established([listener.port for listener in spec.listeners]) if draining else None,
            checks=tuple(self._check_fact(check) for check in spec.checks),
            actions_in_window=len(in_force),
        )

    def _check_fact(self, check: Check) -> CheckFact:
        state = self._checks.states.get(check.name, CheckState())
        return CheckFact(
            name=check.name,
            kind=check.kind,
            state=state.state,
            action=check.effective_action,
            phase=check.phase,
            message=state.message,
        )

    def _problem(self) -> tuple[str, str] | None:
        if not self._machine.settings.allow.namespace(self.namespace):
            message = f"this machine's file does not allow namespace {self.namespace} (allow.namespaces)"
            return "NamespaceForbidden", message
        return self._new_application().problem()

    def _wanted_checks(self) -> list[Check]:
        """The checks that are to run in this phase."""
        spec, record = self.member.spec, self._record
        if record.phase is Phase.UP:
            return [check for check in spec.checks if check.phase is CheckPhase.WHILE_RUNNING]
        if record.phase is not Phase.IDLE or target(spec, self._facts()).want not in {Want.RUN, Want.WAIT}:
            return []
        return [
            check for check in spec.checks if check.phase is CheckPhase.BEFORE_START or check.name == record.waiting_on
        ]

    # Scripts

    def _new_application(self) -> Application:
        """What the spec asks for."""
        spec = self.member.spec
        return application(
            spec.application,
            revision=spec.application_revision,
            group=self._group,
            directory=self._directory,
            allowed=self._machine.settings.allow,
        )

    def _application(self) -> Application:
        """What this phase is about: what is to be started, or what was."""
        running = self._record.running
        if running is None or self._record.phase in BEFORE_RUNNING:
            return self._new_application()
        return application(
            running.application,
            revision=running.revision,
            group=self._group,
            directory=self._directory,
            allowed=self._machine.settings.allow,
        )

    def _script_exists(self) -> bool:
        script = SCRIPTS.get(self._record.phase)
        return script is not None and script in self._application().scripts()

    async def _begin(self) -> None:
        """Begin the script of this phase."""
        step: Step = step_of(self._record, self.member, node=self._machine.settings.node)
        try:
            self._follow(await self._application().begin(step))
        except (AgentError, OSError) as error:
            self._ended(StepResult(ok=False, message=f"it can't be run: {error}"))

    def _follow(self, handle: RunningStep) -> None:
        self._step = StepFact(state=StepState.RUNNING)
        self._handle = handle
        self._follower = asyncio.create_task(self._wait_for(handle), name=f"step {self.label} {self._record.step_id}")

    async def _wait_for(self, handle: RunningStep) -> None:
        self._ended(await handle.wait())

    def _ended(self, result: StepResult) -> None:
        """The script of this phase has ended."""
        script = SCRIPTS[self._record.phase]
        self._output.pump()
        self._machine.metrics.scripts.labels(self.label, script).observe(result.seconds)
        log.log(
            logging.INFO if result.ok else logging.WARNING,
            "%s: script %s %s",
            self.label,
            script,
            f"ended after {result.seconds:.2f} s" if result.ok else f"failed: {result.message}",
        )
        state = StepState.SUCCEEDED if result.ok else StepState.FAILED
        message = result.message
        if not result.ok and (last := self._output.last_line(script)):
            message = f"{message}; its last words: {last}"
        self._step = StepFact(state=state, message=message, ended=self._machine.clock.monotonic())
        self._wake.set()

    def pump_output(self) -> None:
        """Log what the application has written since the last time."""
        self._output.pump()

    # Showing

    def _show(self, look: Look, facts: Facts) -> None:
        """Show the member as it is, the probe first."""
        self._machine.answers.show(self.namespace, self.cluster, look)
        before, self._look = self._look, look
        if before is None or (before.state, before.readiness) != (look.state, look.readiness):
            log.info("%s: %s/%s %s: %s", self.label, look.state, look.readiness, look.reason, look.message)
            if before is not None:
                self._machine.metrics.members.remove(self.label, before.state, before.readiness)
            self._machine.metrics.members.labels(self.label, look.state, look.readiness).set(1)
            if look.serving and before is not None:
                self._tell("Ready", "Serve", look.message)
        self._report(dataclasses.replace(facts, record=self._record))

    def _report(self, facts: Facts) -> None:
        """Let the status be written where it is another one now."""
        assert self._look is not None  # noqa: S101 - nothing reports before it shows
        status = member_status(
            self.member,
            facts,
            self._look,
            boot_id=self._machine.boot_id,
            wall=self._machine.clock.time(),
        )
        if status != self.status:
            self.status = status
            self._on_status.set()

    def _remember(self, before: Record, move: Move, now: float) -> None:
        """Keep the transition, count the act, tell of it."""
        self.history.add(
            Transition(
                time=timestamp(self._machine.clock.time()),
                before=before.phase,
                after=move.phase,
                reason=move.reason,
                cause=move.cause,
                seconds=round(now - before.since, 3),
                result=self._step.message or ("ok" if before.step_id else ""),
            )
        )
        log.info("%s: %s -> %s (%s: %s)", self.label, before.phase, move.phase, move.reason, move.cause)
        if move.action:
            self._machine.metrics.actions.labels(self.label, move.action).inc()
            self._tell(move.reason, move.action, move.cause, warning=move.automatic or bool(move.give_up))
        if move.give_up:
            self._tell("GivenUp", "Stop", move.give_up, warning=True)

    def _tell(self, reason: str, action: str, note: str, *, warning: bool = False) -> None:
        self._machine.tell(Happening(member=self.member, reason=reason, action=action, note=note, warning=warning))

    async def _save(self) -> None:
        if self._record != self._saved:
            record = self._record
            await store.write(self._directory / "record.json", record)
            self._saved = record

    def forget(self) -> None:
        """The member is no more: out of the probe, the metrics and the disk, unless its application runs on."""
        self._machine.answers.forget(self.namespace, self.cluster)
        if self._look is not None:
            self._machine.metrics.members.remove(self.label, self._look.state, self._look.readiness)
        if not self._group.alive():
            self._group.remove()
            shutil.rmtree(self._directory, ignore_errors=True)
