"""A revision tells what is said, not how it was read: kopf and our own client decode JSON each in its own way."""

import json
from typing import Any

import msgspec

from farmstead_api import FarmCluster, parse
from farmstead_operator.clusters.render import revision

BARE = {"name": "answers", "http": {"port": 80}}
HTTP = {"port": 80, "address": "127.0.0.1", "path": "/", "method": "GET", "scheme": "http", "expectStatus": [200]}
DEFAULTED = {"name": "answers", "http": HTTP, "intervalSeconds": 10, "phase": "WhileRunning"}


def _text(check: dict[str, Any]) -> str:
    metadata = {"name": "web", "namespace": "shop", "uid": "1", "resourceVersion": "1"}
    application = {"scripts": {"directory": "/opt/app", "timeoutSeconds": 300}}
    spec = {"members": {"names": ["a"]}, "application": application, "checks": [check]}
    return json.dumps(
        {"apiVersion": "farmstead.dev/v1alpha1", "kind": "FarmCluster", "metadata": metadata, "spec": spec}
    )


def _revision(body: Any) -> str:
    return revision(parse(FarmCluster, body).spec)


def test_two_readers_and_defaults_written_out_give_one_revision() -> None:
    said = _revision(json.loads(_text(DEFAULTED)))
    assert _revision(msgspec.json.decode(_text(DEFAULTED))) == said
    assert _revision(json.loads(_text(BARE))) == said


def test_another_value_gives_another_revision() -> None:
    assert _revision(json.loads(_text(BARE))) != _revision(json.loads(_text(BARE | {"http": {"port": 81}})))
