"""The data path's program is found where its wheel was installed to, and its absence says where one looked."""

import sysconfig
from pathlib import Path

import pytest

from farmstead_agent.errors import PermanentError
from farmstead_agent.mirror.program import NAME, find_mirrorfs


def schemes(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have every installation scheme, and PATH, point into a folder of the test's own."""

    def path(_name: str, scheme: str = "venv", vars: dict[str, str] | None = None) -> str:  # noqa: A002 - sysconfig's
        return str(folder / ("base" if vars else scheme))

    monkeypatch.setattr(sysconfig, "get_path", path)
    monkeypatch.setenv("PATH", str(folder / "path"))


def install(folder: Path, *, mode: int = 0o755) -> Path:
    """A program in a folder."""
    folder.mkdir(exist_ok=True)
    program = folder / NAME
    program.touch(mode=mode)
    return program


def test_the_own_environment_comes_first_and_path_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schemes(monkeypatch, tmp_path)
    user = sysconfig.get_preferred_scheme("user")
    for place in ("path", user, "base", "venv"):
        program = install(tmp_path / place)
        assert find_mirrorfs() == program


def test_what_cannot_be_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schemes(monkeypatch, tmp_path)
    install(tmp_path / "venv").unlink()
    (tmp_path / "venv" / NAME).mkdir()
    program = install(tmp_path / "base")
    assert find_mirrorfs() == program


def test_its_absence_names_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schemes(monkeypatch, tmp_path)
    with pytest.raises(PermanentError, match=f"pip install {NAME}") as caught:
        find_mirrorfs()
    assert caught.value.reason == "MirrorfsNotInstalled"
    for place in ("venv", "base", sysconfig.get_preferred_scheme("user")):
        assert str(tmp_path / place / NAME) in str(caught.value)
