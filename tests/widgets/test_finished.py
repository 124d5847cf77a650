"""The listening copy: the same sound, small."""

import io

import numpy as np
import soundfile

from harmonia_lab.widgets.finished import FinishedSong, listening_copy, load

RATE = 48_000


def flac(seconds=2.0):
    t = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 550 * t)], axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, RATE, format="FLAC", subtype="PCM_24")
    return buffer.getvalue(), tone


def test_a_copy_is_short_and_sounds_the_same():
    data, tone = flac()
    copy = listening_copy(data)
    assert len(copy) < 2.0 * 25_000
    heard, rate = soundfile.read(io.BytesIO(copy))
    assert rate == RATE
    middle = slice(RATE // 2, RATE)
    for channel, pitch in enumerate((440, 550)):
        spectrum = np.abs(np.fft.rfft(heard[middle, channel]))
        assert abs(np.fft.rfftfreq(RATE // 2, 1 / RATE)[spectrum.argmax()] - pitch) < 3
    assert abs(heard[middle].std() / tone[middle].std() - 1) < 0.05


def test_what_cannot_be_had_is_empty():
    assert load({}) == FinishedSong()
    data, _ = flac(0.5)
    song = load({"song.flac": lambda: data, "overview.png": lambda: b"picture"})
    assert song.picture == b"picture"
    assert song.audio
