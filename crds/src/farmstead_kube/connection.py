"""How to reach the API server, and one HTTP request to it: the only module that imports `kubernetes`.

Configuration, credentials and TLS are the official client's own (`kubernetes.aio`), so that every kubeconfig
that kubectl reads works here. Its generated models are not used: they cost the agent more memory than all the
rest of it. Answers are raw bytes, decoded by msgspec.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from farmstead_kube.errors import Permanent, Transient, error_of

CONNECT_SECONDS = 5.0
UNAUTHORIZED = 401
BAD_STATUS = 400


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the API server is and how to log in, for a library that makes its own connections (kopf)."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    key_path: str | None
    token: str | None
    insecure: bool


class Connection:
    """A pool of connections to one API server; made by `open_connection`, closed by `close`."""

    def __init__(self, *, kubeconfig: Path | None, user_agent: str) -> None:
        self._kubeconfig = kubeconfig
        self._user_agent = user_agent
        self._configuration: Any = Configuration()
        self._api: Any = None

    async def open(self) -> None:
        """Read the configuration; connects at the first request.

        Raises Permanent where the configuration can't be used.
        """
        await self._load()
        # Looked up once: left to the library, each request asks a thread for the environment's proxy.
        self._configuration.proxy = self._configuration.proxy or _environments_proxy(self._configuration.host)
        self._configuration.client_session_kwargs = {"trust_env": False}
        self._api = ApiClient(configuration=self._configuration)
        self._api.user_agent = self._user_agent

    async def close(self) -> None:
        """Close all connections."""
        if self._api is not None:
            await self._api.close()

    async def credentials(self) -> Credentials:
        """The credentials as they are now; tokens rotate, so ask again after a refusal."""
        await self._load()
        configuration = self._configuration
        key = await configuration.get_api_key_with_prefix("BearerToken")
        return Credentials(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            certificate_path=configuration.cert_file,
            key_path=configuration.key_file,
            token=key.split(" ", 1)[-1].strip() if key else None,
            insecure=not configuration.verify_ssl,
        )

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own, for its reads
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and hand out its open answer; raises what `error_of` makes of a refusal.

        A refused credential is read again once: tokens in files and from plugins expire and are renewed there.
        """
        label = f"{method} {path}"
        try:
            response = await self._send(method, path, query=query, timeout=timeout, body=body, headers=headers)
            if response.status == UNAUTHORIZED:
                response.release()
                await self._load()
                response = await self._send(method, path, query=query, timeout=timeout, body=body, headers=headers)
            try:
                if response.status >= BAD_STATUS:
                    raise error_of(label, response.status, response.headers, await response.read())
                yield response
            finally:
                response.release()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"{label}: {type(error).__name__} {error}") from error

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
        body: Any,
        headers: Mapping[str, str] | None,
    ) -> aiohttp.ClientResponse:
        params = await self._api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json"} | dict(headers or {}),
            auth_settings=["BearerToken"],
        )
        _, url, all_headers, _, _ = params
        answer = await self._api.rest_client.request(
            method, url, headers=all_headers, body=body, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _load(self) -> None:
        try:
            if self._kubeconfig is None:
                load_incluster_config(client_configuration=self._configuration)  # type: ignore[no-untyped-call]
            else:
                await load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=str(self._kubeconfig), client_configuration=self._configuration, persist_config=False
                )
        except Exception as error:
            source = self._kubeconfig or "the pod's service account"
            raise Permanent(
                f"can't read how to reach the API server from {source}: {error}", reason="BadKubeconfig", status=0
            ) from error


def _environments_proxy(url: str) -> str | None:
    """The proxy by which the environment (HTTPS_PROXY, NO_PROXY, ...) says to reach an address, if any."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)
