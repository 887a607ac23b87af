"""The control plane is a real one: roles hold, it goes away and comes back, and etcd travels in time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.controlplane import BuildError, CommandError, ControlPlane, programs
from testbed.leftovers import assert_nothing_left

SETTING = "get", "configmap", "setting", "-o", "jsonpath={.data.colour}"


async def set_colour(control_plane: ControlPlane, namespace: str, colour: str) -> None:
    await control_plane.kubectl("-n", namespace, "delete", "configmap", "setting", "--ignore-not-found")
    literal = f"--from-literal=colour={colour}"
    await control_plane.kubectl("-n", namespace, "create", "configmap", "setting", literal)


async def test_it_is_the_version_that_the_recipe_names(control_plane: ControlPlane) -> None:
    versions = json.loads(await control_plane.kubectl("version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"] == "v1.37.2"


async def test_a_user_may_do_what_roles_allow_and_nothing_else(control_plane: ControlPlane, namespace: str) -> None:
    await set_colour(control_plane, namespace, "red")
    agent = control_plane.kubeconfig_for(user="farmstead:node:vm1", groups=["farmstead:nodes"])
    with pytest.raises(CommandError, match=r'Forbidden.*"farmstead:node:vm1" cannot get resource "configmaps"'):
        await control_plane.kubectl("-n", namespace, *SETTING, kubeconfig=agent)

    role = "create", "role", "reader", "--verb=get", "--resource=configmaps"
    binding = "create", "rolebinding", "reader", "--role=reader", "--group=farmstead:nodes"
    await control_plane.kubectl("-n", namespace, *role)
    await control_plane.kubectl("-n", namespace, *binding)
    assert await control_plane.kubectl("-n", namespace, *SETTING, kubeconfig=agent) == "red"


async def test_it_comes_back_with_what_it_held(control_plane: ControlPlane, namespace: str) -> None:
    await set_colour(control_plane, namespace, "red")
    await control_plane.stop_apiserver()
    try:
        with pytest.raises(CommandError, match="refused"):
            await control_plane.kubectl("-n", namespace, *SETTING)
    finally:
        await control_plane.start_apiserver()
    assert await control_plane.kubectl("-n", namespace, *SETTING) == "red"


async def test_etcd_put_back_forgets_what_came_since(control_plane: ControlPlane, namespace: str) -> None:
    await set_colour(control_plane, namespace, "red")
    then = control_plane.snapshot_etcd()
    await set_colour(control_plane, namespace, "green")
    await control_plane.restore_etcd(then)
    assert await control_plane.kubectl("-n", namespace, *SETTING) == "red"


def test_a_killed_run_leaves_nothing(control_plane: ControlPlane) -> None:
    story = """
import asyncio, os, signal
from testbed.controlplane import ControlPlane
from testbed.run import Run

async def main():
    run = Run()
    async with ControlPlane(run):
        print(run.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    killed = subprocess.run([sys.executable, "-c", story], check=False, capture_output=True, text=True, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert_nothing_left(killed.stdout.strip())


def test_an_incomplete_folder_of_programs_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "etcd").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(BuildError, match="lacks kube-apiserver, kubectl: put them there, or unset"):
        programs()
