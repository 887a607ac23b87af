"""The edge to azure.mgmt.network: one client a subscription, calls counted, long operations, errors taken apart.

Statuses are not retried in here (`retry_status=0`), only broken connections: a wait of the SDK's own would be silent,
while the writers' back-off is seen in the clusters' status. Only the `aio` package is imported; it is large enough.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline import PipelineContext, PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy, SansIOHTTPPolicy
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.polling import AsyncLROPoller
from azure.identity import CredentialUnavailableError
from azure.mgmt.core.polling.async_arm_polling import AsyncARMPolling
from azure.mgmt.network.aio import NetworkManagementClient

from farmstead_operator.azure import credentials
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.errors import (
    ADVICE,
    AdapterError,
    PermanentError,
    Refusal,
    TransientError,
    classify,
    is_throttling,
)
from farmstead_operator.azure.settings import AzureSettings

API_VERSION = "2026-03-01"
_CONNECTION_RETRIES = 2


class Recorder(Protocol):
    """Where calls are counted."""

    def arm_call(self, *, method: str, status: int, throttled: bool) -> None:
        """One answer; `status` 0: none came. `throttled`: refused for the number of requests alone."""


class NoRecorder:
    """Counts nothing."""

    def arm_call(self, *, method: str, status: int, throttled: bool) -> None:
        """Nothing."""


class _Count(AsyncHTTPPolicy[Any, Any]):
    """Tells the recorder of every request that goes out, retries included."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    async def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        method = request.http_request.method
        try:
            response = await self.next.send(request)
        except AzureError:
            self._recorder.arm_call(method=method, status=0, throttled=False)
            raise
        status = response.http_response.status_code
        throttled = status == 429 and is_throttling(status, await _codes(response.http_response))
        self._recorder.arm_call(method=method, status=status, throttled=throttled)
        return response


class _BeforeWrite(SansIOHTTPPolicy[Any, Any]):
    """Asks before each request that may change something, retries included."""

    def __init__(self, ask: Callable[[], None]) -> None:
        super().__init__()
        self._ask = ask

    def on_request(self, request: PipelineRequest[Any]) -> None:
        if request.http_request.method != "GET":
            self._ask()


async def _codes(response: Any) -> tuple[str, ...]:
    """The codes of a refusal; it is kept, whoever handles it reads it again."""
    await response.read()
    return tuple(code for code, _ in _told(response))


class Arm:
    """Clients for as many subscriptions as are asked for, one credential for all."""

    def __init__(
        self, settings: AzureSettings, recorder: Recorder | None = None, before_write: Callable[[], None] = lambda: None
    ) -> None:
        self.settings = settings
        self._before_write = before_write
        self._recorder = recorder or NoRecorder()
        self._credential = credentials.Renewable(lambda: credentials.make(settings))
        self._clients: dict[str, NetworkManagementClient] = {}

    def network(self, subscription_id: str) -> NetworkManagementClient:
        """The client of a subscription."""
        client = self._clients.get(subscription_id)
        if client is None:
            client = self._clients[subscription_id] = self._new(subscription_id)
        return client

    def _new(self, subscription_id: str) -> NetworkManagementClient:
        settings = self.settings
        transport: dict[str, Any] = {"transport": _trusting(settings)} if settings.ca_file else {}
        return NetworkManagementClient(
            self._credential,
            subscription_id,
            settings.endpoint,
            api_version=API_VERSION,
            credential_scopes=[settings.scope],
            polling_interval=settings.polling_seconds,
            connection_timeout=settings.connect_seconds,
            read_timeout=settings.answer_seconds,
            retry_total=_CONNECTION_RETRIES,
            retry_status=0,
            per_retry_policies=[_BeforeWrite(self._before_write), _Count(self._recorder)],
            logging_enable=False,
            **transport,
        )

    async def renew_credential(self) -> None:
        """Fetch new tokens: Azure refused the one we have."""
        await self._credential.renew()

    async def close(self) -> None:
        """Close all connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()
        await self._credential.close()


def _trusting(settings: AzureSettings) -> AioHttpTransport:
    """The SDK's transport that trusts the authorities of the settings.

    Told of a file by `connection_verify`, the SDK reads it at each request, and no connection is ever used twice: a
    handshake a call, and hundreds of MiB of idle connections.
    """
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=settings.ca_file))
    session = aiohttp.ClientSession(
        connector=connector, trust_env=True, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    )
    return AioHttpTransport(
        session=session, connection_timeout=settings.connect_seconds, read_timeout=settings.answer_seconds
    )


class Polling(AsyncARMPolling):
    """The SDK's polling with a continuation token that leaves the answer's body out.

    The body is the whole load balancer, twice; the token lives in the status of each of its clusters, and to go on
    only the addresses are needed.
    """

    def get_continuation_token(self) -> str:
        whole = self._initial_response
        answer = whole.http_response
        short = SimpleNamespace(
            request=answer.request, status_code=answer.status_code, headers=answer.headers, content=b""
        )
        self._initial_response = PipelineResponse(whole.http_request, short, PipelineContext(None))
        try:
            return str(super().get_continuation_token())
        finally:
            self._initial_response = whole


class LongOperation:
    """A long operation that Azure accepted."""

    def __init__(self, poller: AsyncLROPoller[Any]) -> None:
        self._poller = poller
        self.token = poller.continuation_token()
        """Lets another process go on waiting."""

    async def wait(self) -> Json | None:
        """The resource after it, None after a deletion.

        Raises AdapterError when it fails, is cancelled, or can't be watched any more.
        """
        async with translated():
            result: Json | None = await self._poller.result()
            return result


def raw(response: PipelineResponse[Any, Any], _model: object, _headers: object) -> Json:
    """For the SDK's `cls`: the JSON itself in place of a model."""
    body: Json = response.http_response.json()
    return body


def is_token(text: str) -> bool:
    """Whether this can be a continuation token at all."""
    try:
        return isinstance(json.loads(base64.b64decode(text, validate=True)), dict)
    except ValueError:
        return False


@contextlib.asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """What the SDK raises inside leaves as AdapterError."""
    try:
        yield
    except AzureError as error:
        raise translate(error) from error


def translate(error: AzureError) -> AdapterError:
    """One SDK exception as ours."""
    if isinstance(error, CredentialUnavailableError):
        return PermanentError(
            "AuthenticationFailed", f"{_words(error)}. {ADVICE['AuthenticationFailed']}", everywhere=True
        )
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return TransientError(
            "AzureUnreachable", f"Azure can't be reached: {_words(error)}. It is tried again by itself."
        )
    if isinstance(error, HttpResponseError) and error.response is not None:
        refusal = _refusal(error)
        if isinstance(error, ClientAuthenticationError) and not refusal.codes:
            return _token_endpoint(error, refusal)
        return classify(refusal)
    if isinstance(error, ClientAuthenticationError):
        return PermanentError(
            "AuthenticationFailed", f"{_words(error)}. {ADVICE['AuthenticationFailed']}", everywhere=True
        )
    return TransientError("AzureUnreachable", f"Azure can't be reached: {_words(error)}. It is tried again by itself.")


def _token_endpoint(error: ClientAuthenticationError, refusal: Refusal) -> AdapterError:
    """The token endpoint's answers have another form: who we are was refused, or it is not well itself."""
    if refusal.status >= 500 or refusal.status == 429:
        return TransientError("AzureUnreachable", _words(error), delay=refusal.retry_after)
    return PermanentError("AuthenticationFailed", f"{_words(error)}. {ADVICE['AuthenticationFailed']}", everywhere=True)


def _refusal(error: HttpResponseError) -> Refusal:
    response = error.response
    body, told = _body(response), _told(response)
    return Refusal(
        status=error.status_code or 0,
        codes=tuple(dict.fromkeys(code for code, _ in told if code)),
        message=" ".join(dict.fromkeys(text for _, text in told if text)) or _words(error),
        retry_after=_retry_after(response),
        canceled=str(body.get("status")).casefold() == "canceled",
    )


def _body(response: Any) -> Json:
    try:
        body = json.loads(response.text()) if response is not None else {}
    except (ValueError, AttributeError):
        return {}
    return body if isinstance(body, dict) else {}


def _told(response: Any) -> list[tuple[str, str]]:
    """Code and message of the error and of each of its details."""
    body = _body(response)
    error = body.get("error")
    parts = _nested(error if isinstance(error, dict) else body)
    return [(str(one.get("code") or ""), str(one.get("message") or "")) for one in parts]


def _nested(error: Json) -> list[Json]:
    details = [one for one in error.get("details") or [] if isinstance(one, dict)]
    return [error, *(inner for one in details for inner in _nested(one))]


def _retry_after(response: Any) -> float | None:
    headers = getattr(response, "headers", None) or {}
    value = headers.get("Retry-After") or headers.get("retry-after")
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def _words(error: AzureError) -> str:
    return (error.message or type(error).__name__).strip().splitlines()[0].rstrip(".")
