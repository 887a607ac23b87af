"""The http check: a request is answered with the status and the body that are expected.

Every request has a connection of its own, as a new client would: a pool would hide a listener that accepts no more.
"""

import asyncio
import re
import ssl
from typing import TYPE_CHECKING

from farmstead_agent.checks.base import Result
from farmstead_api.common import HttpCheck

if TYPE_CHECKING:
    import aiohttp

BODY_LIMIT = 64 * 1024


class HttpClient:
    """The one HTTP session of the agent's checks, made when first needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> "aiohttp.ClientSession":
        """The session."""
        if self._session is None:
            import aiohttp  # noqa: PLC0415 - 12 MiB that an agent without http checks does not need

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "farmstead-agent"},
            )
        return self._session

    async def close(self) -> None:
        """Close it."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class HttpAsker:
    """Sends one request and looks at its answer."""

    def __init__(self, check: HttpCheck, client: HttpClient) -> None:
        self._check = check
        self._client = client
        self._pattern = re.compile(check.expect_body.encode()) if check.expect_body else None
        host = f"[{check.address}]" if ":" in check.address else check.address
        self._url = f"{check.scheme}://{host}:{check.port}{check.path}"
        self._headers = {"Host": check.host} if check.host else {}
        self._tls: ssl.SSLContext | None = None

    async def ask(self) -> Result:
        """Try once."""
        session = self._client.session()
        import aiohttp  # noqa: PLC0415

        try:
            async with session.request(
                self._check.method,
                self._url,
                headers=self._headers,
                ssl=self._context(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response:
                if response.status not in self._check.expect_status:
                    expected = ", ".join(map(str, self._check.expect_status))
                    return Result(ok=False, message=f"{self._url}: status {response.status}, expected {expected}")
                if self._pattern is not None and not self._pattern.search(await body(response)):
                    return Result(ok=False, message=f"{self._url}: body does not match {self._check.expect_body!r}")
                return Result(ok=True, message=f"{self._url}: status {response.status}")
        except (aiohttp.ClientError, OSError) as error:
            return Result(ok=False, message=f"{self._url}: {error}")

    async def pause(self, seconds: float) -> None:
        """Until the next interval."""
        await asyncio.sleep(seconds)

    def _context(self) -> ssl.SSLContext | bool:
        """How the server's certificate is checked: against the CA given, or not at all."""
        if self._check.scheme != "https":
            return True
        if self._check.ca_file is None:
            return False
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._check.ca_file)
        return self._tls


async def body(response: "aiohttp.ClientResponse") -> bytes:
    """The first 64 KiB of the answer's body."""
    received = bytearray()
    async for chunk in response.content.iter_chunked(BODY_LIMIT):
        received += chunk
        if len(received) >= BODY_LIMIT:
            break
    return bytes(received[:BODY_LIMIT])
