"""Applications that scripts start and stop: files on the machine, or text carried in the API.

Carried scripts are written to the member's directory under the application's revision, so that what was started by
one revision is stopped by the scripts of the same. What clusters may run here is limited by the machine's file.
"""

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from farmstead_agent.application.base import Command, Group, RunningStep, Step
from farmstead_agent.errors import PermanentError
from farmstead_agent.settings import Allowed
from farmstead_agent.store import write_now
from farmstead_api.common import Scripts

STEPS = ("prestart", "start", "stop", "poststop", "drain", "startSecondary", "transition")
REQUIRED = ("start", "stop")
STAYS = frozenset({"start", "startSecondary"})
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ScriptsApplication:
    """One set of scripts of one member."""

    def __init__(self, *, scripts: Scripts, revision: str, group: Group, directory: Path, allowed: Allowed) -> None:
        self._scripts = scripts
        self._group = group
        self._allowed = allowed
        self._carried = not scripts.directory
        self._directory = Path(scripts.directory) if scripts.directory else directory / "scripts" / (revision or "-")

    def problem(self) -> tuple[str, str] | None:
        """Whether this machine may run them, and whether start and stop are there."""
        if self._carried and not self._allowed.carried_scripts:
            message = "this machine runs no carried scripts (allow.carried_scripts in its file); use scripts.directory"
            return "CarriedScriptsForbidden", message
        if not self._carried and not self._allowed.directory(str(self._directory)):
            message = f"{self._directory} is not below a directory in allow.directories of the machine's file"
            return "DirectoryForbidden", message
        missing = [name for name in REQUIRED if name not in self.scripts()]
        if missing:
            where = "the carried scripts" if self._carried else self._directory
            return "ScriptMissing", f"{' and '.join(missing)} missing or not executable in {where}"
        return None

    def scripts(self) -> frozenset[str]:
        """The steps there are."""
        if self._carried:
            return frozenset(file.name for file in self._scripts.files)
        return frozenset(name for name in STEPS if os.access(self._directory / name, os.X_OK))

    async def begin(self, step: Step) -> RunningStep:
        """Run the script of this step."""
        if self._carried:
            await asyncio.to_thread(self._write)
        command = Command(
            id=step.id,
            name=step.name,
            arguments=(str(self._directory / step.name), *step.arguments),
            environment=self._environment(step.environment),
            directory="/",
            timeout_seconds=self._scripts.timeout_seconds,
            stays=step.name in STAYS,
        )
        return await self._group.begin(command)

    async def resume(self, step_id: str) -> RunningStep | None:
        """Find a step again."""
        return await self._group.resume(step_id)

    def _environment(self, step: Mapping[str, str]) -> dict[str, str]:
        own = {variable.name: variable.value for variable in self._scripts.environment}
        return {"PATH": PATH, "LANG": "C.UTF-8"} | own | dict(step)

    def _write(self) -> None:
        """Put carried scripts on disk once; a revision's scripts never change."""
        if self._directory.exists():
            return
        partial = self._directory.with_name(f".{self._directory.name}.new")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        for file in self._scripts.files:
            if file.name not in STEPS:
                raise PermanentError(f"{file.name!r} is no step: {', '.join(STEPS)}", reason="ScriptUnknown")
            write_now(partial / file.name, file.text.encode(), mode=0o700)
        partial.rename(self._directory)
