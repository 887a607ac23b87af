"""What all members of one machine share: who it is, its clocks, its launcher, its probe, its metrics.

Made once at the start; holds no member. The session with the API server joins later, and may never come.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from farmstead_agent.application.base import Launcher
from farmstead_agent.checks.http import HttpClient
from farmstead_agent.clock import Clock
from farmstead_agent.metrics import Metrics
from farmstead_agent.probe.answers import Answers
from farmstead_agent.settings import Settings
from farmstead_api.member import Member

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something worth an Event on a Member."""

    member: Member
    reason: str
    action: str
    note: str
    warning: bool = False


@dataclass(slots=True, kw_only=True)
class Machine:
    """This machine."""

    settings: Settings
    boot_id: str
    clock: Clock
    launcher: Launcher
    client: HttpClient
    metrics: Metrics
    answers: Answers
    tell: Callable[[Happening], None] = field(default=lambda _: None)
    """Takes what is worth an Event; nobody does while there is no session with the API server."""
    trouble: Callable[[], str] = field(default=lambda: "not connected yet")
    """Why Members are not followed now; empty while they are."""
    shutting_down: bool = False

    def directory(self, key: str) -> Path:
        """Where the agent keeps what it knows of the member `key`."""
        return Path(self.settings.state_directory) / "members" / key


def boot_id() -> str:
    """The kernel's id of this boot."""
    return BOOT_ID.read_text().strip()
