"""Public IP addresses over the wire: raw JSON in and out, nothing decided."""

from __future__ import annotations

import json
from typing import Any

from azure.core.exceptions import ResourceNotFoundError

from farmstead_operator.azure.arm import Arm, LongOperation, Polling, raw, translated
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.shares import LoadBalancerKey


class PublicIPClient:
    """The public addresses of a load balancer's resource group."""

    def __init__(self, arm: Arm, key: LoadBalancerKey) -> None:
        self._arm = arm
        self._group = key.resource_group
        self._subscription = key.subscription_id

    @property
    def _addresses(self) -> Any:
        return self._arm.network(self._subscription).public_ip_addresses

    def _polling(self) -> Polling:
        return Polling(self._arm.settings.polling_seconds)

    async def get(self, name: str) -> Json | None:
        """The document; None when there is none.

        Raises AdapterError.
        """
        async with translated():
            try:
                document: Json = await self._addresses.get(self._group, name, cls=raw)
            except ResourceNotFoundError as error:
                if error.error and error.error.code not in ("ResourceNotFound", "NotFound"):
                    raise
                return None
            return document

    async def list(self) -> list[Json]:
        """All of the resource group.

        Raises AdapterError.
        """
        async with translated():
            return [dict(model.as_dict()) async for model in self._addresses.list(self._group)]

    async def create(self, name: str, body: Json, *, replace: bool) -> LongOperation:
        """Create it. Unless `replace`, an address of that name that has come meanwhile stays as it is.

        Raises AdapterError.
        """
        async with translated():
            return LongOperation(
                await self._addresses.begin_create_or_update(
                    self._group,
                    name,
                    json.dumps(body).encode(),
                    headers={} if replace else {"If-None-Match": "*"},
                    cls=raw,
                    polling=self._polling(),
                )
            )

    async def delete(self, name: str) -> LongOperation:
        """Delete it.

        Raises AdapterError.
        """
        async with translated():
            return LongOperation(await self._addresses.begin_delete(self._group, name, polling=self._polling()))
