"""Which kinds of applications this agent can run: the one place to add systemd, container and virtualMachine."""

from pathlib import Path

from farmstead_agent.application.base import Application, Group, RunningStep, Step
from farmstead_agent.application.scripts import ScriptsApplication
from farmstead_agent.errors import PermanentError
from farmstead_agent.settings import Allowed
from farmstead_api import common

SUPPORTED = ("scripts",)


class Unsupported:
    """An application of a kind that this agent does not know: it waits, and says why."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def problem(self) -> tuple[str, str] | None:
        """That it is not supported, and what is."""
        named = f"of kind {self._kind}" if self._kind else "of a kind that this agent does not know"
        message = f"an application {named} can't run here; this agent supports: {', '.join(SUPPORTED)}"
        return "ApplicationUnsupported", message

    def scripts(self) -> frozenset[str]:
        """None."""
        return frozenset()

    async def begin(self, step: Step) -> RunningStep:
        """Can't be begun."""
        raise PermanentError(f"{step.name} of an unsupported application", reason="ApplicationUnsupported")

    async def resume(self, step_id: str) -> RunningStep | None:
        """Was never begun."""
        del step_id
        return None


def application(
    spec: common.Application, *, revision: str, group: Group, directory: Path, allowed: Allowed
) -> Application:
    """The application that `spec` describes; `directory` is the member's own."""
    if spec.scripts is not None:
        return ScriptsApplication(
            scripts=spec.scripts, revision=revision, group=group, directory=directory, allowed=allowed
        )
    return Unsupported(spec.kind)
