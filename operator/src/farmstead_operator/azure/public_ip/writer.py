"""Public addresses of one load balancer: there before the frontends need them, gone after nobody does.

Called by the load balancer's writer, so one at a time for each load balancer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from farmstead_operator.azure.arm import Arm
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.errors import AdapterError, ConflictError, TransientError
from farmstead_operator.azure.public_ip import spec
from farmstead_operator.azure.public_ip.client import PublicIPClient
from farmstead_operator.azure.shares import ClusterShare, LoadBalancerKey

_AT_ONCE = 5
_LOG = logging.getLogger(__name__)


class PublicIPs:
    """What is known of the addresses, and the two things that are done with them."""

    def __init__(self, arm: Arm, key: LoadBalancerKey, instance: str) -> None:
        self._client = PublicIPClient(arm, key)
        self._key = key
        self._instance = instance
        self._addresses: dict[str, str] = {}

    def address(self, resource_id: str) -> str:
        """The address of a resource that was seen; empty when unknown."""
        return self._addresses.get(resource_id.casefold(), "")

    async def ensure(self, shares: Sequence[ClusterShare], attached: Collection[str]) -> dict[str, AdapterError | None]:
        """Have every public address that the shares name, by name; None where it is there and may be used.

        Addresses whose id is among `attached` (casefolded) and whose value is known are not asked for again.
        """
        first: dict[str, ClusterShare] = {}
        for share in shares:
            if share.frontend.public_ip_address is not None:
                first.setdefault(share.frontend.public_ip_address.name, share)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str, share: ClusterShare) -> AdapterError | None:
            resource = self._key.public_ip_id(name).casefold()
            if resource in attached and self._addresses.get(resource):
                return None
            async with limit:
                try:
                    return await self._ensure(name, share)
                except AdapterError as problem:
                    return problem

        problems = await asyncio.gather(*(one(name, share) for name, share in first.items()))
        return dict(zip(first, problems, strict=True))

    async def _ensure(self, name: str, share: ClusterShare) -> AdapterError | None:
        document = await self._client.get(name)
        if document is None or spec.broken(document, self._instance):
            document = await self._create(name, share, again=document is not None)
        properties = document.get("properties") or {}
        state = str(properties.get("provisioningState", "")).casefold()
        if state != "succeeded":
            return TransientError(
                "PublicIPAddressNotReady", f"Public IP address {name} is {state or 'in an unknown state'}."
            )
        self._addresses[self._key.public_ip_id(name).casefold()] = properties.get("ipAddress") or ""
        return spec.unfit(document, self._key)

    async def _create(self, name: str, share: ClusterShare, *, again: bool) -> Json:
        _LOG.info("creating public IP address %s for %s%s", name, share.cluster, ", again" if again else "")
        operation = await self._client.create(name, spec.body(self._key, share, self._instance), replace=again)
        document = await operation.wait()
        if document is None:
            raise ConflictError("PublicIPAddressVanished", f"Public IP address {name} vanished while it was created.")
        return document

    async def collect(self, wanted: Collection[str], attached: Collection[str]) -> None:
        """Delete those that we made and nobody uses.

        `wanted` are the names that shares still ask for, `attached` the casefolded ids that frontends still hold.
        Raises AdapterError, TransientError while Azure has not let go of one.
        """
        found = spec.leftovers(
            await self._client.list(), key=self._key, instance=self._instance, wanted=wanted, attached=attached
        )
        held = []
        for document in found:
            name, holder = document["name"], spec.holder(document).casefold()
            if holder.startswith(self._key.identity + "/"):
                held.append(name)
            elif not holder:  # held by something else, it has found another use
                _LOG.info("deleting public IP address %s, which nobody uses any more", name)
                await (await self._client.delete(name)).wait()
                self._addresses.pop(self._key.public_ip_id(name).casefold(), None)
        if held:
            raise TransientError(
                "PublicIPAddressStillAttached",
                f"Azure still shows public IP address {', '.join(held)} as attached to {self._key.name}, which no "
                "longer uses it; it is deleted once it is free.",
            )
