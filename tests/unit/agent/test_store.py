"""Documents on disk are whole or absent, and one that is not understood is never guessed at."""

from pathlib import Path

import pytest

from farmstead_agent import store
from farmstead_agent.errors import PermanentError
from farmstead_agent.member.history import KEPT, History, Transition
from farmstead_agent.member.record import Phase, Record

RECORD = Record(uid="u", boot_id="b", phase=Phase.UP, since=12.5, executed=("o1", "o2"))


async def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    assert store.read(path, Record) is None
    await store.write(path, RECORD)
    assert store.read(path, Record) == RECORD
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]


def test_a_write_that_was_cut_short_leaves_the_old_document(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    store.write_now(path, store.encode(RECORD))
    (tmp_path / ".record.json.new").write_text('{"format": 1, "docu')
    assert store.read(path, Record) == RECORD


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"format": 2, "document": {}}', "has format 2, this agent knows 1"),
        ("not json", "can't be read"),
        ("[]", "has format None"),
        ('{"format": 1, "document": {"uid": 3}}', "Expected `str`, got `int`"),
        ('{"format": 1}', "document"),
    ],
)
def test_what_is_not_understood_is_an_error(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(PermanentError) as raised:
        store.read(path, Record)
    assert complaint in str(raised.value)
    assert str(path) in str(raised.value)


def transition(number: int) -> Transition:
    return Transition(time=str(number), before="Up", after="Stop", reason="R", cause="c", seconds=1.0)


def test_the_last_transitions_are_kept_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    for number in range(3 * KEPT + 7):
        history.add(transition(number))
    kept = [str(number) for number in range(2 * KEPT + 7, 3 * KEPT + 7)]
    assert [entry["time"] for entry in history.entries()] == kept
    assert [entry["time"] for entry in History(path).entries()] == kept
    assert len(path.read_text().splitlines()) <= 2 * KEPT


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    History(path).add(transition(1))
    with path.open("a") as file:
        file.write('{"time": "2", "bef')
    assert [entry["time"] for entry in History(path).entries()] == ["1"]
