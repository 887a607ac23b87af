"""The mirror's daemon as users get it: a wheel, installed beside the agent, found there, and it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FIND = "from farmstead_agent.mirror.program import find_mirrorfs; print(find_mirrorfs())"


@pytest.mark.timeout(900)
def test_the_wheel_brings_a_program_that_the_agent_finds(tmp_path: Path) -> None:
    """Built by `make wheel-mirrorfs`; minutes where the cache has nothing of it, seconds otherwise."""
    subprocess.run(["make", "-s", "wheel-mirrorfs", f"WHEELS={tmp_path}"], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("farmstead_mirrorfs-*.whl")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = str(venv / "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-index", str(wheel)], check=True)
    # The agent's own code, by path: its dependencies are not what is tried here.
    sources = {"PYTHONPATH": str(ROOT / "nodeagent/src"), "PATH": "/usr/bin:/bin"}
    found = subprocess.run([python, "-c", FIND], env=sources, check=True, capture_output=True, text=True)
    program = Path(found.stdout.strip())
    assert program == venv / "bin/farmstead-mirrorfs"
    usage = subprocess.run([program], check=False, capture_output=True, text=True)
    assert "usage: farmstead-mirrorfs" in usage.stderr
