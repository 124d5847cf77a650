"""Kills and cancels in numbers, with MusicGen's tiny shape."""

import pytest

from benchmarks.cluster.cancels import cancels
from benchmarks.cluster.faults import kills
from benchmarks.cluster.schedulers import scheduler_deaths


@pytest.mark.stress
def test_every_song_ends_once_whatever_is_killed():
    found = kills(6)
    assert found["ends"].keys() <= {"completed"}  # one death each: none is quarantined
    assert found["terminal_events_a_song"] == {"1": 6}
    assert found["workers_killed"] > 3
    assert found["home_before"] > 0
    assert found["made_twice_though_home"] == 0
    assert found["orphans"] == 0


@pytest.mark.stress
def test_a_cancel_ends_a_song_that_loads_is_made_or_waits():
    found = cancels(9)
    assert found["ends"] == {"generation-cancelled": 9}
    assert found["terminal_events_a_song"] == {"1": 9}
    assert found["next_song"]["end"] == "completed"
    assert found["orphans"] == 0


@pytest.mark.stress
def test_nothing_hangs_when_a_scheduler_is_killed():
    found = scheduler_deaths(1)
    assert found["terminal_events_a_song"] == {"1": 3}
    assert found["ends"].keys() <= {"INTERRUPTED", "NETWORK_TEMPORARY", "completed"}
    assert set(found["after_a_retry"]) | set(found["new_songs"]) == {"completed"}
    assert found["orphans"] == 0
