"""The ConfigMaps that clusters carry: which versions there are is watched, content is read when a cluster needs it.

The watch is of metadata alone: a cluster full of large ConfigMaps that are none of our business costs nothing here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from farmstead_kube import CONFIG_MAPS, Client, NotFound
from farmstead_operator.clusters.observed import Key


@dataclass(frozen=True, slots=True)
class _Content:
    version: str
    data: Mapping[str, str]


class ConfigMaps:
    """Versions of all, contents of those that were asked for."""

    def __init__(self, client: Client, changed: Callable[[str, str], None]) -> None:
        self._client = client
        self._changed = changed
        self._versions: dict[Key, str] = {}
        self._contents: dict[Key, _Content] = {}

    def seen(self, key: Key, version: str) -> None:
        """There is this version now."""
        self._versions[key] = version
        self._changed(*key)

    def gone(self, key: Key) -> None:
        """It is no more."""
        self._versions.pop(key, None)
        self._contents.pop(key, None)
        self._changed(*key)

    async def content(self, key: Key) -> Mapping[str, str] | None:
        """Its data; None where it is not there."""
        version = self._versions.get(key)
        if version is None:
            return None
        known = self._contents.get(key)
        if known is None or known.version != version:
            namespace, name = key
            try:
                body = await self._client.get(CONFIG_MAPS, name, namespace=namespace)
            except NotFound:
                return None
            known = self._contents[key] = _Content(version, body.get("data") or {})
        return known.data
