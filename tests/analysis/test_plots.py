import itertools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from harmonia_lab.analysis import glyphs
from harmonia_lab.analysis.overview_marks import Marks
from harmonia_lab.analysis.plots import overview
from harmonia_lab.errors import ErrorCode, StorageError
from harmonia_lab.music.plan import SungLine
from tests.analysis.fonts import write_font

RATE = 48_000
SECTIONS = [("intro", 0.0, 2.0), ("verse", 2.0, 5.0), ("chorus", 5.0, 8.0)]
CHORDS = [(0.0, "C"), (2.0, "Am7"), (4.0, "F#m7b5"), (6.0, "G")]
MELODY = [(2.0, 3.0, 60), (3.0, 4.5, 67), (5.0, 7.5, 72)]
LINES = [SungLine(2.0, 4.5, "Verse", "The lights go down"), SungLine(5.0, 7.5, "Chorus", "Bring me home")]


def tone(hertz, seconds=8.0):
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([wave, wave]).astype(np.float32)


def draw(path, audio=None, **changed):
    song = {
        "sample_rate": RATE, "title": "Harbour Lights", "subtitle": "folk · calm", "sections": SECTIONS, "sung": LINES,
        "chords": CHORDS, "melody": MELODY,
    }  # fmt: skip
    overview(path, audio=tone(440) if audio is None else audio, **(song | changed))
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int16)


def panels(seconds=8.0, **changed):
    """Where the panels of `draw`'s picture lie."""
    song = {"title": "Harbour Lights", "subtitle": "folk · calm", "sections": SECTIONS, "sung": LINES}
    return Marks(seconds, **(song | {"chords": CHORDS, "melody": MELODY} | changed))


def inside(pixels, box):
    return pixels[box.top : box.bottom, box.left : box.right]


def near(pixels, colour, tolerance=24):
    return (np.abs(pixels - np.array(colour)) < tolerance).all(axis=-1)


def test_the_picture_is_wide_light_and_the_same_at_every_call(tmp_path):
    pixels = draw(tmp_path / "a.png")
    assert pixels.shape == (panels().height, 1600, 3)
    assert near(pixels, (255, 255, 255)).mean() > 0.3
    draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_file_says_nothing_but_the_picture(tmp_path):
    draw(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.info == {}


def test_each_section_has_its_colour_in_its_part_of_the_waveform(tmp_path):
    wave = inside(draw(tmp_path / "a.png"), panels().wave)
    blue, orange = near(wave, (47, 118, 181)), near(wave, (217, 83, 46))
    width = wave.shape[1]
    verse = np.flatnonzero(blue.any(axis=0)) / width
    assert (verse.min(), verse.max()) == pytest.approx((2 / 8, 5 / 8), abs=0.01)
    assert np.flatnonzero(orange.any(axis=0)).min() / width == pytest.approx(5 / 8, abs=0.01)


def test_the_waveform_is_as_high_as_the_sound_is_loud(tmp_path):
    audio = tone(440)
    audio[:, : 4 * RATE] *= np.float32(0.2)
    wave = inside(draw(tmp_path / "a.png", audio), panels().wave)
    painted = (~near(wave, (255, 255, 255))).sum(axis=0)
    assert np.median(painted[:600]) / len(wave) == pytest.approx(0.1, abs=0.02)
    assert np.median(painted[800:]) / len(wave) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("hertz", [60, 1000, 8000])
def test_a_tone_is_a_bright_row_at_its_height_on_the_log_axis(tmp_path, hertz):
    spectrum = inside(draw(tmp_path / "a.png", tone(hertz)), panels().spectrum)[:, 100:1300]
    row = spectrum.sum(axis=(1, 2)).argmax()
    expected = (1 - np.log(hertz / 40) / np.log(16_000 / 40)) * 264
    assert row == pytest.approx(expected, abs=6)


def test_a_sound_is_bright_when_it_sounds(tmp_path):
    audio = tone(1000)
    audio[:, 4 * RATE :] = 0
    spectrum = inside(draw(tmp_path / "a.png", audio, sections=[], sung=[]), panels(sung=[]).spectrum)
    brightness = spectrum.sum(axis=(0, 2))
    assert brightness[:700].min() > 3 * brightness[780:].max()


def test_lines_are_written_where_they_are_sung(tmp_path):
    pixels, marks = draw(tmp_path / "a.png"), panels()
    rows = pixels[marks._lyrics : marks.spectrum.top - 8, 90:1600]
    columns = 90 + np.flatnonzero((rows < 200).any(axis=(0, 2)))
    assert columns.min() == pytest.approx(96 + 1472 * 2 / 8, abs=3)
    assert columns.max() > 96 + 1472 * 5 / 8


def test_a_line_that_does_not_fit_goes_on_in_another_row_with_all_its_words(tmp_path):
    text = "and all the bells are ringing in the dark below the sleeping town " * 4
    few, many = panels(), panels(sung=[SungLine(6.5, 8.0, "Chorus", text)])
    [[block]] = many._lanes
    assert " ".join(block.rows) == text.strip()
    assert many.height - few.height >= 22 * (len(block.rows) - 2)
    alone = panels(sung=[SungLine(0.0, 8.0, "Chorus", text)])
    assert len(alone._lanes[0][0].rows) < len(block.rows)


def test_each_chord_is_named_over_the_waveform_where_it_begins(tmp_path):
    pixels, marks = draw(tmp_path / "a.png"), panels()
    lane = pixels[marks._bar + 8 : marks.wave.top, 90:]
    names = 90 + np.flatnonzero((lane < 120).any(axis=(0, 2)))
    begins = [names[0], *names[1:][np.diff(names) > 40]]
    assert begins == pytest.approx([96 + 1472 * start / 8 for start, _ in CHORDS], abs=2)


@pytest.mark.parametrize(("count", "rows", "all_named"), [(4, 1, True), (60, 2, True), (90, 3, True), (700, 3, False)])
def test_many_chords_take_several_rows_and_at_last_leave_some_names_out(count, rows, all_named):
    marks = panels(chords=[(8 * number / count, ["C", "Am7", "F#m"][number % 3]) for number in range(count)])
    assert max(row for _, row, _ in marks._chords) == rows - 1
    assert all(row >= 0 for _, row, _ in marks._chords) is all_named
    for chosen in range(rows):
        row = [
            (x, x + 4 + marks._glyphs.width(name, marks._chord_size)) for x, at, name in marks._chords if at == chosen
        ]
        assert all(end < start for (_, end), (start, _) in itertools.pairwise(row))


def test_a_chord_that_goes_on_is_named_once():
    marks = panels(chords=[(0.0, "C"), (2.0, "C"), (4.0, "G"), (6.0, "C")])
    assert [symbol for *_, symbol in marks._chords] == ["C", "G", "C"]


def test_each_note_of_the_melody_is_a_bar_at_its_time_and_height_in_its_sections_colour(tmp_path):
    pixels, marks = draw(tmp_path / "a.png"), panels()
    roll = inside(pixels, marks._notes)
    heights = []
    for start, end, pitch in MELODY:
        left, right = (round(1472 * second / 8) for second in (start, end))
        colour = (38, 94, 145) if start < 5 else (174, 66, 37)
        painted = near(roll[:, left + 3 : right - 4], colour)
        assert painted.any(axis=1).sum() in range(3, 10), pitch
        assert painted.any(axis=0).all()
        heights.append(np.flatnonzero(painted.any(axis=1)).mean())
    low, middle, high = heights
    assert (low - middle) / (middle - high) == pytest.approx(7 / 5, abs=0.15)


def test_without_a_melody_there_is_no_panel_for_one(tmp_path):
    assert panels().height - panels(melody=[]).height == 112 + 12
    draw(tmp_path / "a.png", melody=[], chords=[])


def test_letters_that_no_font_has_are_named_in_the_picture_and_in_the_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "_folders", lambda: [tmp_path / "fonts"])
    song = {"audio": tone(440), "sample_rate": RATE, "subtitle": "", "sections": SECTIONS, "sung": LINES}
    note = overview(tmp_path / "a.png", title="夜の海", **song)
    assert "CJK, Hiragana" in note
    write_font(tmp_path / "fonts" / "Some.ttf", "夜の海")
    assert overview(tmp_path / "b.png", title="夜の海", **song) == ""
    sizes = []
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / name) as image:
            sizes.append(image.height)
    assert sizes[0] > sizes[1]


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
    words = {"title": text, "subtitle": text, "sections": [(text, 0.0, 8.0)], "sung": [SungLine(0, 8, text, text)]}
    drawn = draw(tmp_path / "a.png", **words)
    plain = draw(tmp_path / "b.png", title="", subtitle="", sections=[("", 0, 8)], sung=[])
    assert near(drawn[:, 1584:], (255, 255, 255)).all()  # nothing runs over the edge
    below = panels(title="", subtitle="", sections=[("", 0, 8)], sung=[]).spectrum
    difference = inside(drawn, panels(**words).spectrum) - inside(plain, below)
    assert np.abs(difference).max() < 32  # or into the spectrogram; the 256 colours differ a little


def test_symbols_that_the_font_lacks_are_left_out_of_a_title(tmp_path):
    assert np.array_equal(draw(tmp_path / "a.png", title="Sea 🎻🏴"), draw(tmp_path / "b.png", title="Sea"))


def test_dollars_are_dollars(tmp_path):
    assert not np.array_equal(draw(tmp_path / "a.png", title="$5$"), draw(tmp_path / "b.png", title="5"))


@pytest.mark.parametrize(("seconds", "rate"), [(1.0, 48_000), (1.0, 8000), (61.7, 8000), (600.0, 8000)])
def test_any_length_and_rate_can_be_drawn(tmp_path, seconds, rate):
    audio = np.random.default_rng(1).standard_normal((2, round(seconds * rate))).astype(np.float32) * 0.1
    parts = [(f"verse {i}", i * seconds / 30, (i + 1) * seconds / 30) for i in range(30)]
    sung = [SungLine(i * seconds / 99, (i + 1) * seconds / 99, "Verse", "one more line to sing") for i in range(99)]
    draw(tmp_path / "a.png", audio, sample_rate=rate, sections=parts, sung=sung)


def test_silence_without_sections_can_be_drawn(tmp_path):
    pixels = draw(tmp_path / "a.png", np.zeros((2, RATE), np.float32), sections=[], sung=[])
    assert inside(pixels, panels(1.0, sections=[], sung=[]).spectrum)[4:, 4:-4].max() < 20


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
