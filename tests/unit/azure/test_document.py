"""Comparing with what Azure answers."""

from __future__ import annotations

from typing import Any

import pytest

from farmstead_operator.azure.document import differences, overlay, texts


@pytest.mark.parametrize(
    ("want", "have", "told"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {}, ["a: None instead of 1"]),
        ({"id": "/Sub/X"}, {"id": "/sub/x"}, []),
        ({"requestPath": "/A"}, {"requestPath": "/a"}, ["requestPath: /a instead of /A"]),
        ({"enableTcpReset": False}, {}, []),
        ({"enableTcpReset": True}, {}, ["enableTcpReset: False instead of True"]),
        ({"enableTcpReset": True}, {"enableTcpReset": 1}, ["enableTcpReset: 1 instead of True"]),
        ({"zones": ["1", "2"]}, {"zones": ["2", "1"]}, []),
        ({"zones": ["1"]}, {"zones": ["1", "2"]}, ["zones: 2 too many"]),
        ({"x": [{"name": "A", "v": 1}]}, {"x": [{"name": "a", "v": 2}]}, ["x[a].v: 2 instead of 1"]),
        ({"subnet": None}, {"subnet": {}}, []),
        ({"subnet": None}, {"subnet": {"id": "x"}}, ["subnet: {'id': 'x'} instead of nothing"]),
        ({"backendAddressPools": [{"id": "x"}]}, {}, []),
        ({"backendAddressPools": [{"id": "x"}]}, {"backendAddressPools": []}, ["backendAddressPools: x missing"]),
        ({"a": {"b": 1}}, {"a": "text"}, ["a.b: None instead of 1"]),
    ],
)
def test_differences(want: Any, have: Any, told: list[str]) -> None:
    assert list(differences(want, have)) == told


def test_overlay_keeps_what_it_does_not_know() -> None:
    have = {"a": {"x": 1, "y": 2}, "gone": 1, "kept": [1]}
    assert overlay({"a": {"x": 3}, "gone": None, "new": [2]}, have) == {"a": {"x": 3, "y": 2}, "kept": [1], "new": [2]}
    assert have == {"a": {"x": 1, "y": 2}, "gone": 1, "kept": [1]}


def test_texts() -> None:
    assert list(texts({"a": "x", "b": [{"c": "y"}, 1]})) == ["x", "y"]
