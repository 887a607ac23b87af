"""Parts of a spec that clusters and members share: application, checks, failover, drain, probe."""

from collections.abc import Mapping
from enum import StrEnum

from farmstead_api.meta import View


class DesiredState(StrEnum):
    """What the user wants the application to do."""

    RUNNING = "Running"
    STOPPED = "Stopped"


class DeletionPolicy(StrEnum):
    """What deleting a cluster does to the application: stop it, or leave it running, unmanaged."""

    STOP = "Stop"
    ORPHAN = "Orphan"


class Switch(StrEnum):
    """A setting with two states today; an enum, since a third may come."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class ScriptText(View, frozen=True):
    """A script carried in the API: `name` is the step (start, stop, ...), `text` its content with a `#!` line."""

    name: str
    text: str


class ConfigMapReference(View, frozen=True):
    """A ConfigMap in the cluster's own namespace."""

    name: str


class EnvironmentVariable(View, frozen=True):
    """A variable that every script of the application gets."""

    name: str
    value: str = ""


class Scripts(View, frozen=True):
    """An application that scripts start and stop.

    The steps are `prestart start stop poststop drain startSecondary transition`; only `start` and `stop` must
    exist. They are executable files of those names in `directory`, or keys of `config_map`; in a Member the
    operator has replaced the ConfigMap by its content in `files`.
    """

    directory: str | None = None
    config_map: ConfigMapReference | None = None
    files: tuple[ScriptText, ...] = ()
    environment: tuple[EnvironmentVariable, ...] = ()
    timeout_seconds: int = 300
    """Limit of each script, in seconds; after it the next harder step is taken."""


class Systemd(View, frozen=True):
    """systemd units, started in this order and stopped in reverse."""

    units: tuple[str, ...]


class Container(View, frozen=True):
    """A container run by podman or docker on the machine."""

    image: str
    arguments: tuple[str, ...] = ()


class VirtualMachine(View, frozen=True):
    """A libvirt domain."""

    domain: str


class Application(View, frozen=True):
    """What runs: exactly one of the kinds."""

    scripts: Scripts | None = None
    systemd: Systemd | None = None
    container: Container | None = None
    virtual_machine: VirtualMachine | None = None

    @property
    def kind(self) -> str:
        """The field that is set: scripts, systemd, container or virtualMachine."""
        kinds = {
            "scripts": self.scripts,
            "systemd": self.systemd,
            "container": self.container,
            "virtualMachine": self.virtual_machine,
        }
        return next((name for name, value in kinds.items() if value is not None), "")


class Action(StrEnum):
    """What a failed check leads to."""

    RESTART = "Restart"
    """Stop and start in place; fails nothing over."""
    STOP_START = "StopStart"
    """Full stop, then start."""
    STOP = "Stop"
    WAIT = "Wait"
    """Stop and stay Waiting until the resource is up again, then start by itself."""
    SWITCHOVER = "Switchover"
    NONE = "None"


class Phase(StrEnum):
    """When a check runs."""

    BEFORE_START = "BeforeStart"
    WHILE_RUNNING = "WhileRunning"


class ProcessCheck(View, frozen=True):
    """Processes of the application, by name or command line; `name` compares with the executable's base name."""

    name: str | None = None
    command_line: str | None = None
    """A regular expression searched in the command line (arguments joined by spaces)."""
    at_least: int = 1
    at_most: int | None = None


class TcpCheck(View, frozen=True):
    """A TCP connection can be opened."""

    port: int
    address: str = "127.0.0.1"


class HttpCheck(View, frozen=True):
    """An HTTP request is answered as expected."""

    port: int
    address: str = "127.0.0.1"
    path: str = "/"
    scheme: str = "http"
    """http or https; https checks the certificate against `ca_file`, or not at all where that is not given."""
    method: str = "GET"
    host: str | None = None
    expect_status: tuple[int, ...] = (200,)
    expect_body: str | None = None
    """A regular expression searched in the first 64 KiB of the body."""
    ca_file: str | None = None


class ExecCheck(View, frozen=True):
    """A command's exit status: 0 is up; anything else, 124 and signals included, is down."""

    command: tuple[str, ...]


class Check(View, frozen=True):
    """One check: exactly one of the kinds, its timing, and what its failure leads to."""

    name: str
    process: ProcessCheck | None = None
    tcp: TcpCheck | None = None
    http: HttpCheck | None = None
    exec: ExecCheck | None = None
    interval_seconds: int = 10
    timeout_seconds: int = 5
    failure_threshold: int = 2
    success_threshold: int = 1
    initial_delay_seconds: int = 0
    phase: Phase = Phase.WHILE_RUNNING
    action: Action | None = None
    """None: the kind's own default, see `effective_action`."""

    @property
    def kind(self) -> str:
        """The field that is set: process, tcp, http or exec."""
        kinds = {"process": self.process, "tcp": self.tcp, "http": self.http, "exec": self.exec}
        return next((name for name, value in kinds.items() if value is not None), "")

    @property
    def effective_action(self) -> Action:
        """The action asked for, else the default of this kind of check (`docs/checks.md`)."""
        return self.action or DEFAULT_ACTIONS.get(self.kind, Action.NONE)


DEFAULT_ACTIONS: Mapping[str, Action] = {
    "process": Action.STOP_START,
    "tcp": Action.RESTART,
    "http": Action.RESTART,
    "exec": Action.NONE,
}


class Failover(View, frozen=True):
    """How many automatic actions are taken before the member stops and waits for a person."""

    max_actions: int = 3
    window_seconds: int = 86400


class Drain(View, frozen=True):
    """How long a planned stop waits for what clients still do, after the probe has turned to 503.

    At least `min_seconds` (never less than the load balancer needs to notice), then until no connection to a
    listener's port is left, at most `max_seconds`.
    """

    min_seconds: int = 0
    max_seconds: int = 60


class Probe(View, frozen=True):
    """How the load balancer asks a machine whether it may send clients there."""

    port: int = 9010
    interval_seconds: int = 5
    threshold: int = 1

    @property
    def notice_seconds(self) -> int:
        """How long a load balancer may go on sending new connections after the answer turned to 503, in seconds."""
        return self.interval_seconds * self.threshold + 1


class Maintenance(View, frozen=True):
    """What can be switched off on its own while somebody works on the machine."""

    checks: Switch = Switch.ENABLED
    """Disabled: checks report, and lead to no action."""
    start_at_boot: Switch = Switch.ENABLED
    """Disabled: after a reboot the member stays Stopped until an Operation Start."""
