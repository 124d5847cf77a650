"""Rows are appended whole, by several processes at once, and read back typed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harmonia_lab import Lab
from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.errors import ErrorCode, InvalidRequest, StorageError
from harmonia_lab.store import run_log
from harmonia_lab.store.run_log import COLUMNS, PURPOSES, SCHEMA_VERSION, RunLog
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine


@pytest.fixture
def log(tmp_path):
    return BenchmarkLog(tmp_path / "home" / "runs.jsonl")


def test_a_row_comes_back_with_every_column(log):
    log.append({"run_id": "a-1", "status": "completed", "tokens": 7, "instrument_s": {"piano": 0.5}})
    (row,) = log.rows()
    assert list(row) == list(COLUMNS)
    assert (row["schema"], row["tokens"], row["instrument_s"], row["gpu"]) == (SCHEMA_VERSION, 7, {"piano": 0.5}, None)


def test_an_unknown_column_is_a_defect_not_a_new_column(log):
    with pytest.raises(KeyError, match="latency"):
        log.append({"latency": 1})
    assert log.rows() == []


def test_two_processes_append_at_once_and_no_row_is_lost_or_torn(log):
    code = (
        "import sys; from pathlib import Path; from harmonia_lab.store.run_log import RunLog\n"
        "log = RunLog(Path(sys.argv[1]))\n"
        "for i in range(100): log.append({'run_id': f'{sys.argv[2]}-{i}', 'directory': 'x' * 5000})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(log.path), name]) for name in "ab"]
    assert [w.wait(200) for w in writers] == [0, 0]
    ids = [row["run_id"] for row in log.rows()]
    assert sorted(ids) == sorted(f"{name}-{i}" for name in "ab" for i in range(100))


def test_a_row_cut_off_by_a_crash_costs_only_itself(log):
    log.append({"run_id": "a"})
    with log.path.open("a") as file:
        file.write('{"schema": 1, "run_id": "torn')
    log.append({"run_id": "b"})
    assert [row["run_id"] for row in log.rows()] == ["a", "b"]


def test_rows_of_a_newer_schema_are_left_to_a_newer_program_which_is_said_once(log, caplog):
    log.append({"run_id": "a"})
    with log.path.open("a") as file:
        file.write(json.dumps({"schema": SCHEMA_VERSION + 1, "run_id": "b", "seed": "of another type"}) + "\n")
    assert [row["run_id"] for row in log.rows()] == ["a"]
    assert log.frame(["run_id"]).attrs["left_out"] == {"newer": 1, "damaged": 0}
    log.frame()
    assert caplog.text.count("newer version of Harmonia Lab are left out: 1.") == 1


def test_the_frame_has_types_units_and_missing_values(log):
    log.append({"run_id": "a", "status": "completed", "total_s": 2, "seed": 7})
    log.append({"run_id": "b", "status": "cancelled"})
    frame = log.frame()
    assert list(frame.columns) == list(COLUMNS)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {n: c.dtype for n, c in COLUMNS.items()}
    assert frame["total_s"].mean() == 2.0
    assert frame["seed"].isna().tolist() == [False, True]
    assert frame.attrs["units"]["total_s"] == "s"


def test_an_empty_log_is_an_empty_frame(log):
    assert log.frame().shape == (0, len(COLUMNS))


def test_every_column_says_what_it_means():
    assert all(column.meaning and column.dtype for column in COLUMNS.values())
    assert all(column.unit for name, column in COLUMNS.items() if name.endswith(("_s", "_bytes")))


def test_a_log_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        RunLog(tmp_path / "file" / "runs.jsonl").append({"run_id": "a"})
    assert caught.value.code is ErrorCode.STORAGE_UNWRITABLE


def test_a_value_of_another_type_is_missing_and_costs_no_other(log):
    odd = {"seed": "seven", "tokens": 1.5, "total_s": [1], "status": 3, "instrument_s": "piano", "bpm": True}
    log.append({"run_id": "a", "total_s": 2, "tokens": 7.0})
    log.append({"run_id": "b"} | odd)
    with log.path.open("a") as file:
        file.write('{"schema": "one", "run_id": "c", "seed": 1e400}\n')
    frame = log.frame()
    assert frame["run_id"].tolist() == ["a", "b", "c"]
    assert frame[list(odd)].iloc[1:].isna().all().all()
    assert (frame["total_s"].mean(), frame["tokens"].sum()) == (2.0, 7)


def test_what_a_song_was_made_for_stands_in_its_row_and_only_songs_and_studies_are_in_the_frame(log):
    for purpose in PURPOSES:
        log.append({"run_id": purpose, "purpose": purpose})
    log.append({"run_id": "plain"})
    assert log.frame()["run_id"].tolist() == ["song", "study", "plain"]
    assert log.frame(purposes=["verify", "bench"])["run_id"].tolist() == ["verify", "bench"]
    assert len(log.frame(purposes=PURPOSES)) == len(PURPOSES) + 1


def test_a_log_of_schema_1_is_read_and_appended_to(log):
    """`runs-1.jsonl` was written before there was `purpose`: by a failed song, its retry, a sketch, a cancelled one."""
    log.path.parent.mkdir()
    shutil.copy(Path(__file__).with_name("runs-1.jsonl"), log.path)
    log.append({"run_id": "new", "purpose": "verify"})
    frame = log.frame(purposes=None)
    assert frame["schema"].tolist() == [1, 1, 1, 1, SCHEMA_VERSION]
    assert frame["purpose"].tolist() == ["song"] * 4 + ["verify"]
    assert frame["status"].tolist()[:4] == ["failed", "completed", "completed", "cancelled"]
    assert frame.loc[2, "instrument_s"].keys() == {"piano", "flute"}
    assert frame["load_1m"].isna().all()
    assert log.frame()["run_id"].tolist() == ["old-failed-1", "old-failed-1", "old-sketch-1", "old-cancelled-1"]


def test_a_log_of_schema_2_is_read_and_appended_to(log):
    """`runs-2.jsonl` was written before there was `recoveries`: by a song that recovered, and a cancelled one."""
    log.path.parent.mkdir()
    shutil.copy(Path(__file__).with_name("runs-2.jsonl"), log.path)
    log.append({"run_id": "new", "recoveries": "reconnect,restart", "recovery_s": 4.5})
    frame = log.frame(purposes=None)
    assert frame["schema"].tolist() == [2, 2, 2, SCHEMA_VERSION]
    assert frame["status"].tolist()[:3] == ["failed", "completed", "cancelled"]
    assert frame["error_code"].tolist()[0] == "OLLAMA_UNAVAILABLE"
    assert frame["recoveries"].isna().tolist() == [True, True, True, False]
    assert frame["recovery_s"].tolist()[3] == 4.5
    assert frame.loc[1, "instrument_s"].keys() == {"piano", "flute"}


def test_a_log_of_schema_3_is_read_and_appended_to(log):
    """`runs-3.jsonl` was written before schema 4's columns: by a song, and a cancelled one."""
    log.path.parent.mkdir()
    shutil.copy(Path(__file__).with_name("runs-3.jsonl"), log.path)
    log.append({"run_id": "new", "audio_settings": {"decoder": "fast"}, "audio_decoder": "fast", "batch_row": 7,
                "memory_reason": "no PSS", "audio_uss_peak_bytes": 8})  # fmt: skip
    frame = log.frame(purposes=None)
    assert frame["schema"].tolist() == [3, 3, SCHEMA_VERSION]
    assert frame["status"].tolist()[:2] == ["completed", "cancelled"]
    assert frame["audio_settings"].tolist()[2] == {"decoder": "fast"}
    assert frame[["audio_decoder", "batch_row", "narrative_digest"]].isna().all(axis=1).tolist() == [True, True, False]
    assert frame["batch_row"].tolist()[2] == 7
    assert frame["metadata_pss_peak_bytes"].tolist()[0] == 51536896
    assert frame["memory_reason"].isna().tolist() == [True, True, False]
    assert frame["audio_uss_peak_bytes"].tolist()[2] == 8


def test_columns_come_alone_in_the_order_asked_for_and_with_their_units(log):
    log.append({"run_id": "a", "total_s": 2.5, "seed": 2**32 - 1})
    log.append({"run_id": "b", "purpose": "bench", "total_s": 9})
    frame = log.frame(["total_s", "run_id", "total_s", "seed"])
    assert frame.to_dict("list") == {"total_s": [2.5], "run_id": ["a"], "seed": [2**32 - 1]}
    assert frame.attrs["units"] == {"total_s": "s", "run_id": "", "seed": ""}
    whole = log.frame()
    pd.testing.assert_frame_equal(frame, whole[["total_s", "run_id", "seed"]])


@pytest.mark.parametrize("columns", [["latency"], ["total_s", "latency"]])
def test_a_column_that_there_is_not_is_named_beside_those_that_there_are(log, columns):
    with pytest.raises(InvalidRequest, match="'latency'") as caught:
        log.frame(columns)
    assert "total_s" in caught.value.hint


EDITED = {
    "Windows line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "blank lines": lambda text: ("\n" + text.replace("\n", "\n \n")).encode(),
    "no last line end": lambda text: text.rstrip("\n").encode(),
    "another encoding": lambda text: text.encode("latin-1"),
}


@pytest.mark.parametrize("how", EDITED)
def test_a_log_that_an_editor_saved_keeps_its_rows(log, how, caplog):
    for name in "abc":
        log.append({"run_id": name, "directory": "/Lieder/Übermut", "total_s": 2})
    log.path.write_bytes(EDITED[how](log.path.read_text()))
    log.append({"run_id": "d", "total_s": 2})
    frame = log.frame()
    assert frame["run_id"].tolist() == list("abcd")
    assert (frame["total_s"].sum(), frame.attrs["left_out"]["damaged"]) == (8, 0)
    assert not caplog.text


@pytest.mark.parametrize(
    "line", ["[1, 2]", "null", '{"run_id": "torn', "[" * 100_000, "piano", '{"run_id": "x"} {"run_id": "y"}']
)
def test_a_line_that_is_no_row_is_counted_and_said(log, line, caplog):
    log.append({"run_id": "a"})
    with log.path.open("a") as file:
        file.write(line + "\n")
    log.append({"run_id": "b"})
    assert log.frame().attrs["left_out"] == {"newer": 0, "damaged": 1}
    assert [row["run_id"] for row in log.rows()] == ["a", "b"]
    assert "damaged lines are left out: 1." in caplog.text


@pytest.mark.parametrize("value", ["1e400", "NaN", "-Infinity", "true", '"two"', "[2]", "9" * 400])
def test_a_number_that_is_none_costs_itself_alone(log, value):
    log.append({"run_id": "a"})
    with log.path.open("a") as file:
        file.write(f'{{"schema": 2, "run_id": "b", "total_s": {value}, "seed": {value}, "cores": 2}}\n')
    frame = log.frame(["run_id", "total_s", "seed", "cores"])
    assert frame["run_id"].tolist() == ["a", "b"]
    assert frame[["total_s", "seed"]].isna().all().all()
    assert frame["cores"].iloc[1] == 2


def test_a_text_that_no_file_could_hold_is_missing(log):
    log.append({"run_id": "a"})
    with log.path.open("a") as file:
        file.write('{"schema": 2, "run_id": "b", "directory": "\\ud800", "host": "here"}\n')
    frame = log.frame(["run_id", "directory", "host"])
    assert frame["directory"].isna().all()
    assert frame["host"].iloc[1] == "here"


def test_the_last_rows_are_read_from_the_end(log, monkeypatch):
    for i in range(40):
        log.append({"run_id": f"{i}", "status": "completed", "total_s": i})
    last = log.latest(3, ["total_s", "status"])
    assert last == [{"schema": SCHEMA_VERSION, "total_s": float(i), "status": "completed"} for i in (37, 38, 39)]
    assert len(log.latest(100, ["run_id"])) == 40
    row_bytes = log.path.stat().st_size // 40
    monkeypatch.setattr(run_log, "TAIL_BYTES", 5 * row_bytes)
    found = [row["run_id"] for row in log.latest(100, ["run_id"])]
    assert 3 <= len(found) <= 5
    assert found[-1] == "39"


def test_making_a_song_reads_the_end_of_the_log_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(RunLog, "blocks", lambda *_: pytest.fail("it read the whole log"))
    with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=tmp_path / "songs", home=tmp_path) as lab:
        lab.log.append({"status": "completed", "metadata_model": "fake-model", "metadata_s": 1234.0})
        job = lab.submit("A story.", seconds=1)
        assert lab._local._jobs[job.id].generation.expected_s > 1234
        job.result(60)


def test_the_row_of_an_attempt_is_found(log):
    log.append({"run_id": "x-1", "generation_id": "x", "host": "x-2"})
    assert log.find("x-1")["generation_id"] == "x"
    assert (log.find("x-2"), log.find("x")) == (None, None)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**63), 2**63 - 1])
def test_a_whole_number_is_exact_however_large(log, number):
    log.append({"run_id": "a", "seed": 7})
    log.append({"run_id": "b", "seed": number})
    log.append({"run_id": "c"})
    assert log.frame(["seed"])["seed"].tolist() == [7, number, pd.NA]
