"""Bad input is refused by the real API server, with the field and the way out: one row of refusals.yaml a rule."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from testbed.controlplane import CommandError, ControlPlane
from testbed.installation import install_kinds

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
ROWS: list[dict[str, Any]] = yaml.safe_load((HERE / "refusals.yaml").read_text())
SAMPLES = ROOT / "manifests/samples"

MEMBER: Mapping[str, Any] = {
    "apiVersion": "farmstead.dev/v1alpha1",
    "kind": "Member",
    "metadata": {"name": "web.vm1"},
    "spec": {
        "clusterRef": {"kind": "FarmCluster", "name": "web", "uid": "u"},
        "nodeName": "vm1",
        "revision": "r",
        "applicationRevision": "a",
        "application": {"scripts": {"directory": "/opt/web"}},
    },
}


def valid(kind: str) -> Any:
    """A valid object of each kind: the samples, so that they are tried too."""
    if kind == "Member":
        return json.loads(json.dumps(MEMBER))
    name = {"FarmCluster": "farmcluster", "FarmNode": "farmnodes", "Operation": "operation"}[kind]
    body = next(iter(yaml.safe_load_all((SAMPLES / f"{name}.yaml").read_text())))
    body["metadata"].pop("namespace", None)
    if "generateName" in body["metadata"]:
        body["metadata"] = {"name": "operation"}
    return body


def overlay(base: Any, change: Any) -> Any:
    """A JSON merge patch (RFC 7396) done here, so that what is sent is whole."""
    if not isinstance(change, dict) or not isinstance(base, dict):
        return change
    result = dict(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = overlay(result.get(key, {}) if isinstance(value, dict) else None, value)
    return result


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crds(control_plane: ControlPlane) -> ControlPlane:
    """The API server with our CRDs."""
    await install_kinds(control_plane.kubectl)
    return control_plane


async def refusal(control_plane: ControlPlane, *verb: str, body: Any) -> str:
    """What the API server says against `body`; empty where it takes it."""
    try:
        await control_plane.kubectl(*verb, "-f", "-", stdin=json.dumps(body))
    except CommandError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["it"].replace(" ", "-"))
async def test_refused(crds: ControlPlane, namespace: str, row: dict[str, Any]) -> None:
    body = valid(row.get("kind", "FarmCluster"))
    here = f"--namespace={namespace}"
    if "then" in row:
        await crds.kubectl("create", here, "-f", "-", stdin=json.dumps(body))
        said = await refusal(crds, "replace", here, body=overlay(body, row["then"]))
    else:
        said = await refusal(crds, "create", here, "--dry-run=server", body=overlay(body, row["set"]))
    assert said, "the API server took it"
    assert row["field"] in said
    assert row["says"] in said


@pytest.mark.parametrize("kind", ["FarmCluster", "FarmNode", "Operation", "Member"])
async def test_the_samples_are_taken(crds: ControlPlane, kind: str) -> None:
    assert not await refusal(crds, "create", "--dry-run=server", body=valid(kind))


def test_every_rule_has_a_row() -> None:
    """Each message of a CEL rule in crds/ is asked for by a row, so that no rule stands untried."""

    def messages(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [rule["message"] for rule in node.get("x-kubernetes-validations", ())]
            return own + [m for value in node.values() for m in messages(value)]
        return [m for value in node for m in messages(value)] if isinstance(node, list) else []

    for name in ("farmcluster", "farmnode", "member", "operation"):
        path = ROOT / "crds" / f"{name}.yaml"
        for message in messages(yaml.safe_load(path.read_text())):
            assert any(row["says"] in message for row in ROWS) or message in UNTRIED, f"{path.name}: {message}"


UNTRIED = {"metadata.name: at most 63 characters"}  # of FarmNodes: Kubernetes' own limit is tried with clusters
