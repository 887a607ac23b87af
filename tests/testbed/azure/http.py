"""The edge: HTTPS in front of the token endpoint and of ARM, by aiohttp. Thin.

In this order a request meets: the whole service down, scripted faults, the bearer token, token buckets, ARM.
Each is decided by a pure module; here are sockets, headers and the log.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web

from testbed.azure import errors
from testbed.azure.arm import Arm, ArmRequest
from testbed.azure.errors import ArmError, Json
from testbed.azure.faults import Fault, Faults, Kind
from testbed.azure.identity import Identity, TokenError
from testbed.azure.ids import parse_id
from testbed.azure.requestlog import Entry, RequestLog
from testbed.azure.service import Answer
from testbed.azure.throttling import Throttle, kind_of

_FIXED_HEADERS = {
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "Expires": "-1",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Cache": "CONFIG_NOCACHE",
}
_REMAINING = "x-ms-ratelimit-remaining-subscription-global-"


class Availability(StrEnum):
    """Whether the service as a whole is there."""

    UP = "Up"
    REFUSE = "Refuse"  # nothing listens
    UNAVAILABLE = "Unavailable"  # 503 to everything


class _CutError(Exception):
    """End the connection in place of an answer."""


@dataclass(slots=True)
class Edge:
    """One HTTPS listener for the authority and for ARM."""

    arm: Arm
    identity: Identity
    throttle: Throttle
    faults: Faults
    log: RequestLog
    tls: ssl.SSLContext
    clock: Callable[[], float]
    retry_after: int = 1
    availability: Availability = Availability.UP
    latency: float = 0.0
    """Seconds that each request spends on its way, half of them before it is carried out and half after."""
    _runner: web.AppRunner | None = None
    _site: web.TCPSite | None = None
    _address: tuple[str, int] = ("127.0.0.1", 0)
    _timer: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port in use, which stays the same through `set_availability`."""
        app = web.Application(client_max_size=32 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        self._address = (host, port)
        await self._listen()
        self._address = (host, self._runner.addresses[0][1])
        return self._address[1]

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    async def set_availability(self, availability: Availability) -> None:
        """Take the service down or bring it back."""
        was, self.availability = self.availability, availability
        refused, refuse = was is Availability.REFUSE, availability is Availability.REFUSE
        if refuse and not refused and self._site is not None:
            await self._site.stop()
        if refused and not refuse:
            await self._listen()

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, *self._address, ssl_context=self.tls, reuse_address=True)
        await self._site.start()

    # -- one request

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        entry = Entry(
            at=self.clock(),
            method=request.method,
            path=request.path,
            query=request.query_string,
            request=None,
            status=0,
            response=None,
            request_headers={k: v for k, v in request.headers.items() if k.lower() != "authorization"},
        )
        self.log.begin(entry)
        try:
            await self._travel()
            status, body, headers = await self._answer(request, raw, entry)
            await self._travel()
        except _CutError:
            self.log.end(entry)
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        entry.status, entry.response, entry.response_headers = status, body, headers
        self.log.end(entry)
        self._wake_for_operations()
        text = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        kind = {"Content-Type": "application/json; charset=utf-8"} if body is not None else {}
        return web.Response(status=status, body=text, headers=_FIXED_HEADERS | headers | kind)

    async def _travel(self) -> None:
        if self.latency:
            await asyncio.sleep(self.latency / 2)

    async def _answer(self, request: web.Request, raw: bytes, entry: Entry) -> tuple[int, Json | None, dict[str, str]]:
        if self.availability is Availability.REFUSE:
            raise _CutError
        if self.availability is Availability.UNAVAILABLE:
            text = "The service is unavailable."
            return 503, errors.ArmError(503, "ServiceUnavailable", text).body, {}
        authority = f"https://{request.host}"
        if not request.path.lower().startswith("/subscriptions"):
            return await self._authority(request, authority)
        fault = self.faults.take(request.method, request.path)
        try:
            if fault is not None:
                entry.fault = fault.kind.value
                await self._before(fault, request)
            answer, remaining = self._arm(request, raw, entry, fault)
        except ArmError as error:
            if error.headers.get("x-ms-failure-cause") != "gateway":
                error.headers |= self._remaining(request.method)
            return error.status, error.body, error.headers
        if fault is not None and fault.kind is Kind.DROP_AFTER:
            entry.response = answer.body
            self._wake_for_operations()
            raise _CutError
        return answer.status, answer.body, self._headers(answer, request, authority) | remaining

    def _arm(
        self, request: web.Request, raw: bytes, entry: Entry, fault: Fault | None
    ) -> tuple[Answer, dict[str, str]]:
        principal = self.identity.principal(request.headers.get("Authorization"))
        wait = self.throttle.take(request.method, principal)
        if wait is not None:
            raise errors.subscription_throttled(kind=kind_of(request.method), retry_after=wait)
        entry.request = _parse(raw)
        self.arm.network.settle()
        answer = self.arm.handle(
            ArmRequest(
                method=request.method,
                path=request.path,
                query={key: request.query[key] for key in request.query},
                body=entry.request,
                if_match=request.headers.get("If-Match"),
                outcome=fault.outcome() if fault else None,
            )
        )
        return answer, self._remaining(request.method)

    async def _before(self, fault: Fault, request: web.Request) -> None:
        """What a fault does before the request reaches ARM."""
        if fault.kind is Kind.DROP_BEFORE:
            raise _CutError
        if fault.kind is Kind.HANG:
            await asyncio.sleep(fault.seconds)
            raise _CutError
        if fault.kind is Kind.EXPIRED_TOKEN:
            self.identity.expire_all()
        if fault.kind is Kind.FOREIGN_WRITE:
            self._foreign_write(fault, request.path)
        error = fault.error()
        if error is not None:
            raise error

    def _foreign_write(self, fault: Fault, path: str) -> None:
        rid = parse_id(path)
        if rid is None or self.arm.network.store.get(rid) is None:
            return
        patch = fault.patch or {"tags": {"edited-by": "another-client"}}
        self.arm.network.edit_as_other_client(rid, lambda body: merge(body, patch))

    # -- headers

    def _headers(self, answer: Answer, request: web.Request, authority: str) -> dict[str, str]:
        headers = {"x-ms-request-id": self.arm.network.guids.next("request")}
        if answer.etag:
            headers["Etag"] = answer.etag
        if answer.result_path:
            headers["Location"] = f"{authority}{answer.result_path}"
        operation = answer.operation
        if operation is None:
            return headers
        headers["Retry-After"] = str(self.retry_after)
        if request.method == "GET" and answer.status == 200:
            return headers
        base = (
            f"{authority}/subscriptions/{self.arm.subscription_id}/providers/Microsoft.Network"
            f"/locations/{operation.location}"
        )
        tail = f"{operation.id}?api-version={request.query['api-version']}"
        if not operation.name.startswith("Get"):
            headers["Azure-AsyncNotification"] = "Enabled"
            headers["Azure-AsyncOperation"] = f"{base}/operations/{tail}"
        if answer.location:
            headers["Location"] = f"{base}/operationResults/{tail}"
        return headers

    def _remaining(self, method: str) -> dict[str, str]:
        left = self.throttle.remaining(method, self.identity.client_id)
        return {f"{_REMAINING}{kind_of(method)}s": str(left)}

    # -- the authority

    async def _authority(self, request: web.Request, authority: str) -> tuple[int, Json | None, dict[str, str]]:
        parts = request.path.strip("/").lower().split("/")
        if parts == ["common", "discovery", "instance"]:
            return 200, self.identity.instance_discovery(authority, request.host), {}
        if parts[1:] == ["v2.0", ".well-known", "openid-configuration"] and self.identity.knows(parts[0]):
            return 200, self.identity.openid_configuration(authority), {}
        if parts[1:] == ["oauth2", "v2.0", "token"] and request.method == "POST":
            form = await request.post()
            try:
                answer = self.identity.token(parts[0], {key: str(value) for key, value in form.items()})
            except TokenError as error:
                return error.status, error.body, {}
            return 200, answer, {}
        return 404, errors.unknown_type(request.path).body, {}

    # -- time

    def _wake_for_operations(self) -> None:
        """Finish operations when they are due, also if nobody polls."""
        due = self.arm.network.operations.next_due()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self.clock()), self._settle)

    def _settle(self) -> None:
        self._timer = None
        self.arm.network.settle()
        self._wake_for_operations()


def merge(target: Json, patch: Json) -> None:
    """A JSON merge patch, in place."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value


def _parse(raw: bytes) -> Json | None:
    if not raw:
        return None
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        text = "The request content was invalid and could not be deserialized."
        raise ArmError(400, "InvalidRequestContent", text)
    return body
