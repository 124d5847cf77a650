import hashlib

import numpy as np
import pytest
import soundfile

from harmonia_lab.audio_engines.audiofile import digest_seconds, read_audio, write_flac
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode, StorageError

RATE = 8000
TAGS = {"title": "Sea", "genre": "folk", "software": "Harmonia Lab", "license": "CC0", "comment": "a note"}


def noise(seconds=4.5, channels=2, level=0.2):
    audio = np.random.default_rng(1).standard_normal((channels, round(seconds * RATE))) * level
    return audio.clip(-0.99, 0.99).astype(np.float32)


def write(path, audio=None, tags=TAGS):
    return write_flac(path, noise() if audio is None else audio, RATE, tags, CancelToken())


def digests(path):
    return digest_seconds(path, CancelToken())


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_what_is_read_is_what_was_written_to_half_a_step_of_24_bits(tmp_path, channels):
    audio = noise(channels=channels)
    given = audio.copy()
    write(tmp_path / "a.flac", audio)
    assert np.array_equal(audio, given)
    back, rate = read_audio(tmp_path / "a.flac")
    assert rate == RATE
    assert back.dtype == np.float32
    assert np.abs(back - audio).max() <= 0.5 / 2**23
    info = soundfile.info(tmp_path / "a.flac")
    assert (info.format, info.subtype, info.channels) == ("FLAC", "PCM_24", channels)


def test_what_was_read_is_written_to_the_same_bytes(tmp_path):
    write(tmp_path / "a.flac")
    write(tmp_path / "b.flac", read_audio(tmp_path / "a.flac")[0])
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()


def test_the_file_carries_its_tags_and_no_date(tmp_path):
    write(tmp_path / "a.flac", tags=TAGS | {"title": "Море 🎵 שיר"})
    with soundfile.SoundFile(tmp_path / "a.flac") as file:
        tags = file.copy_metadata()
    assert tags["title"] == "Море 🎵 שיר"
    assert tags["software"].startswith("Harmonia Lab")
    assert (tags["genre"], tags["license"], tags["comment"]) == ("folk", "CC0", "a note")
    assert "date" not in tags


def test_tags_lose_what_no_comment_can_hold(tmp_path):
    write(tmp_path / "a.flac", tags={"title": "a\0b\n\ud800c"})
    with soundfile.SoundFile(tmp_path / "a.flac") as file:
        assert file.title == "a b c"


def test_samples_beyond_full_scale_are_clipped(tmp_path):
    audio = np.array([[0.5, 1.0, 1.5, -1.0, -7.0, 0.0]], np.float32)
    write(tmp_path / "a.flac", audio)
    assert read_audio(tmp_path / "a.flac")[0][0] == pytest.approx([0.5, 1, 1, -1, -1, 0], abs=2**-22)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_with_their_second(tmp_path, value):
    audio = noise()
    audio[1, 3 * RATE + 5] = value
    with pytest.raises(AudioError, match=r"a\.flac.*second 3"):
        write(tmp_path / "a.flac", audio)
    assert not (tmp_path / "a.flac").exists()


def test_each_second_has_the_digest_of_its_samples(tmp_path):
    found = write(tmp_path / "a.flac")
    assert found == digests(tmp_path / "a.flac")
    assert len(found) == 5
    pcm, _ = soundfile.read(tmp_path / "a.flac", dtype="int32")
    assert found[1] == hashlib.sha256(pcm[RATE : 2 * RATE].astype("<i4").tobytes()).hexdigest()


def test_digests_name_the_second_that_was_altered_by_one_step(tmp_path):
    audio = noise()
    before = write(tmp_path / "a.flac", audio)
    audio[0, 2 * RATE + 17] += 2**-22
    after = write(tmp_path / "b.flac", audio)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, True, True]


def test_digests_of_a_damaged_or_cut_file_end_where_it_can_no_longer_be_decoded(tmp_path):
    whole = write(tmp_path / "a.flac")
    data = bytearray((tmp_path / "a.flac").read_bytes())
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "bad.flac").write_bytes(data)
    for name in ("cut.flac", "bad.flac"):
        found = digests(tmp_path / name)
        assert 1 <= len(found) < 5
        assert found == whole[: len(found)]


@pytest.mark.parametrize("name", ["a.flac", "gone.flac", "folder.flac"])
def test_a_file_that_is_missing_or_no_audio_has_no_digests_and_cannot_be_read(tmp_path, name):
    (tmp_path / "a.flac").write_text("<html>")
    (tmp_path / "folder.flac").mkdir()
    assert digests(tmp_path / name) == []
    with pytest.raises(StorageError, match=f"{name} is missing, is not an audio file, or is damaged") as caught:
        read_audio(tmp_path / name)
    assert caught.value.code == ErrorCode.INVALID_PAYLOAD


def test_a_full_disk_is_called_by_its_name(tmp_path):
    (tmp_path / "a.flac").symlink_to("/dev/full")
    with pytest.raises(StorageError) as caught:
        write(tmp_path / "a.flac")
    assert caught.value.code == ErrorCode.STORAGE_FULL
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_called_by_its_name(tmp_path):
    for path in (tmp_path / "no" / "a.flac", tmp_path):
        with pytest.raises(StorageError) as caught:
            write(path)
        assert caught.value.code == ErrorCode.STORAGE_UNWRITABLE


def test_a_cancel_leaves_no_file(tmp_path):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        write_flac(tmp_path / "a.flac", noise(), RATE, TAGS, token)
    assert list(tmp_path.iterdir()) == []
