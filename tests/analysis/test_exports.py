"""The log in other programs: typed, with its units, and sent nowhere unless asked."""

import json
import sys

import pandas as pd
import pytest

from harmonia_lab.analysis.exports import to_csv, to_mlflow, to_parquet, to_wandb
from harmonia_lab.analysis.frames import frame_of
from harmonia_lab.errors import HarmoniaError, StorageError

ROWS = [
    {
        "run_id": "a-1",
        "generation_id": "a",
        "started_at": "2026-01-31T09:30:00.000Z",
        "status": "completed",
        "audio_engine": "sketch",
        "seed": 7,
        "total_s": 2.5,
        "instrument_s": {"piano": 0.5, "bass (low)": 0.25},
    },
    {"run_id": "b-1", "started_at": "2026-01-31T09:31:00.000Z", "status": "failed", "error_code": "AUDIO_ERROR"},
]


@pytest.fixture
def frame():
    return frame_of(ROWS)


def test_parquet_brings_types_units_and_missing_values_back(frame, tmp_path):
    to_parquet(frame, tmp_path / "log.parquet")
    back = pd.read_parquet(tmp_path / "log.parquet")
    assert back.attrs["units"]["total_s"] == "s"
    assert back["seed"].dtype == frame["seed"].dtype
    assert back["total_s"].isna().tolist() == [False, True]
    assert json.loads(back["instrument_s"][0]) == ROWS[0]["instrument_s"]
    plain = [name for name in frame if name != "instrument_s"]
    pd.testing.assert_frame_equal(back[plain], frame[plain])


def test_csv_is_read_back_by_anybody(frame, tmp_path):
    to_csv(frame, tmp_path / "log.csv")
    back = pd.read_csv(tmp_path / "log.csv")
    assert back["total_s"].tolist()[0] == 2.5
    assert list(back.columns) == list(frame.columns)
    assert json.loads(back["instrument_s"][0]) == ROWS[0]["instrument_s"]


def test_an_empty_log_is_an_empty_file_with_columns(tmp_path):
    to_parquet(frame_of([]), tmp_path / "log.parquet")
    assert len(pd.read_parquet(tmp_path / "log.parquet")) == 0


@pytest.mark.parametrize("export", [to_csv, to_parquet])
def test_a_place_that_cannot_be_written_says_so(export, frame, tmp_path):
    with pytest.raises(StorageError):
        export(frame, tmp_path / "nowhere" / "log")


@pytest.mark.parametrize(
    ("export", "module", "hint"),
    [
        (lambda frame: to_parquet(frame, "log.parquet"), "pyarrow", "pyarrow"),
        (to_mlflow, "mlflow", "harmonia-lab[mlflow]"),
        (to_wandb, "wandb", "harmonia-lab[wandb]"),
    ],
)
def test_a_package_that_is_not_there_is_named_with_the_command_that_installs_it(
    export, module, hint, frame, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)  # what an import of a package that is not installed meets
    with pytest.raises(HarmoniaError, match=module) as caught:
        export(frame)
    assert hint in caught.value.hint


@pytest.mark.filterwarnings("default")  # mlflow's own
def test_mlflow_has_a_run_for_each_row_once(frame, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would want more packages than the export does
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    uri = f"file://{tmp_path}/mlruns"
    ids = to_mlflow(frame, experiment="songs", tracking_uri=uri)
    assert to_mlflow(frame, experiment="songs", tracking_uri=uri) == ids
    client = mlflow.MlflowClient(tracking_uri=uri)
    first, second = (client.get_run(run_id) for run_id in ids)
    assert first.data.metrics == {"total_s": 2.5, "instrument_s.piano": 0.5, "instrument_s.bass _low_": 0.25}
    assert first.data.params == {"audio_engine": "sketch", "seed": "7"}
    assert (first.info.status, second.info.status) == ("FINISHED", "FAILED")
    assert first.info.end_time - first.info.start_time == 2500
    assert second.data.tags["error_code"] == "AUDIO_ERROR"


@pytest.mark.filterwarnings("default")  # wandb's own
def test_wandb_has_a_run_for_each_row(frame, tmp_path):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    assert to_wandb(frame, mode="offline", dir=tmp_path) == ["a-1", "b-1"]
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2
