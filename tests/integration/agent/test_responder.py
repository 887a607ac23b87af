"""The probe's server on a real socket: answers from memory, whatever clients do."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from farmstead_agent.errors import ConflictError
from farmstead_agent.member.facts import Look
from farmstead_agent.metrics import Metrics
from farmstead_agent.probe.answers import Answers
from farmstead_agent.probe.responder import serve
from farmstead_agent.probe.sockets import listening
from farmstead_api.member import MemberState, Readiness


def look(readiness: Readiness) -> Look:
    return Look(state=MemberState.UP, readiness=readiness, reason="Because", message="of this")


@pytest_asyncio.fixture
async def answers() -> AsyncIterator[tuple[Answers, int]]:
    table = Answers(Metrics())
    listener = listening("127.0.0.1", 0)
    async with await serve(listener, table.answer):
        yield table, listener.getsockname()[1]


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_answer_follows_the_member(answers: tuple[Answers, int]) -> None:
    table, port = answers
    request = b"GET /probe/shop/web HTTP/1.1\r\nHost: x\r\n\r\n"
    assert (await ask(port, request)).startswith(b"HTTP/1.1 503 ")
    table.show("shop", "web", look(Readiness.READY))
    assert (await ask(port, request)).startswith(b"HTTP/1.1 200 OK\r\n")
    table.show("shop", "web", look(Readiness.TRANSIENT))
    answer = await ask(port, request)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"\r\n\r\nUp/Transient Because: of this\n")
    table.forget("shop", "web")
    assert b"NoSuchMember" in await ask(port, request)


@pytest.mark.parametrize(
    ("request_", "start"),
    [
        (b"HEAD /probe/shop/web HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /probe/shop/web?from=azure HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 "),
        (b"POST /probe/shop/web HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 "),
        (b"GET /probe/shop/other HTTP/1.1\r\n\r\n", b"HTTP/1.1 503 "),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000, b"HTTP/1.1 431 "),
    ],
)
async def test_whatever_is_asked(answers: tuple[Answers, int], request_: bytes, start: bytes) -> None:
    table, port = answers
    table.show("shop", "web", look(Readiness.READY))
    assert (await ask(port, request_)).startswith(start)


async def test_silent_clients_do_not_delay_others(answers: tuple[Answers, int]) -> None:
    _, port = answers
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    async with asyncio.timeout(1):
        await ask(port, b"GET / HTTP/1.1\r\n\r\n")
    for _, writer in silent:
        writer.close()
        await writer.wait_closed()


async def test_an_end_answers_whom_it_has_accepted_and_leaves_the_rest_to_the_next_process() -> None:
    with listening("127.0.0.1", 0) as held:  # as the service manager holds it
        port = held.getsockname()[1]
        endpoint = await serve(held.dup(), Answers(Metrics()).answer)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await ask(port, b"GET / HTTP/1.1\r\n\r\n")  # so the one before has been accepted
        closing = asyncio.create_task(endpoint.close())
        done, _ = await asyncio.wait({closing}, timeout=0.05)
        assert not done, "it ended with somebody accepted and not answered"
        late = asyncio.create_task(ask(port, b"GET / HTTP/1.1\r\n\r\n"))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await closing
        assert not late.done()
        async with await serve(held.dup(), Answers(Metrics()).answer):
            assert (await late).startswith(b"HTTP/1.1 503 ")


def test_a_port_that_is_taken_is_named() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match=f"can't listen on 127.0.0.1:{port}: Address already in use"):
            listening("127.0.0.1", port)
