"""Kills and cancels in numbers, with MusicGen's tiny shape."""

import pytest

from benchmarks.cluster.faults import measure


@pytest.mark.stress
def test_every_song_ends_once_whatever_is_killed_and_cancelled():
    found = measure(20, 50)
    assert sum(found["kills"]["ends"].values()) == 20
    assert found["kills"]["ends"].keys() <= {"completed"}  # one death each: none is quarantined
    assert found["kills"]["terminal_events_a_song"] == {"1": 20}
    assert found["cancels"]["ends"].keys() <= {"completed", "CANCELLED"}
    assert found["cancels"]["asked"] > 25
    assert found["orphans"] == 0
