"""Plays a story of one member against the pure core: no process, no disk, no clock but the story's own.

A story file is read as lines. `# ...` and blank lines are for people; a line that begins in the first column is
something that happens; the indented lines below it are what the agent does about it, and are compared whole.

    spec KEY=JSON ...            the instructions change (camelCase, as in the API)
    scripts NAME ...             the scripts that the application has
    after SECONDS                time passes
    script ok | script fails WHY the script that runs ends
    dies | lives                 the application's last process ends; its first one appears
    check NAME up|down WHY       a check's verdict changes
    connections N                so many clients are connected
    delete | shutdown            the Member gets a deletionTimestamp; the machine goes down
    agent restarts | reboot      a new agent takes over; the machine boots
    recreated UID                a Member of the same name comes with another uid
"""

import json
import shlex
from collections.abc import Callable
from typing import Any

import msgspec

from farmstead_agent.failover.judge import in_window
from farmstead_agent.member.advance import started
from farmstead_agent.member.facts import CheckFact, Facts, Look, StepFact, StepState
from farmstead_agent.member.record import SCRIPTS, Phase, Record, adopted
from farmstead_agent.member.scripting import step_of
from farmstead_agent.member.turn import take
from farmstead_api.common import Check
from farmstead_api.common import Phase as CheckPhase
from farmstead_api.member import Member, MemberSpec, ResourceState

WALL = 1_800_000_000.0
SPEC: dict[str, Any] = {
    "clusterRef": {"kind": "FarmCluster", "name": "web"},
    "nodeName": "vm1",
    "revision": "r1",
    "applicationRevision": "a1",
    "application": {"scripts": {"directory": "/etc/farmstead/scripts"}},
}


class Story:
    """One member in a world that the story makes up."""

    def __init__(self) -> None:
        self._spec = dict(SPEC)
        self._uid = "uid-1"
        self._deleting = False
        self._shutdown = False
        self._now = 0.0
        self._boot = "boot-1"
        self._scripts = frozenset({"prestart", "start", "stop", "poststop"})
        self._alive = False
        self._connections = 0
        self._checks: dict[str, tuple[ResourceState, str]] = {}
        self._step = StepFact()
        self._record: Record | None = None
        self._shown: Look | None = None
        self._operation = ""
        self._said: list[str] = []

    def play(self, line: str) -> list[str]:
        """Let something happen; what the agent does about it, as lines."""
        self._said = []
        words = shlex.split(line)
        self._happenings()[words[0]](words[1:])
        self._settle()
        return self._said

    def _happenings(self) -> dict[str, Callable[[list[str]], None]]:
        return {
            "spec": self._change_spec,
            "scripts": lambda words: setattr(self, "_scripts", frozenset(words)),
            "after": lambda words: setattr(self, "_now", self._now + float(words[0])),
            "script": self._end_script,
            "dies": lambda _: setattr(self, "_alive", False),
            "lives": lambda _: setattr(self, "_alive", True),
            "check": self._change_check,
            "connections": lambda words: setattr(self, "_connections", int(words[0])),
            "delete": lambda _: setattr(self, "_deleting", True),
            "shutdown": lambda _: setattr(self, "_shutdown", True),
            "agent": lambda _: self._take_over(),
            "reboot": lambda _: self._reboot(),
            "recreated": self._recreate,
        }

    # What happens

    def _change_spec(self, words: list[str]) -> None:
        for word in words:
            key, _, value = word.partition("=")
            self._spec[key] = json.loads(value)

    def _end_script(self, words: list[str]) -> None:
        assert self._step.state is StepState.RUNNING, "no script runs"
        assert self._record is not None
        if words[0] == "fails":
            self._step = StepFact(state=StepState.FAILED, message=" ".join(words[1:]), ended=self._now)
            return
        self._step = StepFact(state=StepState.SUCCEEDED, ended=self._now)
        if self._record.phase is Phase.START:
            self._alive = True
        elif self._record.phase in {Phase.STOP, Phase.FORCE_STOP} and "alive" not in words:
            self._alive = False

    def _change_check(self, words: list[str]) -> None:
        self._checks[words[0]] = (ResourceState(words[1].capitalize()), " ".join(words[2:]))

    def _take_over(self) -> None:
        """A new agent: it knows what is on disk, and finds the script that was under way."""
        self._record = self._adopted()

    def _reboot(self) -> None:
        self._boot += "'"
        self._alive = self._shutdown = False
        self._connections = 0
        self._checks.clear()
        self._step = StepFact()
        self._take_over()

    def _recreate(self, words: list[str]) -> None:
        self._uid = words[0]
        self._deleting = False
        self._take_over()

    # What the agent does

    def _member(self) -> Member:
        meta: dict[str, Any] = {"name": "web.vm1", "namespace": "shop", "uid": self._uid, "generation": 1}
        if self._deleting:
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return msgspec.convert({"metadata": meta, "spec": self._spec}, Member)

    def _adopted(self) -> Record:
        return adopted(self._record, self._member(), boot_id=self._boot, alive=self._alive, now=self._now)

    def _settle(self) -> None:
        """Take turns until nothing is to be done any more."""
        for _ in range(20):
            if self._record is None:
                self._record = self._adopted()
            if self._record.phase is Phase.UP:
                self._record = started(self._record, alive=self._alive)
            facts = self._facts()
            turn = take(self._member().spec, facts, now=self._now, wall=WALL + self._now)
            self._record = turn.record
            self._show(turn.look)
            self._tell_operation()
            if turn.move is None or turn.moved is None:
                if turn.wake_after is not None:
                    self._said.append(f"(looks again in {turn.wake_after:.2f} s)")
                return
            self._said.append(f"{facts.record.phase} -> {turn.move.phase} ({turn.move.reason})")
            self._enter(turn.moved)
        raise AssertionError("it never comes to rest")

    def _enter(self, record: Record) -> None:
        before = self._record
        assert before is not None
        self._record = record
        if record.phase in {Phase.UP, Phase.IDLE}:
            gates = {check.name for check in self._member().spec.checks if check.phase is CheckPhase.BEFORE_START}
            self._checks = {name: state for name, state in self._checks.items() if name in gates}
        if self._step.state is StepState.RUNNING and record.phase is not Phase.REMOVED:
            self._said.append(f"break off {SCRIPTS[before.phase]}")
        self._step = StepFact(ended=self._now)
        if SCRIPTS.get(record.phase) in self._scripts:
            self._step = StepFact(state=StepState.RUNNING)
            step = step_of(record, self._member(), node="vm1")
            self._said.append(f"run {' '.join((step.name, *step.arguments))}")
        elif record.phase is Phase.KILL:
            self._said.append("SIGKILL to all of it")

    def _facts(self) -> Facts:
        spec: MemberSpec = self._member().spec
        record = self._record
        assert record is not None
        return Facts(
            record=record,
            deleting=self._deleting,
            shutdown=self._shutdown,
            scripts=self._scripts,
            step=self._step,
            alive=self._alive,
            connections=self._connections,
            checks=tuple(self._fact(check) for check in spec.checks),
            actions_in_window=len(in_window(record.automatic, now=WALL + self._now, failover=spec.failover)),
        )

    def _fact(self, check: Check) -> CheckFact:
        state, message = self._checks.get(check.name, (ResourceState.UNKNOWN, ""))
        return CheckFact(
            name=check.name,
            kind=check.kind,
            state=state,
            action=check.effective_action,
            phase=check.phase,
            message=message,
        )

    def _show(self, look: Look) -> None:
        if look != self._shown:
            self._shown = look
            probe = 200 if look.serving else 503
            self._said.append(f"[{probe}] {look.state}/{look.readiness} {look.reason}: {look.message}")

    def _tell_operation(self) -> None:
        assert self._record is not None
        operation = self._record.operation
        if operation is None:
            return
        text = f"operation {operation.status.uid} {operation.status.phase}"
        if text != self._operation:
            self._operation = text
            self._said.append(text)


def transcript(text: str) -> str:
    """The story with what the agent really does in the place of what it should do."""
    story, lines = Story(), []
    for line in text.splitlines():
        if line.startswith(" "):
            continue
        lines.append(line)
        if line and not line.startswith("#"):
            lines += [f"    {said}" for said in story.play(line)]
    return "\n".join(lines) + "\n"
