"""SF3 sound banks, made here from the bundled bank by libsndfile's Vorbis encoder."""

import contextlib
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest

from harmonia_lab.audio_engines.sketch.engine import SketchEngine
from harmonia_lab.audio_engines.sketch.sf3 import BankFormatError, is_compressed, unpacked
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, ErrorCode
from harmonia_lab.storage import home_folder
from tests.audio_engines.sound_banks import BANK, RECORD, contents, write_sf3
from tests.audio_engines.test_sketch import children, planned


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_sf3(tmp_path_factory.mktemp("banks") / "small.sf3")


@pytest.fixture
def bank(made, tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "home"))
    return made


def stems(soundfont, plan):
    with contextlib.closing(SketchEngine(soundfont)) as engine:
        return engine.render(plan.parts, plan, {}, lambda _: None, CancelToken(), {})


def test_a_song_with_an_sf3_bank_sounds_as_with_the_sf2_bank_that_it_was_made_from(bank, monkeypatch):
    plan = planned(3.0)
    monkeypatch.setenv("HARMONIA_SOUNDFONT", str(bank))
    for ours, original in zip(stems(None, plan), stems(BANK, plan), strict=True):
        a, b = ours.audio.ravel(), original.audio.ravel()
        assert np.corrcoef(a, b)[0, 1] > 0.97, ours.name
        assert np.sqrt(np.mean(a**2)) == pytest.approx(np.sqrt(np.mean(b**2)), rel=0.06)
    [cached] = (home_folder() / "sound-banks").glob("*.sf2")
    written = cached.stat().st_mtime_ns
    assert len(stems(bank, plan)) == 3
    assert cached.stat().st_mtime_ns == written


def test_the_record_has_the_digest_of_the_sf3_file(bank):
    record = SketchEngine(bank).record()
    assert record["model"] == "small.sf3"
    assert record["bytes"] == bank.stat().st_size


def test_every_sample_lies_where_its_record_says_and_loops_where_it_did(bank, tmp_path):
    assert is_compressed(bank)
    assert not is_compressed(BANK)
    path = unpacked(bank, tmp_path)
    assert not is_compressed(path)
    ours, original = contents(path), contents()
    pcm = np.frombuffer(ours[b"smpl"], "<i2")
    for new, old in zip(RECORD.iter_unpack(ours[b"shdr"]), RECORD.iter_unpack(original[b"shdr"]), strict=True):
        assert new[0] == old[0]
        assert [at - new[1] for at in new[2:5]] == [at - old[1] for at in old[2:5]]
        assert new[5:] == old[5:]
        assert new[2] == new[1] or not pcm[new[2] : new[2] + 46].any()  # the format's silence between samples
    assert {name: ours[name] for name in (b"igen", b"pgen", b"INAM")} == {
        name: original[name] for name in (b"igen", b"pgen", b"INAM")
    }
    assert ours[b"ifil"] == b"\2\0\4\0"


def test_a_bank_whose_odd_chunks_are_not_padded_is_read_as_well(bank, tmp_path):
    """As Debian's MuseScore_General_Lite.sf3 is written."""
    data = bank.read_bytes()
    parts = contents(bank)
    info = parts[b"INFO"] + b"ICMT" + struct.pack("<I", 3) + b"odd"
    at = data.index(b"LIST") + 8
    rest = data[at + 4 + len(parts[b"INFO"]) :]
    data = b"LIST" + struct.pack("<I", len(info) + 4) + b"INFO" + info + rest
    odd = tmp_path / "odd.sf3"
    odd.write_bytes(b"RIFF" + struct.pack("<I", len(data) + 4) + b"sfbk" + data)
    path = unpacked(odd, tmp_path)
    assert contents(path)[b"ICMT"] == b"odd\0"
    plan = planned(1.0)
    for ours, plain in zip(stems(odd, plan), stems(bank, plan), strict=True):
        assert np.array_equal(ours.audio, plain.audio)


def test_processes_that_need_the_same_bank_at_once_unpack_it_once(bank, tmp_path):
    code = (
        "import sys; from pathlib import Path; from harmonia_lab.audio_engines.sketch.sf3 import unpacked;"
        "print(unpacked(Path(sys.argv[1]), Path(sys.argv[2])).stat().st_ino)"
    )
    command = [sys.executable, "-c", code, str(bank), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    inodes = {process.communicate(timeout=120)[0] for process in running}
    assert len(inodes) == 1  # a second unpacking would have replaced the file
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".lock", ".sf2"]


def test_a_cached_bank_that_is_cut_off_is_made_again(bank, tmp_path):
    path = unpacked(bank, tmp_path)
    size = path.stat().st_size
    os.truncate(path, size // 2)
    assert unpacked(bank, tmp_path).stat().st_size == size


def test_a_sample_that_is_damaged_is_named_at_the_first_song(bank, tmp_path):
    broken = tmp_path / "broken.sf3"
    shutil.copy(bank, broken)
    parts = contents(broken)
    start = broken.read_bytes().index(parts[b"smpl"][:64])
    record = list(RECORD.iter_unpack(parts[b"shdr"]))[3]
    with broken.open("r+b") as file:
        file.seek(start + record[1])
        file.write(bytes(200))
    plan = planned(1.0)
    with contextlib.closing(SketchEngine(broken)) as engine, pytest.raises(AudioError) as caught:
        engine.render(plan.parts, plan, {}, lambda _: None, CancelToken(), {})
    assert caught.value.code is ErrorCode.AUDIO_UNAVAILABLE
    assert "sample 'FluteC#6' (number 3) is damaged" in caught.value.message
    assert "HARMONIA_SOUNDFONT" in caught.value.hint
    assert not children()
    assert list((home_folder() / "sound-banks").glob("*.sf2")) == []
    assert list((home_folder() / "sound-banks").glob("*.part")) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: data.replace(b"smpl", b"none", 1), "no chunk smpl"),
        (lambda data: data.replace(b"shdr", b"none", 1), "no chunk shdr"),
        (lambda _: b"", "empty"),
        (lambda data: b"OggS" + data[4:], "no sound bank"),
    ],
)
def test_a_bank_that_lacks_a_part_is_refused_at_once(bank, tmp_path, change, said):
    broken = tmp_path / "broken.sf3"
    broken.write_bytes(change(bank.read_bytes()))
    with pytest.raises(AudioError, match=said) as caught:
        SketchEngine(broken)
    assert caught.value.code is ErrorCode.AUDIO_UNAVAILABLE
    assert str(broken) in caught.value.message


def test_a_sample_beyond_the_end_of_the_file_is_damage(bank, tmp_path):
    parts = contents(bank)
    record = next(iter(RECORD.iter_unpack(parts[b"shdr"])))
    moved = RECORD.pack(record[0], record[1], 2**31, *record[3:])
    broken = tmp_path / "broken.sf3"
    broken.write_bytes(bank.read_bytes().replace(RECORD.pack(*record), moved, 1))
    with pytest.raises(BankFormatError, match="beyond the end"):
        unpacked(broken, tmp_path)
