import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from harmonia_lab.analysis.plots import overview
from harmonia_lab.errors import ErrorCode, StorageError
from harmonia_lab.music.plan import SungLine

RATE = 48_000
SECTIONS = [("intro", 0.0, 2.0), ("verse", 2.0, 5.0), ("chorus", 5.0, 8.0)]
LINES = [SungLine(2.0, 4.5, "Verse", "The lights go down"), SungLine(5.0, 7.5, "Chorus", "Bring me home")]


def tone(hertz, seconds=8.0):
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([wave, wave]).astype(np.float32)


def draw(path, audio=None, *, title="Harbour Lights", subtitle="folk · calm", sections=SECTIONS, sung=LINES, rate=RATE):
    audio = tone(440) if audio is None else audio
    overview(path, audio=audio, sample_rate=rate, title=title, subtitle=subtitle, sections=sections, sung=sung)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int16)


def near(pixels, colour, tolerance=24):
    return (np.abs(pixels - np.array(colour)) < tolerance).all(axis=-1)


def test_the_picture_is_wide_light_and_the_same_at_every_call(tmp_path):
    pixels = draw(tmp_path / "a.png")
    assert pixels.shape == (820, 1600, 3)
    assert near(pixels, (255, 255, 255)).mean() > 0.3
    draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_file_says_nothing_but_the_picture(tmp_path):
    draw(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.info == {}


def test_each_section_has_its_colour_in_its_part_of_the_waveform(tmp_path):
    wave = draw(tmp_path / "a.png")[178:394, 96:1568]
    blue, orange = near(wave, (47, 118, 181)), near(wave, (217, 83, 46))
    width = wave.shape[1]
    verse = np.flatnonzero(blue.any(axis=0)) / width
    assert (verse.min(), verse.max()) == pytest.approx((2 / 8, 5 / 8), abs=0.01)
    assert np.flatnonzero(orange.any(axis=0)).min() / width == pytest.approx(5 / 8, abs=0.01)


def test_the_waveform_is_as_high_as_the_sound_is_loud(tmp_path):
    audio = tone(440)
    audio[:, : 4 * RATE] *= np.float32(0.2)
    wave = draw(tmp_path / "a.png", audio)[178:394, 96:1568]
    painted = (~near(wave, (255, 255, 255))).sum(axis=0)
    assert np.median(painted[:600]) / 216 == pytest.approx(0.1, abs=0.02)
    assert np.median(painted[800:]) / 216 == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("hertz", [60, 1000, 8000])
def test_a_tone_is_a_bright_row_at_its_height_on_the_log_axis(tmp_path, hertz):
    spectrum = draw(tmp_path / "a.png", tone(hertz))[500:764, 200:1400]
    row = spectrum.sum(axis=(1, 2)).argmax()
    expected = (1 - np.log(hertz / 40) / np.log(16_000 / 40)) * 264
    assert row == pytest.approx(expected, abs=6)


def test_a_sound_is_bright_when_it_sounds(tmp_path):
    audio = tone(1000)
    audio[:, 4 * RATE :] = 0
    brightness = draw(tmp_path / "a.png", audio, sections=[], sung=[])[500:764, 96:1568].sum(axis=(0, 2))
    assert brightness[:700].min() > 3 * brightness[780:].max()


def test_lines_are_written_where_they_are_sung(tmp_path):
    with_lines, without = draw(tmp_path / "a.png"), draw(tmp_path / "b.png", sung=[])
    columns = np.flatnonzero((with_lines != without)[400:490].any(axis=(0, 2)))
    assert columns.min() == pytest.approx(96 + 1472 * 2 / 8, abs=3)
    assert columns.max() > 96 + 1472 * 5 / 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "$x^2$ \\frac{1}{2} $",
        "夜の海",
        "שלום עולם",
        "مرحبا",
        "🎵🏴‍☠️👩‍👩‍👧",
        "a\0b\x1b[31m",
        "Ω " * 9000,
        "\ud800",
        "W" * 120,
    ],
)
def test_any_text_can_be_drawn_without_a_complaint(tmp_path, text):
    plain = draw(tmp_path / "b.png", title="", subtitle="", sections=[("", 0, 8)], sung=[])
    drawn = draw(
        tmp_path / "a.png", title=text, subtitle=text, sections=[(text, 0.0, 8.0)], sung=[SungLine(0, 8, text, text)]
    )
    assert np.array_equal(drawn[:, 1580:], plain[:, 1580:])  # nothing runs over the edge
    assert np.array_equal(drawn[500:764, 96:1568], plain[500:764, 96:1568])  # or into the spectrogram


def test_symbols_that_the_font_lacks_are_left_out_of_a_title(tmp_path):
    assert np.array_equal(draw(tmp_path / "a.png", title="Sea 🎻🏴"), draw(tmp_path / "b.png", title="Sea"))


def test_dollars_are_dollars(tmp_path):
    assert not np.array_equal(draw(tmp_path / "a.png", title="$5$"), draw(tmp_path / "b.png", title="5"))


@pytest.mark.parametrize(("seconds", "rate"), [(1.0, 48_000), (1.0, 8000), (61.7, 8000), (600.0, 8000)])
def test_any_length_and_rate_can_be_drawn(tmp_path, seconds, rate):
    audio = np.random.default_rng(1).standard_normal((2, round(seconds * rate))).astype(np.float32) * 0.1
    parts = [(f"verse {i}", i * seconds / 30, (i + 1) * seconds / 30) for i in range(30)]
    sung = [SungLine(i * seconds / 99, (i + 1) * seconds / 99, "Verse", "one more line to sing") for i in range(99)]
    draw(tmp_path / "a.png", audio, rate=rate, sections=parts, sung=sung)


def test_silence_without_sections_can_be_drawn(tmp_path):
    pixels = draw(tmp_path / "a.png", np.zeros((2, RATE), np.float32), sections=[], sung=[])
    assert pixels[510:760, 100:1560].max() < 20


def test_drawing_does_not_import_matplotlib():
    code = "import harmonia_lab.analysis.plots, sys; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_picture_that_cannot_be_written_is_an_error_with_a_code(tmp_path):
    (tmp_path / "full.png").symlink_to("/dev/full")
    for path, code in ((tmp_path / "full.png", ErrorCode.STORAGE_FULL), (tmp_path, ErrorCode.STORAGE_UNWRITABLE)):
        with pytest.raises(StorageError) as caught:
            draw(path)
        assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []
