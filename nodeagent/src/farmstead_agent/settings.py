"""The machine's own file: who this agent is, and what clusters may do on this machine.

Read once at the start and frozen. What a cluster asks for never widens what this file allows.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from farmstead_agent.errors import SettingsError

ANY = "*"
NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the file's tables: a misspelt key is an error, not a silently unused one."""


class ProbeSettings(Section, frozen=True):
    """Where the load balancer asks."""

    address: str = "0.0.0.0"  # noqa: S104 - load balancers ask on whatever address the machine has
    port: int = 9010


class MetricsSettings(Section, frozen=True):
    """Where Prometheus reads; port 0 for none."""

    address: str = "127.0.0.1"
    port: int = 9011


class Allowed(Section, frozen=True):
    """What clusters may do on this machine, whatever the API says."""

    namespaces: tuple[str, ...] = (ANY,)
    directories: tuple[str, ...] = ("/etc/farmstead/scripts",)
    """Where `scripts.directory` may lie (there or below)."""
    carried_scripts: bool = True
    """Whether scripts carried in the API (ConfigMaps) may run here."""
    exec_checks: bool = True

    def namespace(self, name: str) -> bool:
        """Whether members of this namespace may run here."""
        return bool({ANY, name} & set(self.namespaces))

    def directory(self, path: str) -> bool:
        """Whether scripts may be taken from `path`; symbolic links and `..` are resolved first."""
        resolved = Path(path).resolve()
        return any(resolved.is_relative_to(Path(allowed).resolve()) for allowed in self.directories)


class LauncherSettings(Section, frozen=True):
    """How programs are started that must outlive the agent."""

    kind: str = "cgroup"
    root: str = ""
    """Directory in the cgroup2 tree that holds the members' groups; empty for <cgroup2>/farmstead."""


class Settings(Section, frozen=True):
    """The whole file."""

    node: str
    kubeconfig: str
    """Path of the kubeconfig; empty for the service account of the pod the agent runs in."""
    state_directory: str = "/var/lib/farmstead"
    control_socket: str = "/run/farmstead/agent.sock"
    lease_namespace: str = "farmstead-system"
    probe: ProbeSettings = ProbeSettings()
    metrics: MetricsSettings = MetricsSettings()
    allow: Allowed = Allowed()
    launcher: LauncherSettings = LauncherSettings()


def load(path: Path) -> Settings:
    """Read the machine's file. Raises SettingsError that names the file, the field and what is expected."""
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error
    return read(content, where=str(path))


def read(content: dict[str, Any], *, where: str) -> Settings:
    """Turn the file's content into settings; `where` names the file in errors."""
    try:
        settings = msgspec.convert(content, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}") from error
    if problem := _problem(settings):
        raise SettingsError(f"{where}: {problem}")
    return settings


def _problem(settings: Settings) -> str | None:  # noqa: PLR0911 - a list of checks reads best flat
    """What is wrong with values of the right type, if anything."""
    if not NODE_NAME.fullmatch(settings.node):
        return f"node: {settings.node!r} is no name of a FarmNode (lower case letters, digits, - and .)"
    paths = {"state_directory": settings.state_directory, "control_socket": settings.control_socket}
    if settings.kubeconfig:
        paths["kubeconfig"] = settings.kubeconfig
    for field, value in paths.items():
        if not value.startswith("/"):
            return f"{field}: {value!r} must be an absolute path"
    for directory in settings.allow.directories:
        if not directory.startswith("/"):
            return f"allow.directories: {directory!r} must be an absolute path"
    if not 1 <= settings.probe.port <= 65535:
        return f"probe.port: {settings.probe.port} is not between 1 and 65535"
    if not 0 <= settings.metrics.port <= 65535:
        return f"metrics.port: {settings.metrics.port} is not between 0 (off) and 65535"
    if settings.launcher.kind != "cgroup":
        return f"launcher.kind: {settings.launcher.kind!r} is not known; this agent has: cgroup"
    return None
