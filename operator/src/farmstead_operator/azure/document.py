"""Comparing and changing Azure's raw JSON: what we ask for against what Azure answers.

Azure fills in defaults, back references and read-only fields, changes the case of ids, and may reorder lists. So a
document is only ever asked 'does it hold what we want', and changed only in what we want: fields that we don't know
stay as they are. The SDK's models are not used: they would have to know a field to keep its value as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

ABSENT = None
"""As a wanted value: the field has to be empty."""

_FILLED_IN: Mapping[str, Any] = {
    "adminState": "None",
    "disableOutboundSnat": False,
    "enableFloatingIP": False,
    "enableTcpReset": False,
    "idleTimeoutInMinutes": 4,
    "intervalInSeconds": 15,
    "loadDistribution": "Default",
    "noHealthyBackendsBehavior": "AllProbedDown",
    "numberOfProbes": 2,
    "probeThreshold": 1,
}
"""What a field that Azure leaves out means."""
_EXACT = frozenset({"requestPath"})
"""Texts whose case matters; all others are ids, names, enums and addresses."""
_TWICE_TOLD = frozenset({"backendAddressPools"})
"""Said again in another field: an answer without it is complete."""


def differences(want: Any, have: Any, path: str = "") -> Iterator[str]:
    """Where `have` does not hold what `want` asks for, as sentences for people; nothing when it does."""
    if isinstance(want, Mapping):
        found = have if isinstance(have, Mapping) else {}
        for key, value in want.items():
            if key in _TWICE_TOLD and key not in found:
                continue
            yield from differences(value, found.get(key, _FILLED_IN.get(key)), f"{path}.{key}" if path else key)
    elif isinstance(want, list):
        yield from _list_differences(want, have if isinstance(have, list) else [], path)
    elif want is ABSENT:
        if have not in (None, "", [], {}):
            yield f"{path}: {have} instead of nothing"
    elif not _equal(want, have, exact=path.rpartition(".")[2] in _EXACT):
        yield f"{path}: {have} instead of {want}"


def _list_differences(want: list[Any], have: list[Any], path: str) -> Iterator[str]:
    """Lists are sets to us: of named items, of references, or of plain values."""
    wanted, found = {_mark(one): one for one in want}, {_mark(one): one for one in have}
    for mark in sorted(wanted.keys() - found.keys()):
        yield f"{path}: {mark} missing"
    for mark in sorted(found.keys() - wanted.keys()):
        yield f"{path}: {mark} too many"
    for mark in sorted(wanted.keys() & found.keys()):
        yield from differences(wanted[mark], found[mark], f"{path}[{mark}]")


def _mark(value: Any) -> str:
    told = value.get("name") or value.get("id") if isinstance(value, Mapping) else value
    return str(told).casefold()


def _equal(want: Any, have: Any, *, exact: bool) -> bool:
    if isinstance(want, str) and isinstance(have, str) and not exact:
        return want.casefold() == have.casefold()
    return bool(want == have) and isinstance(want, bool) == isinstance(have, bool)


def overlay(want: Mapping[str, Any], have: Mapping[str, Any]) -> Json:
    """`have` with what `want` asks for put in: fields that `want` does not name stay."""
    result = copy.deepcopy(dict(have))
    for key, value in want.items():
        if value is ABSENT:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            found = result.get(key)
            result[key] = overlay(value, found if isinstance(found, Mapping) else {})
        else:
            result[key] = copy.deepcopy(value)
    return result


def texts(value: Any) -> Iterator[str]:
    """Every text in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
