"""Memory by stage: peaks in every row, however the attempt ended, and over time in a song's record."""

from pathlib import Path

import pytest

from harmonia_lab import Lab
from harmonia_lab.engines import probes
from harmonia_lab.errors import AudioError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine


def lab_in(folder, **audio):
    metadata = FakeMetadataEngine(step_s=0.05)
    return Lab(metadata=metadata, audio=FakeAudioEngine(**audio), songs=folder / "songs", home=folder)


def test_a_song_keeps_its_memory_over_time_by_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "SAMPLE_INTERVAL_S", 0.01)  # within these short stages, on a busy machine too
    with lab_in(tmp_path, step_s=0.1) as lab:
        song = lab.compose("A story.", seconds=1, progress=False)
        (row,) = lab.log.rows()
    memory = read_record(Path(song.directory))["memory"]
    assert list(memory) == ["metadata", "audio"]
    assert memory["metadata"]["began"] == 0
    assert memory["audio"]["began"] >= row["metadata_s"]
    for stage, found in memory.items():
        assert len(found["samples"]) >= 3
        assert max(rss for _, rss, _ in found["samples"]) == row[f"{stage}_rss_peak_bytes"]


def test_an_attempt_that_fails_keeps_the_peaks_of_the_stage_that_it_failed_in(tmp_path):
    with lab_in(tmp_path, errors=[AudioError("No breath left.")]) as lab:
        with pytest.raises(AudioError):
            lab.compose("A story.", seconds=1, progress=False)
        (row,) = lab.log.rows()
    assert row["status"] == "failed"
    assert row["metadata_rss_peak_bytes"] > 0
    assert row["audio_rss_peak_bytes"] > 0
