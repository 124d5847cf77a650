"""A batch on a cluster: several songs at once, in the table's order, with the names and bytes of one machine."""

import json

import pytest

from harmonia_lab import Lab
from harmonia_lab.testing import SONG_METADATA
from tests.backends.cluster.test_songs import repeatable
from tests.waiting import PATIENCE_S, until

META = SONG_METADATA.model_dump(mode="json", by_alias=True)


def rows(count):
    return [{"metadata": META, "seconds": 1, "seed": seed} for seed in range(count)]


def test_a_batch_makes_as_many_songs_at_once_as_there_are_places(new_lab, noted, tmp_path):
    lines = []
    lab = new_lab(audio_settings={"step_s": 0.1})
    report = lab.batch(rows(5), tmp_path / "out", say=lines.append)
    assert report.ok
    assert [outcome.status for outcome in report.outcomes] == ["made"] * 5
    assert len({line[1] for line in noted("begun")}) == 2
    numbers = [line.split("/")[0].strip() for line in lines if "/5  music" in line]
    assert numbers == ["1", "2", "3", "4", "5"]
    again = lab.batch(rows(5), tmp_path / "out", say=lines.append)
    assert [outcome.status for outcome in again.outcomes] == ["kept"] * 5
    with Lab(songs=tmp_path / "s", home=tmp_path / "h", audio="tones", audio_settings={"step_s": 0.1}) as plain:
        alone = plain.batch(rows(1), tmp_path / "alone", say=lines.append)
    first, same = report.outcomes[0].song, alone.outcomes[0].song
    assert repeatable(tmp_path / "out" / first["directory"]) == repeatable(tmp_path / "alone" / same["directory"])


@pytest.mark.stress
def test_a_cancelled_batch_stops_all_of_its_songs_and_goes_on_later(new_lab, noted, tmp_path):
    lab = new_lab(audio_settings={"step_s": 60.0})
    batch = lab.batch(rows(5), tmp_path / "out", say=lambda _line: None, wait=False)
    until(lambda: len(noted("begun")) == 2)
    assert [row.status for row in batch.rows] == [*["running"] * 4, "waiting"]
    batch.cancel(2)
    until(lambda: len(noted("begun")) == 3)  # its place is the third's
    batch.cancel()
    report = batch.result(PATIENCE_S)
    assert report.state == "stopped"
    assert not any(outcome.song for outcome in report.outcomes)
    assert lab.log.frame()["status"].tolist() == ["cancelled"] * len(lab.log.frame())
    assert json.loads((tmp_path / "out" / "report.json").read_text())["state"] == "stopped"
