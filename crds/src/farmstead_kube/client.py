"""The verbs of the API server on raw JSON objects: get, list, create, replace, delete, patch, apply.

Every request has a timeout and raises errors of one tree (`errors.py`). Nothing is retried or cached here, and
nothing is parsed: views of the objects are `farmstead_api`'s. Watching is in `watch.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from farmstead_kube.connection import CONNECT_SECONDS, Connection, Credentials
from farmstead_kube.errors import Expired
from farmstead_kube.resources import Resource

Json = dict[str, Any]

REQUEST_SECONDS = 15.0
PAGE = 250
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Listing:
    """A collection at one moment."""

    items: list[Json]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind: of one namespace (all, where none is given), by field or label selector."""

    resource: Resource
    namespace: str | None = None
    field_selector: str = ""
    label_selector: str = ""
    metadata_only: bool = False
    """Only apiVersion, kind and metadata of each object come: enough to see what changed, and much smaller."""

    @property
    def path(self) -> str:
        """Path of the collection."""
        return self.resource.path(namespace=self.namespace)

    @property
    def query(self) -> dict[str, str]:
        """Query parameters of the selectors."""
        selectors = {"fieldSelector": self.field_selector, "labelSelector": self.label_selector}
        return {name: value for name, value in selectors.items() if value}


class Client:
    """Requests to one API server under one field manager."""

    def __init__(self, connection: Connection, *, field_manager: str) -> None:
        self.connection = connection
        self.field_manager = field_manager
        self.before_write: Callable[[], None] = lambda: None
        """Called before each request that may change something: who must not write any more stops it here."""

    async def close(self) -> None:
        """Close all connections."""
        await self.connection.close()

    async def credentials(self) -> Credentials:
        """Where the API server is and how to log in."""
        return await self.connection.credentials()

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> Json:
        """Read one object."""
        return await self._call("GET", resource.path(namespace=namespace, name=name))

    async def list(self, selection: Selection) -> Listing:
        """Read a collection, page by page; it is complete and as new as the moment of the request."""
        for _ in range(3):
            try:
                return await self._pages(selection)
            except Expired:
                continue  # the list took longer than the server keeps its pages: from the start
        return await self._pages(selection, page=0)

    async def create(self, resource: Resource, body: Json, *, namespace: str = "") -> Json:
        """Create an object; raises Conflict where it exists."""
        return await self._call("POST", resource.path(namespace=namespace), body=body, query=self._manager())

    async def replace(self, resource: Resource, body: Json) -> Json:
        """Write a whole object; raises Conflict where it has changed since its `resourceVersion`."""
        return await self._call("PUT", _path_of(resource, body), body=body, query=self._manager())

    async def delete(
        self, resource: Resource, name: str, *, namespace: str = "", uid: str = "", resource_version: str = ""
    ) -> Json | None:
        """Ask for an object's deletion; `uid` and `resource_version` make sure that it is the one meant (Conflict).

        Gives the object where something holds it, such as a finalizer; None where it is gone.
        """
        wanted = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in wanted.items() if value}
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if preconditions:
            body["preconditions"] = preconditions
        answer = await self._call("DELETE", resource.path(namespace=namespace, name=name), body=body)
        return answer if answer.get("kind") == resource.kind and "deletionTimestamp" in answer["metadata"] else None

    async def patch(
        self, resource: Resource, name: str, body: Json, *, namespace: str = "", subresource: str = ""
    ) -> Json:
        """Merge `body` into an object (RFC 7386): null removes a field, lists are replaced.

        With `metadata.resourceVersion` in it the patch is refused (Conflict) where the object has changed since.
        """
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._call("PATCH", path, body=body, query=self._manager(), content_type=MERGE)

    async def apply(self, resource: Resource, body: Json, *, subresource: str = "") -> Json:
        """Server-side apply: own all fields of `body`, and give up those that were in the last one and are not now."""
        body = {"apiVersion": resource.api_version, "kind": resource.kind} | body
        query = self._manager() | {"force": "true"}
        return await self._call(
            "PATCH", _path_of(resource, body, subresource), body=body, query=query, content_type=APPLY
        )

    async def apply_status(self, resource: Resource, body: Json) -> Json:
        """Server-side apply of the status; `body` holds metadata (name, namespace) and status."""
        return await self.apply(resource, body, subresource="status")

    def _manager(self) -> dict[str, str]:
        return {"fieldManager": self.field_manager}

    async def _pages(self, selection: Selection, *, page: int = PAGE) -> Listing:
        items: list[Json] = []
        query = selection.query | ({"limit": str(page)} if page else {})
        accept = {"Accept": METADATA_LIST} if selection.metadata_only else None
        while True:
            answer = await self._call("GET", selection.path, query=query, headers=accept)
            items += answer.get("items") or []
            following = answer["metadata"].get("continue")
            if not following:
                return Listing(items, answer["metadata"].get("resourceVersion", ""))
            query["continue"] = following

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        if method != "GET":
            self.before_write()
        async with self.connection.request(
            method,
            path,
            query=query or {},
            body=body,
            headers={"Content-Type": content_type} | dict(headers or {}),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
        ) as response:
            answer: Json = msgspec.json.decode(await response.read())
            return answer


def _path_of(resource: Resource, body: Mapping[str, Any], subresource: str = "") -> str:
    meta = body["metadata"]
    return resource.path(namespace=meta.get("namespace"), name=meta["name"], subresource=subresource)


async def connect(*, kubeconfig: Path | None, field_manager: str) -> Client:
    """A client for the API server that `kubeconfig` names; the pod's own service account where it is None.

    Raises Permanent where the configuration can't be read. Does not yet talk to the server.
    """
    connection = Connection(kubeconfig=kubeconfig, user_agent=field_manager)
    await connection.open()
    return Client(connection, field_manager=field_manager)
