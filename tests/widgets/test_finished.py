"""The copies that a notebook holds: the same sound and the same picture, small."""

import io

import numpy as np
import soundfile
from PIL import Image

from harmonia_lab.errors import Disconnected
from harmonia_lab.widgets.finished import FinishedSong, listening_copy, load, output_copy

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


def test_a_picture_keeps_its_shape_and_its_colours_in_a_part_of_the_bytes():
    grain = np.random.default_rng(7).integers(0, 60, (820, 1600, 3), dtype=np.uint8)
    grain[:, 800:, 0] += 180
    buffer = io.BytesIO()
    Image.fromarray(grain).save(buffer, "PNG")
    copy = output_copy(buffer.getvalue())
    assert len(copy) < len(buffer.getvalue()) / 3
    with Image.open(io.BytesIO(copy)) as small:
        assert small.size == (1000, 512)
        pixels = np.asarray(small.convert("RGB"), dtype=float)
    assert abs(pixels[:, :490].mean() - 29.5) < 5
    assert abs(pixels[:, 510:, 0].mean() - 209.5) < 5


def test_what_cannot_be_had_is_empty():
    assert load({}) == FinishedSong()
    data, _ = flac(0.5)

    def away():
        raise Disconnected("There is no picture.")

    song = load({"song.flac": lambda: data, "overview.png": away})
    assert (song.picture, song.small_picture) == (b"", b"")
    assert song.audio
