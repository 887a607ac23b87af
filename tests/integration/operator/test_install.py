"""The README's installation on a fresh control plane: it is taken, the samples too, and rights are as designed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
import yaml

from farmstead_operator.settings import read_settings
from testbed.controlplane import ControlPlane
from testbed.farm import OPERATOR_USER
from testbed.run import Run

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "manifests/samples"
AGENT = "farmstead:node:vm1"
PEOPLE = {"ada": "farmstead-administrators", "otto": "farmstead-operators", "mona": "farmstead-monitors"}

# who, verb, resource (group in front), namespace or "": whether they may. One line a sentence of 'who may do what'.
RIGHTS = """
agent     list    farmstead.dev/members                -                 yes
agent     watch   farmstead.dev/members                -                 yes
agent     get     farmstead.dev/farmnodes              -                 yes
agent     patch   farmstead.dev/members/status         shop              yes
agent     patch   farmstead.dev/farmnodes/status       -                 yes
agent     patch   coordination.k8s.io/leases           farmstead-system  yes
agent     create  events.k8s.io/events                 shop              yes
agent     patch   farmstead.dev/members                shop              no
agent     create  farmstead.dev/members                shop              no
agent     delete  farmstead.dev/members                shop              no
agent     patch   farmstead.dev/farmnodes              -                 no
agent     create  farmstead.dev/farmnodes              -                 no
agent     list    farmstead.dev/farmclusters           shop              no
agent     patch   farmstead.dev/farmclusters/status    shop              no
agent     create  farmstead.dev/operations             shop              no
agent     get     /configmaps                          shop              no
agent     get     /secrets                             shop              no
agent     get     /secrets                             farmstead-system  no
agent     patch   coordination.k8s.io/leases           shop              no
agent     delete  coordination.k8s.io/leases           farmstead-system  no
agent     delete  events.k8s.io/events                 shop              no
agent     create  /pods                                shop              no
operator  watch   farmstead.dev/farmclusters           -                 yes
operator  patch   farmstead.dev/farmclusters/status    shop              yes
operator  patch   farmstead.dev/members                shop              yes
operator  delete  farmstead.dev/members                shop              yes
operator  get     /configmaps                          shop              yes
operator  create  farmstead.dev/farmclusters           shop              no
operator  delete  farmstead.dev/farmclusters           shop              no
operator  patch   farmstead.dev/members/status         shop              no
operator  patch   farmstead.dev/farmnodes              -                 no
operator  patch   farmstead.dev/farmnodes/status       -                 no
operator  create  farmstead.dev/operations             shop              no
operator  patch   /configmaps                          shop              no
operator  get     /secrets                             farmstead-system  no
operator  update  coordination.k8s.io/leases           farmstead-system  no
ada       patch   farmstead.dev/farmclusters           shop              yes
ada       create  farmstead.dev/operations             shop              no
ada       patch   farmstead.dev/members                shop              no
otto      create  farmstead.dev/operations             shop              yes
otto      patch   farmstead.dev/operations             shop              no
otto      patch   farmstead.dev/farmclusters           shop              no
mona      list    farmstead.dev/members                shop              yes
mona      create  farmstead.dev/operations             shop              no
mona      delete  farmstead.dev/farmclusters           shop              no
mona      list    farmstead.dev/members                farmstead-system  no
"""


@pytest_asyncio.fixture
async def fresh() -> AsyncIterator[ControlPlane]:
    """A control plane that nothing was ever applied to."""
    with Run() as run:
        async with ControlPlane(run) as control_plane:
            yield control_plane


async def test_the_readme_installs_it(fresh: ControlPlane) -> None:
    await fresh.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    await fresh.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/base"))
    await fresh.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    await fresh.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/base"))  # an upgrade is the same command
    await fresh.kubectl("create", "namespace", "shop")
    await _samples(fresh)
    for person, role in PEOPLE.items():
        await fresh.kubectl("create", "rolebinding", person, "-n", "shop", f"--clusterrole={role}", f"--user={person}")
    assert await _answers(fresh) == [line.split() for line in RIGHTS.strip().splitlines()]


async def _samples(fresh: ControlPlane) -> None:
    for sample in ("farmnodes", "nginx/nginx-scripts", "farmcluster"):
        await fresh.kubectl("apply", "-n", "shop", "-f", str(SAMPLES / f"{sample}.yaml"))
    await fresh.kubectl("create", "-n", "shop", "-f", str(SAMPLES / "operation.yaml"))
    assert "Port on the load balancer" in await fresh.kubectl("explain", "farmcluster.spec.listeners.port")


async def _answers(fresh: ControlPlane) -> list[list[str]]:
    """RIGHTS, as the API server answers them, all in one request."""
    rows = [line.split() for line in RIGHTS.strip().splitlines()]
    asked = {"apiVersion": "v1", "kind": "List", "items": [_question(*row[:4]) for row in rows]}
    allowed = "jsonpath={.status.allowed}{'\\n'}"
    answers = (await fresh.kubectl("create", "-f", "-", "-o", allowed, stdin=json.dumps(asked))).split()
    words = ["yes" if answer == "true" else "no" for answer in answers]
    return [[*row[:4], word] for row, word in zip(rows, words, strict=True)]


def _question(who: str, verb: str, what: str, where: str) -> dict[str, Any]:
    group, resource, *sub = what.split("/")
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": where.strip("-")}
    if sub:
        attributes["subresource"] = sub[0]
    user = {"agent": AGENT, "operator": OPERATOR_USER}.get(who, who)
    groups = ["system:authenticated", *(["farmstead:nodes"] if who == "agent" else [])]
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
    }


def test_what_the_manifests_say_fits_what_the_operator_reads(tmp_path: Path) -> None:
    config, deployment, _ = yaml.safe_load_all((ROOT / "manifests/base/operator.yaml").read_text())
    file = tmp_path / "settings.yaml"
    file.write_text(config["data"]["settings.yaml"])
    settings = read_settings(file, {"POD_NAME": "pod"})
    pod = deployment["spec"]["template"]["spec"]
    assert settings.namespace == config["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    assert settings.http.port == pod["containers"][0]["ports"][0]["containerPort"]
    rights = list(yaml.safe_load_all((ROOT / "manifests/rights/operator-rights.yaml").read_text()))
    leases = next(one for one in rights if one["kind"] == "Role")["rules"][-1]
    assert leases["resourceNames"] == [settings.leader_election.name]
    assert pod["serviceAccountName"] == rights[0]["metadata"]["name"]
