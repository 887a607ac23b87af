"""All members of this machine: their runners, the instructions on disk, and what the API says of them now.

Instructions are on disk before they are worked from. A member leaves this table only when the agent has reported
`Removed` and the API no longer holds it; one that merely vanishes stays, runs on and is counted as unconfirmed.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from farmstead_agent import store
from farmstead_agent.desired import Baseline, Verdict, judge
from farmstead_agent.errors import AgentError
from farmstead_agent.machine import Machine
from farmstead_agent.member.runner import MemberRunner
from farmstead_api.member import Member, MemberStatus

log = logging.getLogger("farmstead.members")
AGAIN_SECONDS = 5


@dataclass(slots=True, kw_only=True)
class Entry:
    """One member."""

    runner: MemberRunner
    changed: asyncio.Event
    """Set when its status may have to be written."""
    unconfirmed: str = ""
    """Why it runs though the API does not show what is applied; empty while all is well."""
    gone: bool = False
    """Whether the API holds no Member of this name: there is nowhere to report to."""
    stale_status: bool = False
    """Whether the API shows another status than the one that was written last."""
    baseline: Baseline | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Members:
    """The table, by <namespace>.<cluster>."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._begun = asyncio.Event()
        self.entries: dict[str, Entry] = {}
        self.table_changed = asyncio.Event()
        """Set when a member comes, goes, or is confirmed otherwise than before."""

    async def load(self, *, silent_seconds: float) -> None:
        """Take over every member that is on disk; their probes tell the truth when this returns."""
        root = Path(self._machine.settings.state_directory) / "members"
        found = [self._loaded(path) for path in sorted(root.glob("*/member.json"))]
        entries = [entry for entry in found if entry is not None]
        await asyncio.gather(*(entry.runner.adopt(silent_seconds=silent_seconds) for entry in entries))

    def begin(self) -> None:
        """Let all members live."""
        self._begun.set()
        for entry in self.entries.values():
            self._start(entry)

    async def end(self) -> None:
        """Stop working; nothing that runs is touched."""
        tasks = [task for entry in self.entries.values() for task in entry.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _loaded(self, path: Path) -> Entry | None:
        try:
            member = store.read(path, Member)
        except AgentError:
            log.exception("a member's instructions can't be read; it is left alone")
            return None
        if member is None:
            return None
        entry = self._entry(member)
        entry.unconfirmed = "the API server has not confirmed it since the agent started"
        return entry

    def _entry(self, member: Member) -> Entry:
        changed = asyncio.Event()
        runner = MemberRunner(self._machine, member, on_status=changed)
        entry = Entry(runner=runner, changed=changed)
        self.entries[runner.key] = entry
        self.table_changed.set()
        return entry

    def _start(self, entry: Entry) -> None:
        if not entry.tasks and self._begun.is_set():
            entry.tasks.append(asyncio.create_task(_live(entry.runner), name=f"member {entry.runner.label}"))

    # What the API says

    async def seen(self, member: Member) -> None:
        """The API holds this Member now."""
        key = f"{member.metadata.namespace}.{member.spec.cluster_ref.name}"
        entry = self.entries.get(key)
        if entry is None:
            await self._save(key, member)
            entry = self._entry(member)
            await entry.runner.adopt(silent_seconds=0.0)
            self._start(entry)
            return
        entry.gone = False
        if member.status != entry.runner.status:
            entry.stale_status = True
            entry.changed.set()
        judgement = judge(entry.runner.member, entry.baseline, member)
        entry.baseline = judgement.baseline
        self._confirm(entry, judgement.message)
        if judgement.verdict is Verdict.KEEP:
            log.warning("%s: %s", entry.runner.label, judgement.message)
            return
        if entry.runner.removed and entry.runner.member.metadata.uid != member.metadata.uid:
            await self._replace(key, entry, member)
        elif _instructions(member) != _instructions(entry.runner.member):
            await self._save(key, member)
            entry.runner.update(member)

    def gone(self, namespace: str, name: str) -> None:
        """The API holds no Member of this name any more."""
        for entry in list(self.entries.values()):
            if entry.runner.member.metadata.key == (namespace, name) and not entry.gone:
                entry.gone = True
                self._confirm(entry, "the API no longer holds it")
                if not self.drop_removed(entry):
                    log.warning("%s: its Member has vanished from the API; it runs on", entry.runner.label)

    def drop_removed(self, entry: Entry) -> bool:
        """Forget a member that is done: the agent has let go of it and the API no longer holds it."""
        if not (entry.gone and entry.runner.removed):
            return False
        self._drop(entry.runner.key, entry)
        return True

    def complete(self, shown: set[tuple[str, str]]) -> None:
        """These are all the Members that the API holds for this machine."""
        for entry in list(self.entries.values()):
            key = entry.runner.member.metadata.key
            if key not in shown:
                self.gone(*key)

    def _confirm(self, entry: Entry, problem: str) -> None:
        if entry.unconfirmed != problem:
            entry.unconfirmed = problem
            self.table_changed.set()

    async def _replace(self, key: str, entry: Entry, member: Member) -> None:
        """A cluster of the same name after one that is gone for good: a new life."""
        self._drop(key, entry)
        await self.seen(member)

    def _drop(self, key: str, entry: Entry) -> None:
        for task in entry.tasks:
            task.cancel()
        entry.runner.forget()
        del self.entries[key]
        self.table_changed.set()
        log.info("%s: the member is gone for good", entry.runner.label)

    async def _save(self, key: str, member: Member) -> None:
        await store.write(self._machine.directory(key) / "member.json", _instructions(member))

    @property
    def unconfirmed(self) -> dict[str, str]:
        """Members that run though the API does not show what is applied, and why: {<namespace>/<cluster>: reason}."""
        return {entry.runner.label: entry.unconfirmed for entry in self.entries.values() if entry.unconfirmed}


def _instructions(member: Member) -> Member:
    """What of a Member the agent works from: not its status, nor what every write of it changes."""
    return replace(member, status=MemberStatus(), metadata=replace(member.metadata, resource_version=""))


async def _live(runner: MemberRunner) -> None:
    """Let a member live, whatever befalls the loop: an error in one neither ends it nor touches another."""
    while True:
        try:
            await runner.run()
        except Exception:
            log.exception("%s: its loop failed; beginning it again in %d s", runner.label, AGAIN_SECONDS)
        await asyncio.sleep(AGAIN_SECONDS)
