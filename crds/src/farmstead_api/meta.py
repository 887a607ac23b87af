"""What every view has: metadata, strict but forward-compatible parsing, and writing back as JSON types.

Unknown fields are ignored, so that an older agent reads what a newer operator wrote; a field of the wrong type
is an error that names its path.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec


class ViewError(ValueError):
    """An object does not fit its view; the message names the object and the path of the field."""


_INITIALISMS = frozenset({"id", "ip", "uid"})


def _wire_name(attribute: str) -> str:
    """`virtual_network_id` -> `virtualNetworkID`: Kubernetes' camelCase, initialisms in capitals."""
    first, *rest = attribute.split("_")
    return first + "".join(word.upper() if word in _INITIALISMS else word.capitalize() for word in rest)


class View(msgspec.Struct, frozen=True, rename=_wire_name, omit_defaults=True, kw_only=True):
    """Base of all views: frozen, camelCase on the wire, defaults left out when written."""


class OwnerReference(View, frozen=True):
    """A pointer to the object that owns this one."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(View, frozen=True):
    """The part of Kubernetes' ObjectMeta that Farmstead reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def deleting(self) -> bool:
        """Whether somebody has asked for this object to be deleted."""
        return self.deletion_timestamp is not None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


V = TypeVar("V")


def parse(kind: type[V], body: Mapping[str, Any]) -> V:
    """Read an API object as the view `kind`.

    Raises ViewError when a field has the wrong type or a required one is missing.
    """
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        meta = body.get("metadata") or {}
        where = "/".join(filter(None, (kind.__name__, meta.get("namespace"), meta.get("name"))))
        raise ViewError(f"{where}: {error}") from error


def dump(view: View) -> Any:
    """Write a view as JSON types, defaults left out."""
    return msgspec.to_builtins(view)
