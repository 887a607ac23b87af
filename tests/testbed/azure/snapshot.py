"""The model as a value to compare: everything but etags, GUIDs and states of operations."""

from __future__ import annotations

from typing import Any

from testbed.azure.errors import Json
from testbed.azure.rendering import render
from testbed.azure.store import Store

_CHANGING = frozenset({"etag", "resourceGuid"})


def snapshot(store: Store) -> Json:
    """Resource id (as first spelled) -> body as GET shows it, without what differs from run to run."""
    return {resource.id.text: _without(render(resource, store)) for resource in store.resources.values()}


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in _CHANGING}
    if isinstance(value, list):
        return [_without(inner) for inner in value]
    return value
