"""The watch against a server that ends, refuses, breaks and falls silent on demand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from farmstead_kube import MEMBERS, EventType, Selection, Watch
from testbed.scripted_api import Answer, Script, serving


def member(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name, "resourceVersion": str(version)}}


def listing(version: int, *items: dict[str, Any]) -> Answer:
    return Answer(body={"metadata": {"resourceVersion": str(version)}, "items": list(items)})


def line(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": item}


def error(code: int) -> dict[str, Any]:
    return line("ERROR", {"code": code, "reason": "Expired", "message": "too old"})


# What the server answers, and what the watch then shows: (type, name), in order.
STORIES: dict[str, tuple[list[Answer], Sequence[tuple[str, str]]]] = {
    "a stream's changes follow the list": (
        [
            listing(5, member("a", 3)),
            Answer(
                lines=[
                    line("ADDED", member("b", 6)),
                    line("MODIFIED", member("a", 7)),
                    line("DELETED", member("b", 8)),
                ]
            ),
        ],
        [("ADDED", "a"), ("SYNCED", ""), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")],
    ),
    "an expired version is listed anew, and only differences are shown": (
        [
            listing(5, member("a", 3), member("gone", 4), member("same", 5)),
            Answer(lines=[error(410)]),
            listing(9, member("a", 8), member("same", 5), member("new", 9)),
        ],
        [
            ("ADDED", "a"),
            ("ADDED", "gone"),
            ("ADDED", "same"),
            ("SYNCED", ""),
            ("MODIFIED", "a"),
            ("ADDED", "new"),
            ("DELETED", "gone"),
            ("SYNCED", ""),
        ],
    ),
    "a server in trouble is asked again": (
        [Answer(status=503, body={"message": "starting"}), listing(5, member("a", 3))],
        [("ADDED", "a"), ("SYNCED", "")],
    ),
    "a put-back etcd shows older versions as changes": (
        [listing(50, member("a", 40)), Answer(status=504, body={}), listing(9, member("a", 8))],
        [("ADDED", "a"), ("SYNCED", ""), ("MODIFIED", "a"), ("SYNCED", "")],
    ),
    "a kind that is deleted and comes back": (
        [
            listing(5, member("a", 3)),
            Answer(status=404, body={}),
            Answer(status=404, body={}),
            listing(9, member("a", 8)),
        ],
        [
            ("ADDED", "a"),
            ("SYNCED", ""),
            ("DELETED", "a"),
            ("SYNCED", ""),
            ("SYNCED", ""),
            ("ADDED", "a"),
            ("SYNCED", ""),
        ],
    ),
    "a silent stream is left": (
        [listing(5, member("a", 3)), Answer(stay_open=True), listing(6, member("a", 6))],
        [("ADDED", "a"), ("SYNCED", ""), ("MODIFIED", "a"), ("SYNCED", "")],
    ),
}


@pytest.mark.parametrize("story", STORIES)
async def test_stories(story: str, tmp_path: Path) -> None:
    answers, expected = STORIES[story]
    shown = []
    async with serving(Script(list(answers)), tmp_path) as client:
        watch = Watch(client, Selection(MEMBERS), stream_seconds=0, silence_seconds=0.2)
        async for event in watch:
            shown.append((event.type.value, event.object.get("metadata", {}).get("name", "")))
            if len(shown) == len(expected):
                break
    assert shown == expected


REWOUND: dict[str, tuple[Sequence[Answer], bool]] = {
    "only forward": ([listing(5, member("a", 3)), Answer(lines=[error(410)]), listing(9, member("a", 8))], False),
    "a list older than the last": ([listing(50, member("a", 4)), Answer(status=504, body={}), listing(9)], True),
    "a list older than the stream was": (
        [listing(5), Answer(lines=[line("ADDED", member("a", 60))]), Answer(status=504, body={}), listing(9)],
        True,
    ),
    "versions raised by the restore, objects older": (
        [listing(50, member("a", 40)), Answer(status=504, body={}), listing(1050, member("a", 8))],
        True,
    ),
}


@pytest.mark.parametrize("story", REWOUND)
async def test_time_that_runs_backwards_is_noticed_before_anything_older_is_shown(story: str, tmp_path: Path) -> None:
    answers, rewound = REWOUND[story]
    told = []
    async with serving(Script(list(answers)), tmp_path) as client:
        watch = Watch(client, Selection(MEMBERS), stream_seconds=0, silence_seconds=0.2)
        async for event in watch:
            told.append((event.type, watch.rewound))
            if [kind for kind, _ in told].count(EventType.SYNCED) == 2:
                break
    first = [kind for kind, _ in told].index(EventType.SYNCED)
    assert not any(back for _, back in told[: first + 1])
    assert all(back is rewound for kind, back in told[first + 1 :] if kind is not EventType.ADDED)


async def test_a_stream_that_ends_is_resumed_from_its_last_bookmark(tmp_path: Path) -> None:
    script = Script(
        [
            listing(5, member("a", 3)),
            Answer(lines=[line("BOOKMARK", {"metadata": {"resourceVersion": "17"}})]),
            Answer(lines=[line("MODIFIED", member("a", 18))]),
        ]
    )
    async with serving(script, tmp_path) as client:
        async for event in Watch(client, Selection(MEMBERS)):
            if event.type is EventType.MODIFIED:
                break
    assert [request.query.get("resourceVersion") for request in script.requests] == [None, "5", "17"]


async def test_health_says_since_when_the_server_is_away_and_why(tmp_path: Path) -> None:
    script = Script([listing(5, member("a", 3)), Answer(status=503, body={"message": "gone fishing"}), listing(6)])
    async with serving(script, tmp_path) as client:
        watch = Watch(client, Selection(MEMBERS), clock=lambda: 42.0)
        assert not watch.healthy
        seen = []
        async for event in watch:
            seen.append((event.type, watch.healthy, watch.failing_since, "fishing" in watch.last_error))
            if event.type is EventType.DELETED:
                break
    assert seen == [
        (EventType.ADDED, False, None, False),
        (EventType.SYNCED, True, None, False),
        (EventType.DELETED, False, 42.0, True),
    ]


async def test_another_life_with_the_same_version_is_news(tmp_path: Path) -> None:
    """etcd put back gives versions out again: the same name and version may be another object."""
    lives = [member("a", 8), member("a", 8)]
    for number, life in enumerate(lives):
        life["metadata"]["uid"] = f"life-{number}"
    answers = [listing(9, lives[0]), Answer(status=504, body={}), listing(9, lives[1])]
    shown = []
    async with serving(Script(answers), tmp_path) as client:
        async for event in Watch(client, Selection(MEMBERS), stream_seconds=0, silence_seconds=0.2):
            shown.append(event)
            if [one.type for one in shown].count(EventType.SYNCED) == 2:
                break
    assert [one.object["metadata"]["uid"] for one in shown if one.object] == ["life-0", "life-1"]
