"""Every story in tests/scenarios/agent comes out as it is written."""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
STORIES = sorted((HERE.parents[1] / "scenarios/agent").glob("*.txt"))

specification = importlib.util.spec_from_file_location("farmstead_story", HERE / "story.py")
assert specification is not None
assert specification.loader is not None
story = importlib.util.module_from_spec(specification)
sys.modules[specification.name] = story
specification.loader.exec_module(story)


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_comes_out_as_written(path: Path) -> None:
    text = path.read_text()
    assert story.transcript(text) == text


def test_there_are_stories() -> None:
    assert len(STORIES) >= 10
