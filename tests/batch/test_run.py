"""A batch makes what is not there yet, once, whatever happened before; a bad row stops nobody else."""

import json
import threading

import pytest

from harmonia_lab.errors import AudioError, ErrorCode, InvalidRequest, StorageError
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine
from tests.batch.conftest import lab_in, quiet, row, statuses


def test_songs_are_made_once_and_kept_at_the_next_run(lab, tmp_path):
    rows = [row(seed=1), row(seed=2), row()]
    first = lab.batch(rows, tmp_path / "out", say=quiet)
    assert statuses(first) == ["made"] * 3
    again = lab.batch(rows, tmp_path / "out", say=quiet)
    assert statuses(again) == ["kept"] * 3
    assert [o.song for o in again.outcomes] == [o.song for o in first.outcomes]
    assert [logged["batch_row"] for logged in lab.log.rows()] == [1, 2, 3]
    assert len({logged["narrative_digest"] for logged in lab.log.rows()}) == 1
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == again.to_json()
    assert sorted(again.frame()["checksum"]) == sorted(o.song["checksum"] for o in first.outcomes)


def test_a_row_without_a_seed_has_the_same_one_everywhere(lab, tmp_path):
    here, there = (lab.batch([row()], tmp_path / name, say=quiet).outcomes[0].song for name in ("here", "there"))
    assert here["seed"] == there["seed"]
    assert here["checksum"] == there["checksum"]


def test_the_same_request_twice_is_made_once_and_reported_twice(lab, tmp_path):
    report = lab.batch([row(seed=1), row(seed=2), row(seed=1.0)], tmp_path / "out", say=quiet)
    first, _, third = report.outcomes
    assert (third.song, third.same_as, third.row.number) == (first.song, 1, 3)
    assert len(lab.log.rows()) == 2
    assert report.to_json()["songs"] == 3


def test_bad_values_unknown_engines_and_failing_engines_stop_nobody_else(tmp_path):
    broken = FakeAudioEngine(errors=[AudioError("The flute broke.")])
    with lab_in(tmp_path, audio=broken) as lab:
        rows = [row(seed=1), row(key="H"), row(audio="flute"), row(seed=2)]
        report = lab.batch(rows, tmp_path / "out", say=quiet)
        assert statuses(report) == ["failed", "failed", "failed", "made"]
        codes = [outcome.error.code for outcome in report.errors]
        assert codes == [ErrorCode.AUDIO_ERROR, ErrorCode.INVALID_PAYLOAD, ErrorCode.INVALID_PAYLOAD]
        assert report.to_json()["codes"] == {"AUDIO_ERROR": 1, "INVALID_PAYLOAD": 2}
        # What failed is tried again by the next run, and what its first attempt left is cleared away.
        again = lab.batch(rows, tmp_path / "out", say=quiet)
        assert statuses(again) == ["made", "failed", "failed", "kept"]
        assert list((tmp_path / "out").glob("*partial*")) == []


def test_another_engine_or_model_is_another_song(tmp_path):
    out = tmp_path / "out"
    for audio, model in (("sketch", "a"), ("sketch", "b"), ("fake", "a")):
        engine = FakeAudioEngine() if audio == "fake" else audio
        with lab_in(tmp_path, audio=engine) as lab:
            report = lab.batch([row(seed=1, model=model)], out, say=quiet)
            assert statuses(report) == ["made"]
            assert report.outcomes[0].song["engines"]["audio"].startswith(audio)


def test_a_row_may_choose_its_engine_and_bring_its_metadata(lab, tmp_path):
    report = lab.batch([row(audio="sketch"), {"metadata": SONG_METADATA, "seconds": 1}], tmp_path / "o", say=quiet)
    assert [o.song["engines"] for o in report.outcomes] == [
        {"metadata": "fake (fake-model)", "audio": "sketch (TimGM6mb.sf2)"},
        {"metadata": "given", "audio": "fake (tones)"},
    ]


def test_a_row_may_choose_its_audio_model(lab, tmp_path, checkpoint):
    model = str(checkpoint("tiny"))
    rows = [{"metadata": SONG_METADATA, "seconds": 1, "seed": 1, "audio_model": m} for m in (model, "tones")]
    report = lab.batch([*rows, rows[0] | {"audio": "sketch"}], tmp_path / "out", say=quiet)
    assert statuses(report) == ["made", "made", "failed"]
    assert [o.song["engines"]["audio"].split()[0] for o in report.songs] == ["musicgen", "fake"]
    assert "has no model" in report.errors[0].error.message


def test_a_line_is_said_for_each_stage(lab, tmp_path):
    lines = []
    lab.batch([row(seed=1), row(seed=1), row(bpm=1)], tmp_path / "out", say=lines.append)
    assert lines[:3] == [
        "3 rows: 1 songs to make, 0 kept, 1 the same as others, 1 with errors",
        "These rows can't be made: row 3",
        "Words by fake (given)",
    ]
    assert [line.split()[:2] for line in lines[3:]] == [
        ["1/3", "lyrics"],
        ["1/3", "music"],
        ["2/3", "the"],
        ["3/3", "failed"],
        ["encoding", "3"],
    ]
    assert "[INVALID_PAYLOAD] bpm" in lines[-2]
    lab.batch([row(seed=1)], tmp_path / "out", say=lines.append)
    assert lines[-1].split()[:2] == ["1/1", "kept"]


def test_words_of_a_model_move_no_cursor(tmp_path):
    title = "\x1b[2J\u202ehidden\nline"
    metadata = SONG_METADATA.model_copy(update={"title": title})
    lines = []
    with lab_in(tmp_path, metadata=FakeMetadataEngine(metadata)) as lab:
        report = lab.batch([row(seed=1)], tmp_path / "out", say=lines.append)
    for text in (*lines, *str(report).split("\n")):
        assert text.isprintable()
        assert "\u202e" not in text


def test_an_interrupt_ends_the_song_writes_the_report_and_gets_through(tmp_path):
    with lab_in(tmp_path, audio=FakeAudioEngine(step_s=60)) as lab:

        def interrupt(line):
            if "lyrics" in line:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            lab.batch([row(bpm=1), row(seed=1), row(seed=2)], tmp_path / "out", say=interrupt)
        assert [r["status"] for r in lab.log.rows()] == ["cancelled"]
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert [r["status"] for r in report["rows"]] == ["failed", "waiting", "waiting"]


def test_a_second_batch_in_the_same_folder_is_refused_while_the_first_is_at_work(lab, tmp_path):
    refused = []

    def meanwhile():
        with lab_in(tmp_path / "other") as other, pytest.raises(StorageError, match="Another batch") as caught:
            other.batch([row(seed=2)], tmp_path / "out", say=quiet)
        refused.append(caught.value)

    def say(line):
        if not refused:
            thread = threading.Thread(target=meanwhile)
            thread.start()
            thread.join(60)

    assert statuses(lab.batch([row(seed=1)], tmp_path / "out", say=say)) == ["made"]
    assert refused


def test_a_damaged_song_is_neither_kept_nor_overwritten(lab, tmp_path):
    song = lab.batch([row(seed=1)], tmp_path / "out", say=quiet).outcomes[0].song
    folder = tmp_path / "out" / song["directory"]
    (folder / "song.flac").write_bytes(b"short")
    (outcome,) = lab.batch([row(seed=1)], tmp_path / "out", say=quiet).outcomes
    assert "no whole song" in outcome.error.message
    assert (folder / "song.flac").read_bytes() == b"short"


@pytest.mark.parametrize("out", ["/dev/null/out", "/sys/harmonia-batch"])
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_made(lab, out):
    with pytest.raises(StorageError):
        lab.batch([row(seed=1)], out, say=quiet)
    assert lab.log.rows() == []


def test_a_sweep_is_every_narrative_with_every_seed_and_engine_and_goes_on_when_run_again(lab, tmp_path):
    report = lab.sweep(["One.", "Two."], seeds=range(2), audio=["fake", "sketch"], seconds=1, say=quiet)
    made = [(o.row.request.narrative, o.song["seed"], o.song["engines"]["audio"][:4]) for o in report.outcomes]
    assert len(set(made)) == len(made) == 8
    assert made[:2] == [("One.", 0, "fake"), ("One.", 0, "sket")]
    assert len(report.frame()) == 8
    again = lab.sweep(["One.", "Two."], seeds=range(2), audio=["fake", "sketch"], seconds=1, say=quiet)
    assert again.out == report.out
    assert statuses(again) == ["kept"] * 8
    with pytest.raises(InvalidRequest, match="no column 'secnds'"):
        lab.sweep("One.", secnds=1)


def test_settings_of_a_row_make_another_song_and_bad_ones_are_found_before_the_first(lab, tmp_path):
    rows = [row(seed=1), row(seed=1, audio_options={"pitch": 440}), row(seed=1, audio_options={"pitch": 5})]
    rows += [row(seed=1, cfg_coef=5), row(seed=1, audio="sketch", prompt="rain"), row(seed=1, melody="gone.wav")]
    lines = []
    checked = lab.batch(rows, tmp_path / "out", check=True, say=lines.append)
    assert statuses(checked) == ["waiting"] * 2 + ["failed"] * 4
    assert [outcome.error.details["fields"][0] for outcome in checked.errors] == [
        "pitch",
        "cfg_coef",
        "prompt",
        "melody",
    ]
    assert "Engines that take it: diffusers, musicgen" in "\n".join(lines)
    made = lab.batch(rows, tmp_path / "out", say=quiet)
    assert statuses(made) == ["made"] * 2 + ["failed"] * 4
    plain, higher = (outcome.song for outcome in made.outcomes[:2])
    assert plain["checksum"] != higher["checksum"]
    assert (plain["audioOptions"], higher["audioOptions"]) == (None, {"pitch": 440})
    assert statuses(lab.batch(rows, tmp_path / "out", say=quiet))[:2] == ["kept"] * 2
    assert "pitch 440" in (tmp_path / "out" / "listen.html").read_text()


def test_a_named_rows_song_is_kept_as_long_as_its_settings_and_recordings_are_the_same(lab, tmp_path):
    for place, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "tune.wav").write_bytes(content)

    def status(place, pitch=440):
        options = {"melody": str(tmp_path / place / "tune.wav"), "pitch": pitch}
        table = [row(seed=1, name="mine", audio_options=options), row(seed=2, audio_options=options)]
        return statuses(lab.batch(table, tmp_path / "out", say=quiet))

    assert status("a") == ["made", "made"]
    assert status("b") == ["kept", "kept"]  # the recording counts, not its place
    assert status("c") == ["failed", "made"]
    assert status("a", pitch=441) == ["failed", "made"]


def test_a_sweep_makes_a_song_for_each_value_of_a_setting(lab, tmp_path):
    found = lab.sweep(
        "A story.", seeds=[1], seconds=1, prompt=["rain", "wind"], audio_options={"pitch": 300}, say=quiet
    )
    assert statuses(found) == ["made", "made"]
    assert [o.row.request.audio_options for o in found.outcomes] == [
        {"pitch": 300, "prompt": "rain"},
        {"pitch": 300, "prompt": "wind"},
    ]
