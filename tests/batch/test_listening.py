"""The listening page of a batch: which songs stand side by side, and what is said of each."""

import json
import re

from harmonia_lab.batch.handle import BatchWatch
from harmonia_lab.batch.listening import write_page
from harmonia_lab.batch.report import BatchReport, Outcome
from harmonia_lab.batch.rows import Row
from harmonia_lab.batch.run import BatchOptions, run_batch
from harmonia_lab.lab import Lab
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine
from tests.player.songs import make_song

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028\"'`${1}"


def song(out, number, title="A Small Boat", **changes):
    directory = f"a folder #{number}"
    make_song(out / directory, title=title, seconds=1, stems=(), seed=number)
    return {
        "directory": directory, "title": title, "genre": "folk", "bpm": 96, "key": "A minor", "seed": number,
        "engines": {"metadata": "given", "audio": "sketch"}, "loudness": -14.0, "checksum": str(number), **changes,
    }  # fmt: skip


def report(out, *songs, narrative="A story."):
    rows = [Row(n, request=SongRequest(narrative=narrative)) for n in range(len(songs))]
    return BatchReport(out, [Outcome(row, "made", song=s) for row, s in zip(rows, songs, strict=True)], None)


def groups(out):
    (data,) = re.findall(
        r'<script type="application/json" id="groups">(.*?)</script>', (out / "listen.html").read_text()
    )
    return json.loads(data)


def test_the_songs_of_one_narrative_are_compared_and_those_of_another_stand_apart(tmp_path):
    made = report(tmp_path, song(tmp_path, 1), song(tmp_path, 2))
    other = Row(3, request=SongRequest(narrative="Another."))
    made.outcomes.append(Outcome(other, "kept", song=song(tmp_path, 3, title="Alone")))
    write_page(made)
    assert [[each["title"] for each in one["songs"]] for one in groups(tmp_path)] == [["A Small Boat"] * 2, ["Alone"]]
    assert re.findall("<h2[^>]*>(.*?)</h2>", (tmp_path / "listen.html").read_text()) == ["A story.", "Another."]


def test_a_song_that_two_rows_ask_for_is_one_variant_and_failures_are_none(tmp_path):
    made = report(tmp_path, song(tmp_path, 1), song(tmp_path, 2))
    made.outcomes[1] = Outcome(made.outcomes[1].row, "made", same_as=0, song=made.outcomes[0].song)
    made.outcomes.append(Outcome(Row(3, request=SongRequest(narrative="Another.")), "failed"))
    made.outcomes.append(Outcome(Row(4), "failed"))
    made.outcomes.append(Outcome(Row(5, request=SongRequest(narrative="Moved.")), "kept", song={"directory": "away"}))
    write_page(made)
    (group,) = groups(tmp_path)
    assert len(group["songs"]) == 1


def test_no_word_ends_the_script_or_becomes_markup(tmp_path):
    write_page(report(tmp_path, song(tmp_path, 1, title=EVIL), narrative=EVIL))
    page = (tmp_path / "listen.html").read_text()
    assert "alert(1)</script>" not in page
    assert "<!--" not in page
    assert groups(tmp_path)[0]["songs"][0]["title"] == EVIL


def test_an_interrupted_batch_does_not_wait_for_a_page(tmp_path):
    stopped = report(tmp_path, song(tmp_path, 1))
    stopped.state = "interrupted"
    write_page(stopped)
    assert not (tmp_path / "listen.html").exists()


def test_the_measured_stands_beside_the_asked_and_the_folder_is_named_from_the_batchs(tmp_path):
    measured = {"bpm": 95.6, "bpmConfidence": 0.9, "key": None, "keyConfidence": 0.1}
    write_page(report(tmp_path, song(tmp_path, 1, measured=measured), song(tmp_path, 2)))
    heard, asked = groups(tmp_path)[0]["songs"]
    assert heard["facts"].endswith("heard: about 96 bpm (asked 96), no clear key (asked A minor)")
    assert asked["facts"] == "seed 2 · sketch · words: embedded (small) · folk · 96 bpm · A minor"
    assert ["Folder", "a folder #1"] in heard["about"]


def test_a_batch_says_at_its_end_how_many_sounds_it_encodes_and_nothing_of_a_page_that_holds_them(tmp_path):
    lines, heard = [], []

    class Watch(BatchWatch):
        def row_ended(self, index, outcome):
            heard.append(outcome.status)

        def noted(self, note):
            heard.append(note)

    def run(out):
        heard.clear()
        run_batch(lab, rows, out, BatchOptions(), say=lines.append, watch=Watch())

    with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=tmp_path, home=tmp_path / "home") as lab:
        rows = [{"narrative": "A story.", "seconds": 1, "seed": seed} for seed in range(2)]
        run(tmp_path / "out")
        assert heard == ["made", "made", lines[-1]]
        assert re.fullmatch(r"encoding \d+ sounds for listen.html", lines[-1])
        run(tmp_path / "out")
        assert heard == ["kept", "kept"]
