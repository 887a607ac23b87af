"""The paths of Azure Resource Manager: which verb on which path is which act of the network provider.

Pure: requests in, answers out. Tokens, throttling, faults, headers and sockets are the edge's (`http`).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from testbed.azure import errors
from testbed.azure.errors import ArmError, Json
from testbed.azure.ids import PROVIDER, ResourceId, child_type_of, parse_id, type_of
from testbed.azure.operations import IN_PROGRESS, Outcome
from testbed.azure.service import Answer, Network
from testbed.azure.store import SUCCEEDED, Group

API_VERSIONS = (
    "2024-05-01",
    "2024-07-01",
    "2024-10-01",
    "2025-01-01",
    "2025-03-01",
    "2025-05-01",
    "2025-07-01",
    "2025-09-01",
    "2026-01-01",
    "2026-03-01",
)


@dataclass(frozen=True, slots=True)
class ArmRequest:
    """One request to ARM, already let in."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Json | None = None
    if_match: str | None = None
    outcome: Outcome | None = None


class Arm:
    """The gateway of one subscription in one region."""

    def __init__(self, network: Network, *, subscription_id: str, tenant_id: str, location: str) -> None:
        self.network = network
        self.subscription_id = subscription_id
        self.tenant_id = tenant_id
        self.location = location

    def handle(self, request: ArmRequest) -> Answer:
        """Answer a request.

        Raises ArmError.
        """
        if not request.query.get("api-version"):
            raise errors.missing_api_version()
        parts = request.path.strip("/").split("/")
        if len(parts) < 2 or parts[0].lower() != "subscriptions":
            raise errors.unknown_type(request.path)
        if parts[1].lower() != self.subscription_id.lower():
            raise errors.subscription_not_found(parts[1])
        lower = [part.lower() for part in parts]
        if len(parts) == 2:
            return self._subscription(request)
        if lower[2] == "resourcegroups" and len(parts) <= 4:
            return self._group(request, parts[3] if len(parts) == 4 else None)
        if lower[2:4] == ["providers", PROVIDER.lower()]:
            return self._of_subscription(request, parts[4:])
        if lower[2] == "resourcegroups" and lower[4:6] == ["providers", PROVIDER.lower()]:
            return self._of_group(request, parts[3], parts[6:])
        if lower[2] == "operationresults" and len(parts) == 4:
            _only(request, "GET")
            return Answer(200)  # groups are gone at once
        raise errors.unknown_type(request.path)

    # -- subscriptions and groups

    def _subscription(self, request: ArmRequest) -> Answer:
        _only(request, "GET")
        body = {
            "id": f"/subscriptions/{self.subscription_id}",
            "subscriptionId": self.subscription_id,
            "tenantId": self.tenant_id,
            "displayName": "Farmstead testbed",
            "state": "Enabled",
        }
        return Answer(200, body)

    def _group(self, request: ArmRequest, name: str | None) -> Answer:
        store = self.network.store
        if name is None:
            _only(request, "GET")
            return Answer(200, {"value": [self._render_group(group) for group in store.groups.values()]})
        group = store.group(name)
        if request.method == "PUT":
            body = request.body or {}
            fresh = group is None
            group = store.add_group(name if group is None else group.name, body.get("location", ""), body.get("tags"))
            return Answer(201 if fresh else 200, self._render_group(group))
        if group is None:
            if request.method == "HEAD":
                return Answer(404)
            raise errors.group_not_found(name)
        if request.method == "DELETE":
            store.remove_group(name)
            job = base64.urlsafe_b64encode(f"RESOURCEGROUPDELETIONJOB-{name.upper()}".encode()).decode().rstrip("=")
            path = f"/subscriptions/{self.subscription_id}/operationresults/{job}"
            return Answer(202, result_path=f"{path}?api-version={request.query['api-version']}")
        if request.method == "HEAD":
            return Answer(204)
        _only(request, "GET")
        return Answer(200, self._render_group(group))

    def _render_group(self, group: Group) -> Json:
        body: Json = {
            "id": f"/subscriptions/{self.subscription_id}/resourceGroups/{group.name}",
            "name": group.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": group.location,
        }
        if group.tags:
            body["tags"] = group.tags
        return body | {"properties": {"provisioningState": SUCCEEDED}}

    # -- the network provider

    def _of_subscription(self, request: ArmRequest, parts: list[str]) -> Answer:
        lower = [part.lower() for part in parts]
        if len(parts) == 4 and lower[0] == "locations":
            _only(request, "GET")
            if lower[2] == "operations":
                return self._operation(parts[3])
            if lower[2] == "operationresults":
                return self._operation_result(parts[3])
        if len(parts) == 1:
            kind = self._known_type(request, parts[0])
            _only(request, "GET")
            return self.network.list(kind, group=None)
        raise errors.unknown_type(request.path)

    def _of_group(self, request: ArmRequest, group: str, parts: list[str]) -> Answer:
        if not parts:
            raise errors.unknown_type(request.path)
        kind = self._known_type(request, parts[0])
        if len(parts) == 1:
            _only(request, "GET")
            return self.network.list(kind, group=group)
        if len(parts) == 3:
            return self._children(request, ResourceId(self.subscription_id, group, kind, parts[1]), parts[2])
        if len(parts) == 5 and (parts[2].lower(), parts[4].lower()) == ("loadbalancingrules", "health"):
            _only(request, "POST")
            rule = ResourceId(self.subscription_id, group, kind, parts[1], "loadBalancingRules", parts[3])
            return self.network.query_health(rule)
        rid = parse_id(request.path)
        if rid is None:
            raise errors.unknown_type(request.path)
        return self._resource(request, rid)

    def _children(self, request: ArmRequest, parent: ResourceId, collection: str) -> Answer:
        known = child_type_of(parent.type, collection)
        if known is None:
            raise errors.unknown_type(request.path)
        _only(request, "GET")
        return self.network.list_children(parent, known)

    def _resource(self, request: ArmRequest, rid: ResourceId) -> Answer:
        match request.method:
            case "GET":
                reduced = request.query.get("detailLevel", "").lower() == "reduced"
                return self.network.get(rid, reduced=reduced)
            case "PUT":
                body = _body(request)
                return self.network.put(rid, body, if_match=request.if_match, outcome=request.outcome)
            case "PATCH":
                return self.network.patch_tags(rid, _body(request), if_match=request.if_match)
            case "DELETE":
                return self.network.delete(rid, if_match=request.if_match, outcome=request.outcome)
        raise errors.method_not_allowed(request.method, rid.text)

    def _operation(self, operation_id: str) -> Answer:
        operation = self.network.operations.get(operation_id)
        if operation is None:
            raise ArmError(404, "OperationNotFound", f"Operation {operation_id} not found.", details=())
        waiting = operation if operation.status == IN_PROGRESS else None
        return Answer(200, operation.body, waiting)

    def _operation_result(self, operation_id: str) -> Answer:
        operation = self.network.operations.get(operation_id)
        if operation is None:
            raise ArmError(404, "OperationNotFound", f"Operation {operation_id} not found.", details=())
        if operation.status == IN_PROGRESS:
            return Answer(202, None, operation, location=True)
        if operation.error is not None:
            error = operation.error
            raise ArmError(409, error["code"], error["message"], details=_details(error))
        return Answer(200, operation.result)

    def _known_type(self, request: ArmRequest, name: str) -> str:
        kind = type_of(name)
        if kind is None:
            raise errors.unknown_type(request.path)
        version = request.query["api-version"]
        if version not in API_VERSIONS:
            raise errors.unknown_api_version(version, resource_type=kind, location=self.location, known=API_VERSIONS)
        return kind


def _only(request: ArmRequest, method: str) -> None:
    if request.method != method:
        raise errors.method_not_allowed(request.method, request.path)


def _body(request: ArmRequest) -> Json:
    if request.body is None:
        raise ArmError(400, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
    return request.body


def _details(error: Json) -> list[tuple[str, str]]:
    return [(one["code"], one["message"]) for one in error.get("details", [])]
