"""What the client sends, and which error an answer becomes."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from farmstead_kube import MEMBERS, Conflict, KubeError, NotFound, Permanent, Selection, Transient
from farmstead_kube.errors import error_of
from testbed.scripted_api import Answer, Script, serving

BODY: dict[str, Any] = {"metadata": {"namespace": "shop", "name": "web.vm1"}, "spec": {"x": 1}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (409, Conflict), (429, Transient), (500, Transient), (503, Transient), (422, Permanent)],
)
def test_statuses(status: int, kind: type[KubeError]) -> None:
    assert isinstance(error_of("GET /x", status, {}, b"not json"), kind)


def test_a_refusal_keeps_the_servers_words() -> None:
    body = {"reason": "Forbidden", "message": "no", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}
    error = error_of("POST /x", 403, {}, msgspec.json.encode(body))
    assert isinstance(error, Permanent)
    assert (error.reason, error.causes, str(error)) == ("Forbidden", ("NamespaceTerminating",), "POST /x: no (403)")


def test_retry_after_is_kept() -> None:
    error = error_of("GET /x", 429, {"Retry-After": "7"}, b"{}")
    assert isinstance(error, Transient)
    assert error.retry_after == 7


async def test_apply_is_forced_under_the_field_manager(tmp_path: Path) -> None:
    script = Script([Answer(body={})])
    async with serving(script, tmp_path) as client:
        await client.apply_status(MEMBERS, BODY)
    request = script.requests[0]
    assert (request.method, request.path) == (
        "PATCH",
        "/apis/farmstead.dev/v1alpha1/namespaces/shop/members/web.vm1/status",
    )
    assert dict(request.query) == {"fieldManager": "test", "force": "true"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert msgspec.json.decode(script.bodies[0]) == {
        "apiVersion": "farmstead.dev/v1alpha1",
        "kind": "Member",
        **BODY,
    }


async def test_who_must_not_write_sends_nothing_and_may_read(tmp_path: Path) -> None:
    def refuse() -> None:
        raise RuntimeError("no leader any more")

    script = Script([Answer(body={})])
    async with serving(script, tmp_path) as client:
        client.before_write = refuse
        for write in (client.apply_status(MEMBERS, BODY), client.delete(MEMBERS, "web.vm1", namespace="shop")):
            with pytest.raises(RuntimeError, match="no leader"):
                await write
        await client.get(MEMBERS, "web.vm1", namespace="shop")
    assert [request.method for request in script.requests] == ["GET"]


async def test_a_list_is_read_page_by_page(tmp_path: Path) -> None:
    pages = [
        Answer(body={"metadata": {"resourceVersion": "9", "continue": "next"}, "items": [{"a": 1}]}),
        Answer(body={"metadata": {"resourceVersion": "9"}, "items": [{"b": 2}]}),
    ]
    script = Script(pages)
    async with serving(script, tmp_path) as client:
        listing = await client.list(Selection(MEMBERS, field_selector="spec.nodeName=vm1"))
    assert (listing.items, listing.resource_version) == ([{"a": 1}, {"b": 2}], "9")
    assert script.requests[1].query["continue"] == "next"
    assert {request.query["fieldSelector"] for request in script.requests} == {"spec.nodeName=vm1"}


async def test_a_refused_token_is_read_again_once(tmp_path: Path) -> None:
    script = Script([Answer(status=401, body={}), Answer(body={"kind": "Member"})])
    async with serving(script, tmp_path) as client:
        file = tmp_path / "kubeconfig"
        file.write_text(file.read_text().replace("first", "second"))
        assert await client.get(MEMBERS, "web.vm1", namespace="shop") == {"kind": "Member"}
    assert [request.headers["Authorization"] for request in script.requests] == ["Bearer first", "Bearer second"]


async def test_no_server_is_transient(tmp_path: Path) -> None:
    async with serving(Script([]), tmp_path) as client:
        pass
    reopened = client.connection
    await reopened.open()
    with pytest.raises(Transient, match="GET /apis/farmstead"):
        await client.get(MEMBERS, "web.vm1", namespace="shop")
    await client.close()
