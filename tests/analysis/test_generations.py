"""A store as a table."""

import pytest

from harmonia_lab.analysis.generations import generations_frame
from harmonia_lab.client.store import State, reduce
from tests.events.stories import story, told_live


@pytest.fixture
def frame():
    state = State()
    for ending in ("completed", "failed", "cancelled", "in stage 1"):
        for event in told_live(ending.replace(" ", "-"), ending):
            state = reduce(state, event)
    return generations_frame(state).set_index("generation_id")


def test_each_generation_is_a_row(frame):
    assert frame["status"].to_dict() == {
        "completed": "completed",
        "failed": "failed",
        "cancelled": "cancelled",
        "in-stage-1": "processing",
    }
    assert set(frame["user_id"]) == {"ann"}


def test_a_finished_song_has_its_figures_and_the_others_have_none(frame):
    assert frame.loc["completed", ["title", "duration", "file_size", "progress"]].to_list() == ["T", 20.0, 9, 100.0]
    assert frame["duration"].mean() == 20.0
    assert frame["checksum"].isna().sum() == 3


def test_a_failure_says_what_and_where(frame):
    assert frame.loc["failed", ["error_code", "stage"]].to_list() == ["AUDIO_ERROR", "audio"]
    assert (frame["ended_at"].isna()).to_dict() == {
        "completed": False,
        "failed": False,
        "cancelled": False,
        "in-stage-1": True,
    }
    assert (frame["ended_at"].dropna() >= frame["started_at"][:3]).all()


def test_without_the_job_family_it_says_what_the_generation_family_told():
    state = State()
    for ending in ("completed", "failed", "in stage 2"):
        for event in story(ending.replace(" ", "-"), ending):
            state = reduce(state, event)
    frame = generations_frame(state).set_index("generation_id")
    assert frame["status"].to_dict() == {"completed": "completed", "failed": "failed", "in-stage-2": "processing"}
    assert frame["user_id"].isna().all()
    assert frame.loc["in-stage-2", "progress"] == 100


def test_nothing_is_an_empty_table_with_all_columns():
    frame = generations_frame(State())
    assert len(frame) == 0
    assert frame.attrs["units"].keys() == set(frame.columns)
