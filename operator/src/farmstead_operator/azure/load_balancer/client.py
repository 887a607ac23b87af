"""Load balancers over the wire: raw JSON in and out, nothing decided."""

from __future__ import annotations

import json
from typing import Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from farmstead_operator.azure.arm import Arm, LongOperation, Polling, is_token, raw, translated
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.shares import LoadBalancerKey


class LoadBalancerClient:
    """One load balancer."""

    def __init__(self, arm: Arm, key: LoadBalancerKey) -> None:
        self._arm = arm
        self._where = key.resource_group, key.name
        self._subscription = key.subscription_id

    @property
    def _network(self) -> Any:
        return self._arm.network(self._subscription)

    def _polling(self) -> Polling:
        return Polling(self._arm.settings.polling_seconds)

    async def get(self) -> Json | None:
        """The document; None when there is no such load balancer.

        Raises AdapterError, also when there is no such resource group.
        """
        async with translated():
            try:
                document: Json = await self._network.load_balancers.get(*self._where, cls=raw)
            except ResourceNotFoundError as error:
                if _is_group(error):
                    raise
                return None
            return document

    async def put(self, body: Json, *, etag: str | None) -> LongOperation:
        """Replace the document, if it is still the one with `etag`; create it, if there is none, without.

        Raises AdapterError: ConflictError when it is another one by now.
        """
        headers = {"If-Match": etag} if etag else {"If-None-Match": "*"}
        content = json.dumps(body, ensure_ascii=False).encode()
        async with translated():
            return LongOperation(
                await self._network.load_balancers.begin_create_or_update(
                    *self._where, content, headers=headers, cls=raw, polling=self._polling()
                )
            )

    async def delete(self, *, etag: str) -> LongOperation:
        """Delete it, if it is still the one with `etag`.

        Raises AdapterError.
        """
        async with translated():
            return LongOperation(
                await self._network.load_balancers.begin_delete(
                    *self._where, headers={"If-Match": etag}, polling=self._polling()
                )
            )

    async def resume(self, token: str) -> LongOperation | None:
        """Go on with an operation that was started before; None when the token is no good.

        Raises AdapterError.
        """
        if not is_token(token):
            return None
        async with translated():
            try:
                return LongOperation(
                    await self._network.load_balancers.begin_create_or_update(
                        *self._where, b"", continuation_token=token, cls=raw, polling=self._polling()
                    )
                )
            except (ValueError, KeyError, HttpResponseError):
                return None

    async def rule_health(self, rule: str) -> Json:
        """What Azure says of each backend of a rule.

        Raises AdapterError.
        """
        async with translated():
            poller = await self._network.load_balancer_load_balancing_rules.begin_health(*self._where, rule, cls=raw)
            health: Json | None = await poller.result()
            return health or {}


def _is_group(error: ResourceNotFoundError) -> bool:
    """Whether what was not found is more than the load balancer."""
    code = error.error.code if error.error else None
    return code not in ("ResourceNotFound", "NotFound", None)
