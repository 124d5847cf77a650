"""Rows are appended whole, by several processes at once, and read back typed."""

import json
import subprocess
import sys

import pytest

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.errors import ErrorCode, StorageError
from harmonia_lab.store.run_log import COLUMNS, PURPOSES, SCHEMA_VERSION, RunLog


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


def test_rows_of_a_newer_schema_are_left_to_a_newer_program(log):
    log.append({"run_id": "a"})
    with log.path.open("a") as file:
        file.write(json.dumps({"schema": SCHEMA_VERSION + 1, "run_id": "b"}) + "\n")
    assert [row["run_id"] for row in log.rows()] == ["a"]


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
