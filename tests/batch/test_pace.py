"""The time that is left is learnt from the songs that are there: words by song, music by engine and length."""

from datetime import UTC, datetime

import pytest

from harmonia_lab.batch.pace import Pace
from harmonia_lab.songs_handle import told

NOW = datetime(2026, 1, 2, 23, 0, tzinfo=UTC)


def song(audio="sketch", seconds=10.0, music=5.0, **words):
    return {"engines": {"audio": f"{audio} (model)"}, "seconds": seconds, "stageSeconds": {"audio": music, **words}}


def test_nothing_is_promised_before_the_first_song():
    assert Pace().seconds_left([(True, "sketch", 10.0)]) is None


def test_words_count_by_song_and_music_by_length_and_engine():
    pace = Pace()
    for made in (song(metadata=3.0), song(metadata=5.0), song(metadata=40.0), song("musicgen", music=100.0)):
        pace.add(made)
    assert pace.seconds_left([(True, "sketch", 20.0)]) == pytest.approx(5 + 10)
    assert pace.seconds_left([(False, "musicgen", 20.0)]) == pytest.approx(200)
    assert pace.seconds_left([(False, "new", 20.0)]) == pytest.approx(20 * (0.5 + 10) / 2)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s left"),
        (59, "59 s left"),
        (600, "10 min left, until 23:10"),
        (7200 + 600, "2 h 10 min left, until Sat 01:10"),
        (3 * 86400, "3.0 days left, until Mon 23:00"),
    ],
)
def test_time_is_told_as_people_do(seconds, words):
    assert told(seconds, NOW) == words
