"""A study makes every song once, in the drawn order, whatever stopped it before; its rows say where they belong."""

import _thread
import base64
import hashlib
import json
import shutil
import signal
import warnings

import pytest

from harmonia_lab import Lab
from harmonia_lab.backends import local
from harmonia_lab.errors import AudioError, ErrorCode, HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.storage import locked
from harmonia_lab.study import StudyReport
from harmonia_lab.study.folder import StudyFolder, StudyLog
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine


def lab_in(folder, **engines):
    return Lab(**{"metadata": FakeMetadataEngine(), "audio": FakeAudioEngine()} | engines, home=folder / "home")


@pytest.fixture(autouse=True, scope="module")
def without_pictures():
    """A song's picture takes as long as all else together, and says nothing about a study."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local, "_draw_overview", lambda path, **picture: "")
        yield


@pytest.fixture
def lab(tmp_path):
    with lab_in(tmp_path) as lab:
        yield lab


def design(**fields):
    basis = {
        "stories": [{"metadata": SONG_METADATA}],
        "seeds": 2,
        "lengths": [1],
        "primary": "cpu_s",
        "configurations": {"one": {}, "two": {}},
    }
    return basis | fields


DESIGN = design(name="a <b>study<b>", configurations={"one": {}, "速い $x^2$": {}})
"""Of the study that most tests share."""


def quiet(line):
    """Nobody listens."""


def made(report):
    """Block and configuration of each row, in the order of the rows."""
    return [(row["block"], row["configuration"]) for row in report.folder.rows().rows()]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of two blocks by a lab with fake engines, whole: its report, the run log's rows, and what was said."""
    folder, lines = tmp_path_factory.mktemp("study"), []
    with lab_in(folder) as lab:
        with warnings.catch_warnings(record=True) as warned:
            report = lab.study(DESIGN, folder / "out", say=lines.append)
        assert not [each for each in warned if "Glyph" in str(each.message)]
        return report, lab.log.rows(), lines


@pytest.fixture
def copied(study, tmp_path):
    """A copy of that study's folder."""
    return shutil.copytree(study[0].folder.path, tmp_path / "copied")


def test_songs_are_made_in_the_drawn_order_after_a_warm_up_of_each_configuration(study):
    report, _, _ = study
    drawn = [(block.number, name) for block in report.record.blocks for name in block.order]
    assert made(report) == [(None, name) for name in DESIGN["configurations"]] + drawn
    assert report.incomplete() == {}
    assert len(report.frame()) == 4
    assert len(report.frame(warm_up=True)) == 6


def test_the_run_log_has_the_same_rows_and_each_knows_its_study_block_and_configuration(study):
    report, logged, _ = study
    rows = report.folder.rows().rows()
    same = ("run_id", "study", "block", "configuration", "purpose", "cpu_s", "checksum")
    assert [[row[name] for name in same] for row in rows] == [[row[name] for name in same] for row in logged]
    assert {(row["purpose"], row["study"]) for row in rows} == {("study", report.record.id)}


def test_a_studys_folder_names_no_machine_and_no_folder_outside(study):
    report, logged, _ = study
    text = "".join(path.read_text() for path in report.folder.path.glob("*") if path.is_file())
    assert str(report.folder.path) not in text
    assert logged[0]["host"]
    assert f'"{logged[0]["host"]}"' not in text
    directories = [row["directory"] for row in report.folder.rows().rows() if row["block"]]
    assert all((report.folder.path / directory / "song.flac").exists() for directory in directories)


def test_a_studys_rows_name_recordings_without_their_folders(tmp_path):
    log = StudyLog(tmp_path / "runs.jsonl", StudyFolder(tmp_path / "study"), "s")
    settings = {"melody": str(tmp_path / "tune.wav"), "prompt": "a/b", "top_k": 5}
    log.append({"run_id": "1", "study": "s", "host": "h", "audio_settings": settings})
    (row,) = StudyFolder(tmp_path / "study").rows().rows()
    assert row["audio_settings"] == {"melody": "tune.wav", "prompt": "a/b", "top_k": 5}
    assert log.rows()[0]["audio_settings"] == settings


def test_the_folder_has_requests_packages_code_and_engines(study):
    report, _, _ = study
    requests = [json.loads(line) for line in (report.folder.path / "requests.jsonl").read_text().splitlines()]
    assert [(r["block"], r["seed"], r["seconds"]) for r in requests] == [(1, 0, 1.0), (2, 1, 1.0)]
    assert "numpy" in report.folder.packages()[0]
    assert report.record.engines["one"]["audio"]["engine"] == "fake"
    assert report.record.version


def test_a_second_call_makes_nothing(lab, copied, study):
    again = lab.study(DESIGN, copied, say=quiet, page=False)
    assert again.folder.rows_path.read_bytes() == study[0].folder.rows_path.read_bytes()
    assert again.record == study[0].record
    assert lab.log.rows() == []


def test_after_an_interrupt_the_same_call_goes_on_and_what_was_made_is_kept(tmp_path, lab):
    (tmp_path / "out").mkdir()  # as a process left it that was killed before it had written study.json
    for name in ("requests.jsonl", "requirements.txt", "study.json.partial"):
        (tmp_path / "out" / name).write_text("{")

    def interrupt(line):
        if line.startswith("1/2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.study(design(seeds=1, warm_up=0), tmp_path / "out", say=interrupt, page=False)
    before = StudyReport(tmp_path / "out")
    (first,) = made(before)
    after = lab.study(design(seeds=1, warm_up=0), tmp_path / "out", say=quiet, page=False)
    assert after.record == before.record
    assert made(after)[0] == first
    assert len(set(made(after))) == len(made(after)) == 2


def test_a_song_that_is_interrupted_is_cancelled_and_logged(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever an event loop of another test has left

    class Interrupting(FakeAudioEngine):
        def render(self, *arguments):
            _thread.interrupt_main()
            return super().render(*arguments)

    with lab_in(tmp_path, audio=Interrupting(step_s=60)) as lab:
        with pytest.raises(KeyboardInterrupt):
            lab.study(design(warm_up=0), tmp_path / "out", say=quiet)
        (row,) = StudyReport(tmp_path / "out").folder.rows().rows()
        assert (row["status"], row["block"]) == ("cancelled", 1)


def test_what_a_killed_process_left_is_made_again(lab, copied):
    rows = copied / "rows.jsonl"
    lines = rows.read_bytes().splitlines(keepends=True)
    last = json.loads(lines[-1])
    # Killed after the song's folder was there, while its row was being written; and some parts of another attempt.
    rows.write_bytes(b"".join(lines[:-1]) + lines[-1][:50])
    (copied / "songs" / f".{last['directory'].split('/')[1]}.partial-0123abcd").mkdir()
    after = lab.study(DESIGN, copied, say=quiet, page=False)
    assert after.incomplete() == {}
    again = after.folder.rows().rows()[-1]
    assert (again["directory"], again["checksum"]) == (last["directory"], last["checksum"])
    assert list(after.folder.songs.glob(".*")) == []
    assert any("two sessions" in warning and "blocks 2." in warning for warning in after.compare().warnings)


def test_a_design_that_changed_is_refused_with_what_changed(tmp_path, lab, copied):
    with pytest.raises(InvalidRequest, match=r"lengths\.1: 1\.0, now 2\.0") as caught:
        lab.study(DESIGN | {"lengths": [2], "claim": "typical"}, copied, say=quiet)
    assert caught.value.details["fields"] == ["lengths.1", "claim"]
    with lab_in(tmp_path, audio="sketch") as other, pytest.raises(InvalidRequest, match="fake, now sketch"):
        other.study(DESIGN, copied, say=quiet)


def test_a_folder_with_other_files_is_refused(tmp_path, lab):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidRequest, match=r"thesis\.txt"):
        lab.study(design(), tmp_path / "out", say=quiet)
    with pytest.raises(StorageError):
        lab.study(design(), "/dev/null/out", say=quiet)
    assert lab.log.rows() == []


def test_a_song_that_fails_stops_no_other_and_is_tried_again_by_the_next_call(tmp_path):
    broken = FakeAudioEngine(errors=[AudioError("The flute broke.")])
    lines = []
    with lab_in(tmp_path) as lab:
        asked = design(seeds=1, warm_up=0, configurations={"one": {}, "two": {"audio": broken}})
        report = lab.study(asked, tmp_path / "out", say=lines.append, page=False)
        (missing,) = report.missing
        assert (missing.configuration, missing.error.code) == ("two", ErrorCode.AUDIO_ERROR)
        assert report.incomplete() == {missing.block: ["two"]}
        assert any("[AUDIO_ERROR] The flute broke." in line for line in lines)
        assert any("for lack of a side" in warning for warning in report.compare().warnings)
        assert report.compare().ended == {"one": {"completed": 1}, "two": {"failed": 1}}
        again = lab.study(asked, tmp_path / "out", say=quiet, page=False)
        assert again.incomplete() == {}
        assert list(again.folder.songs.glob("*partial*")) == []


def test_configurations_that_always_fail_do_not_take_the_night(tmp_path):
    engines = {name: FakeAudioEngine(errors=[AudioError("Broken.")] * 100) for name in ("one", "two", "three")}
    lines = []
    with lab_in(tmp_path) as lab:
        asked = design(seeds=30, warm_up=0, configurations={name: {"audio": engines[name]} for name in engines})
        report = lab.study(asked, tmp_path / "out", say=lines.append)
    tried = {name: 100 - len(engine.errors) for name, engine in engines.items()}
    assert sorted(tried.values()) in ([2, 3, 3], [3, 3, 3])  # with one left there is nothing to compare
    assert len(report.missing) == 90
    assert report.missing[-1].error.code == ErrorCode.AUDIO_ERROR
    assert "failed 3 times in a row" in report.missing[-1].error.message
    assert len(lines) < 20
    assert "No run has completed." in report.folder.page.read_text()


def test_another_process_at_work_in_the_folder_is_said(lab, copied):
    with locked(copied / ".study.lock", "This test has it."), pytest.raises(StorageError, match="Another process"):
        lab.study(DESIGN, copied, say=quiet)


def test_songs_and_models_are_kept_only_where_the_design_keeps_them(tmp_path):
    engine = FakeAudioEngine()
    engine.closings = 0
    engine.close = lambda: setattr(engine, "closings", engine.closings + 1)
    with lab_in(tmp_path, audio=engine) as lab:
        asked = design(seeds=1, warm_up=0, keep_songs=False, keep_loaded=False)
        report = lab.study(asked, tmp_path / "out", say=quiet, page=False)
    assert engine.closings == 2 + 2 + 1  # after each song, by each configuration's lab, and by this one
    assert list(report.folder.songs.iterdir()) == []
    assert all(row["checksum"] for row in report.folder.rows().rows())


def test_engines_that_cannot_be_had_are_all_named_before_anything_is_made(tmp_path, lab):
    asked = design(configurations={"a": {"audio": "flute"}, "b": {}, "c": {"metadata": "harp"}})
    with pytest.raises(InvalidRequest) as caught:
        lab.study(asked, tmp_path / "out", say=quiet)
    assert caught.value.details["fields"] == ["configurations.a.audio", "configurations.c.metadata"]
    assert not (tmp_path / "out").exists()
    assert "4 songs of 4 s in all" in lab.check_study(design())


def test_lines_tell_how_far_it_is_and_how_long_it_will_take(study):
    report, _, lines = study
    drawn = [(block.number, name) for block in report.record.blocks for name in block.order]
    heads = [f"{number}/4  block {block}  {name}" for number, (block, name) in enumerate(drawn, 1)]
    assert [line.split(":")[0] for line in lines[-4:]] == heads
    assert ["left" in line for line in lines[-4:]] == [True, True, True, False]


def test_a_study_made_again_says_which_songs_are_the_same_and_what_differs_around_it(study, copied):
    packages, rows = copied / "requirements.txt", copied / "rows.jsonl"
    packages.write_text(packages.read_text().replace("numpy==", "numpy==0."))
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    lines[-1]["checksum"] = "0" * 64
    rows.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = StudyReport(copied).against(study[0].folder.path)
    assert (found.same_songs, found.missing_songs) == (3, 0)
    assert found.other_songs == [(lines[-1]["block"], lines[-1]["configuration"])]
    assert [line.split(":")[0] for line in found.around] == ["numpy"]
    assert "3 of 4 have the same bytes" in str(found)


def test_a_study_of_engine_objects_cannot_be_made_from_its_folder(lab, tmp_path, study):
    with pytest.raises(InvalidRequest, match="object"):
        lab.study(study[0].folder.path, tmp_path / "out", say=quiet)


def test_another_study_is_not_taken_for_the_same_one_again(tmp_path, study, copied):
    record = json.loads((copied / "study.json").read_text())
    record["blocks"][0]["seed"] = 5
    (copied / "study.json").write_text(json.dumps(record))
    with pytest.raises(InvalidRequest, match="does not repeat"):
        StudyReport(copied).against(study[0].folder.path)
    with pytest.raises(HarmoniaError, match="no study"):
        StudyReport(copied).against(tmp_path)
    (copied / "study.json").write_text('{"studyVersion": 99}')
    with pytest.raises(HarmoniaError, match="newer"):
        StudyReport(copied)


def test_the_page_is_one_file_with_its_own_script_alone_and_shows_texts_as_text(study):
    report, _, _ = study
    page = report.folder.page.read_text()
    assert "a &lt;b&gt;study&lt;b&gt;" in page
    assert "<b>study" not in page
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/svg+xml;base64,") >= 3
    assert "速い $x^2$" in page
    assert page.count("<script") - page.count('<script type="application/json"') == 1
    script = page.partition('<script type="module">')[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\">" in page
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert len(data["rows"]) == 6
