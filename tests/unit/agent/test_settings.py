"""The machine's file: what is wrong in it is said with the field's name, and nothing is silently ignored."""

from pathlib import Path
from typing import Any

import pytest

from farmstead_agent.errors import SettingsError
from farmstead_agent.settings import Allowed, load, read

GOOD: dict[str, Any] = {"node": "vm1", "kubeconfig": "/etc/farmstead/kubeconfig"}


def test_the_defaults_are_enough() -> None:
    settings = read(GOOD, where="agent.toml")
    assert settings.probe.port == 9010
    assert settings.lease_namespace == "farmstead-system"
    assert settings.allow.carried_scripts


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"node": "VM 1"}, "node: 'VM 1' is no name of a FarmNode"),
        ({"node": 7}, "Expected `str`, got `int` - at `$.node`"),
        ({"nodename": "vm1"}, "unknown field `nodename`"),
        ({"state_directory": "var"}, "state_directory: 'var' must be an absolute path"),
        ({"kubeconfig": "config"}, "kubeconfig: 'config' must be an absolute path"),
        ({"probe": {"port": 0}}, "probe.port: 0 is not between 1 and 65535"),
        ({"probe": {"adress": "::"}}, "unknown field `adress` - at `$.probe`"),
        ({"metrics": {"port": 70000}}, "metrics.port: 70000 is not between 0 (off) and 65535"),
        ({"launcher": {"kind": "systemd"}}, "launcher.kind: 'systemd' is not known; this agent has: cgroup"),
        ({"allow": {"directories": ["scripts"]}}, "allow.directories: 'scripts' must be an absolute path"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(GOOD | changes, where="agent.toml")
    assert str(raised.value).startswith("agent.toml: ")
    assert complaint in str(raised.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(SettingsError, match="missing required field `node`"):
        read({}, where="agent.toml")


def test_a_file_that_is_not_there_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read: No such file"):
        load(tmp_path / "agent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("node = ")
    with pytest.raises(SettingsError, match="is not TOML"):
        load(broken)


def test_directories_are_compared_after_links_and_dots(tmp_path: Path) -> None:
    allowed = Allowed(directories=(str(tmp_path / "scripts"),))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "out").symlink_to(tmp_path / "elsewhere")
    assert allowed.directory(str(tmp_path / "scripts" / "web"))
    assert not allowed.directory(str(tmp_path / "scripts" / ".." / "elsewhere"))
    assert not allowed.directory(str(tmp_path / "scripts" / "out"))
    assert not allowed.directory(str(tmp_path / "scripts-of-others"))
