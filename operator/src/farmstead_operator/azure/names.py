"""Names and ids of what we have in Azure: pure text, compared without regard to case as Azure does.

An item of a cluster is known by its prefix. Where the readable prefix leaves too little of Azure's 80 characters, a
hash stands for namespace and cluster; it opens with an underscore, which no namespace can hold, so the two forms
never meet.
"""

import hashlib

from farmstead_api import names

ANY_PREFIX = "farmstead."
_ROOM_FOR_ITEM = 24


def item_prefix(namespace: str, cluster: str) -> str:
    """Start of the name of every item of this cluster; no other cluster's item starts with it."""
    readable = names.azure_item_prefix(namespace, cluster)
    if len(readable) <= names.AZURE_NAME_LIMIT - _ROOM_FOR_ITEM:
        return readable
    return f"{ANY_PREFIX}_{_digest(f'{namespace}/{cluster}', 24)}."


def item_name(prefix: str, item: str) -> str:
    """Name of one item, at most 80 characters: an `item` that is too long is cut and told apart by a hash."""
    room = names.AZURE_NAME_LIMIT - len(prefix)
    if len(item) <= room:
        return prefix + item
    return f"{prefix}{item[: room - 9]}-{_digest(item, 8)}"


def prefix_of(name: str) -> str:
    """The casefolded prefix of the cluster whose item this is; empty when it is no item of a Farmstead operator."""
    parts = name.casefold().split(".")
    length = 2 if len(parts) > 1 and parts[1].startswith("_") else 3
    return ".".join(parts[:length]) + "." if len(parts) > length and parts[0] + "." == ANY_PREFIX else ""


def frontend_item(address: str) -> str:
    """Item name of the frontend with this address: another address is another item, never a changed one."""
    return f"frontend-{_digest(address.casefold(), 8)}"


def same(one: str, other: str) -> bool:
    """Whether two names or ids are one to Azure."""
    return one.casefold() == other.casefold()


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
