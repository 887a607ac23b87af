"""The cgroup launcher: programs that outlive the agent, with cgroup v2 and a supervisor process for each script.

    <root>/<namespace>.<cluster>/app             what `start` leaves running: the application
                                /steps/<id>      the supervisor of one script
                                /steps/<id>/run  that script, unless it is `start` (which runs in app)

On disk, in the member's directory: steps/<id>.json (what is to run), <id>.begun.json (a supervisor has taken it),
<id>.result.json (how it ended), output/<name>.log (what it wrote). All of it is found again by the next agent.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from farmstead_agent.application import cgroups, pidfds
from farmstead_agent.application.base import LOST, Command, Group, RunningStep, StepResult
from farmstead_agent.errors import PermanentError

SUPERVISOR = Path(__file__).with_name("supervisor.py")


class CgroupLauncher:
    """Starts everything below one cgroup."""

    name = "cgroup"

    def __init__(self, root: str = "") -> None:
        self._configured = root
        self._watcher = cgroups.Watcher()
        self._root: Path | None = None

    def problem(self) -> str | None:
        """Why nothing can be started; tried anew until it works."""
        if self._root is not None:
            return None
        try:
            root = Path(self._configured) if self._configured else cgroups.default_root()
            cgroups.make(root)
        except PermanentError as error:
            return str(error)
        self._root = root
        return None

    def group(self, key: str, directory: Path) -> Group:
        """The group of one member."""
        if problem := self.problem():
            raise PermanentError(problem, reason="LauncherUnusable")
        assert self._root is not None  # noqa: S101 - set by problem()
        return CgroupGroup(path=self._root / key, directory=directory, watcher=self._watcher)

    def close(self) -> None:
        """Stop watching; nothing that runs is touched."""
        self._watcher.close()


class CgroupGroup:
    """The processes of one member."""

    def __init__(self, *, path: Path, directory: Path, watcher: cgroups.Watcher) -> None:
        self._path = path
        self._app = path / "app"
        self._directory = directory
        self._watcher = watcher

    def pids(self) -> tuple[int, ...]:
        """The application's processes."""
        return cgroups.pids_below(self._app)

    def alive(self) -> bool:
        """Whether the application has any process."""
        return cgroups.populated(self._app)

    def kill(self) -> None:
        """SIGKILL to every process of the application."""
        cgroups.kill(self._app)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when the application's first process appears or its last one ends."""
        cgroups.make(self._app)
        return self._watcher.watch(self._app, callback)

    async def begin(self, command: Command) -> RunningStep:
        """Run a command under a supervisor of its own."""
        supervisor_group = self._path / "steps" / command.id
        script_group = self._app if command.stays else supervisor_group / "run"
        for group in (supervisor_group, script_group):
            cgroups.make(group)
        files = self._files(command.id)
        output = self._directory / "output" / f"{command.name}.log"
        for path in (files.command, output):
            path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "supervisor_group": str(supervisor_group),
            "group": str(script_group),
            "arguments": command.arguments,
            "environment": dict(command.environment),
            "directory": command.directory,
            "timeout": command.timeout_seconds,
            "stays": command.stays,
            "output": str(output),
            "begun": str(files.begun),
            "result": str(files.result),
        }
        files.command.write_text(json.dumps(content))
        files.command.chmod(0o600)
        await self._spawn(files.command)
        return SupervisedStep(group=supervisor_group, result=files.result)

    async def _spawn(self, command: Path) -> None:
        """Start the supervisor; it has left the agent's process tree when this returns."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(SUPERVISOR),
            str(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode:
            last = errors.decode(errors="replace").strip().splitlines()[-1:]
            raise PermanentError(f"the supervisor did not start: {''.join(last)}", reason="LauncherUnusable")

    async def resume(self, command_id: str) -> RunningStep | None:
        """Find a command again, by what is on disk and what lives in its cgroup."""
        files = self._files(command_id)
        if not files.begun.exists():
            return None
        return SupervisedStep(group=self._path / "steps" / command_id, result=files.result)

    def clean(self) -> None:
        """Forget ended commands."""
        steps = self._path / "steps"
        for file in (self._directory / "steps").glob("*.json"):
            if not cgroups.populated(steps / file.name.split(".", 1)[0]):
                file.unlink(missing_ok=True)
        cgroups.remove(steps)

    def remove(self) -> None:
        """Undo the group, as far as it is empty."""
        cgroups.remove(self._path)

    def _files(self, command_id: str) -> "_Files":
        return _Files(self._directory / "steps", command_id)


class _Files:
    """Where a command's description and result lie."""

    def __init__(self, directory: Path, command_id: str) -> None:
        self.command = directory / f"{command_id}.json"
        self.begun = directory / f"{command_id}.begun.json"
        """There as soon as a supervisor has taken the command: it is made once, so no command runs twice."""
        self.result = directory / f"{command_id}.result.json"


class SupervisedStep:
    """A script whose supervisor lives in a cgroup of its own: that cgroup tells whether it still runs."""

    def __init__(self, *, group: Path, result: Path) -> None:
        self._group = group
        self._result = result

    async def wait(self) -> StepResult:
        """The result, as soon as the supervisor has ended."""
        while supervisors := cgroups.pids(self._group):
            descriptors = pidfds.opened(supervisors)
            try:
                if descriptors:
                    await pidfds.ended(descriptors)
            finally:
                pidfds.close(descriptors)
        return self._read()

    def abort(self) -> None:
        """Tell the supervisor to end the script."""
        for pid in cgroups.pids(self._group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _read(self) -> StepResult:
        try:
            content = json.loads(self._result.read_bytes())
        except (OSError, ValueError):
            return LOST
        return described(content["status"], ended_by=content["ended_by"], seconds=content["seconds"])


def described(status: int, *, ended_by: str, seconds: float) -> StepResult:
    """A script's end in words; `status` is negative for a signal."""
    if ended_by == "timeout":
        message = f"it exceeded its limit and was ended after {seconds:.0f} s"
    elif ended_by == "abort":
        message = f"it was broken off after {seconds:.1f} s"
    elif status < 0:
        message = f"it was ended by {signal.Signals(-status).name}"
    elif status:
        message = f"it ended with exit status {status}"
    else:
        return StepResult(ok=True, seconds=seconds)
    return StepResult(ok=False, message=message, seconds=seconds)
