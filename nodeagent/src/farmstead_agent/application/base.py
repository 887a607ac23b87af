"""The two seams: what an application is to a member, and how programs are started that outlive the agent.

    member's runner -> Application (scripts; later systemd, container, virtualMachine)
                           -> Group of a Launcher (cgroup; later transient systemd units)

A step is one script or its counterpart of another kind. It goes on, and its result is kept, when the agent dies;
`resume` finds it again by its id. Nothing here knows of states or decisions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How a step has ended."""

    ok: bool
    message: str = ""
    """What went wrong, for people; empty when nothing did."""
    seconds: float = 0.0


LOST = StepResult(ok=False, message="it left no result: it was killed, together with its supervisor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a member's life, to be begun once; `id` is its name on disk and unique for the member."""

    id: str
    name: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run to its end."""

    id: str
    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    timeout_seconds: float
    stays: bool = False
    """What it leaves running is the application; of every other command nothing stays."""


class RunningStep(Protocol):
    """A step under way."""

    async def wait(self) -> StepResult:
        """Its result, as soon as it has ended; may be called again."""

    def abort(self) -> None:
        """Ask for its end now; `wait` tells when that has come."""


class Group(Protocol):
    """The processes of one member: those of the application, and the commands that run for it."""

    def pids(self) -> tuple[int, ...]:
        """The application's processes."""

    def alive(self) -> bool:
        """Whether the application has any process."""

    def kill(self) -> None:
        """SIGKILL to every process of the application, whatever it forks meanwhile."""

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when `alive` may have changed; the answer ends that."""

    async def begin(self, command: Command) -> RunningStep:
        """Run a command. Raises PermanentError where that is impossible on this machine."""

    async def resume(self, command_id: str) -> RunningStep | None:
        """The command begun under this id, running or ended; None where it was never begun."""

    def clean(self) -> None:
        """Forget ended commands."""

    def remove(self) -> None:
        """Undo the group, once nothing lives in it."""


class Launcher(Protocol):
    """Starts what must outlive the agent."""

    name: str

    def problem(self) -> str | None:
        """Why nothing can be started on this machine, with what to do about it; None where it can."""

    def group(self, key: str, directory: Path) -> Group:
        """The group called `key`; `directory` is the member's own, for results and output."""


class Application(Protocol):
    """One application of one member."""

    def problem(self) -> tuple[str, str] | None:
        """Reason and message why this machine can't or may not run it; None where it can."""

    def scripts(self) -> frozenset[str]:
        """The steps that it has; `start` and `stop` always."""

    async def begin(self, step: Step) -> RunningStep:
        """Begin a step. Raises PermanentError where that is impossible."""

    async def resume(self, step_id: str) -> RunningStep | None:
        """The step begun under this id, running or ended; None where it was never begun."""
