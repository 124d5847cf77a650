"""Letters are drawn with a font that has them, or named as missing; never as the box of a missing glyph."""

import unicodedata

import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw

from harmonia_lab.analysis import glyphs as module
from harmonia_lab.analysis.glyphs import Glyphs
from tests.analysis.fonts import write_font

SCRIPTS = "Aéßñ €ДжñΩωא שم ی हि ก가夜のァ、。「」♯♭🎵\u0301\u200d\ue000"


@pytest.fixture
def fonts(tmp_path, monkeypatch):
    """A folder that is the only one with fonts, beside DejaVu."""
    monkeypatch.setattr(module, "_folders", lambda: [tmp_path / "fonts"])
    return tmp_path / "fonts"


def drawn(glyphs, text, size=30):
    image = Image.new("RGB", (800, 60), "white")
    glyphs.write(ImageDraw.Draw(image), (5, 45), text, size, (0, 0, 0))
    return np.asarray(image.convert("L"))


def test_what_a_font_has_is_what_its_character_map_has():
    for bold in (False, True):
        path = module._dejavu(bold=bold)
        charmap = FT2Font(str(path)).get_charmap()
        for letter in SCRIPTS:
            if unicodedata.category(letter) not in {"Zs", "Cf", "Co"}:
                assert module._has(path, letter) == (ord(letter) in charmap), (letter, bold)


def test_letters_that_no_font_has_are_named_with_what_to_install(fonts):
    glyphs = Glyphs(["夜の海 sea", "नदी", "plain"])
    assert glyphs.missing == "".join(sorted("夜の海नदी"))
    assert "CJK, Devanagari, Hiragana" in glyphs.note
    assert glyphs.note.endswith("apt-get install fonts-noto-cjk fonts-noto-core")
    assert glyphs.drawable("夜の海 sea") == "sea"
    assert glyphs.drawable("夜の海") == "–"
    assert glyphs.drawable("  \n ") == ""


def test_a_font_that_has_them_is_used_for_them_and_for_no_other_letter(fonts):
    write_font(fonts / "Boxes-Regular.ttf", "夜の海")
    glyphs = Glyphs(["夜の海 sea"])
    assert (glyphs.missing, glyphs.note) == ("", "")
    text = glyphs.drawable("夜の海 sea")
    assert text == "夜の海 sea"
    assert glyphs.width("夜の海", 30) == 90
    assert glyphs.width(text, 30) == pytest.approx(90 + glyphs.width(" sea", 30), abs=2)
    ink = (drawn(glyphs, "夜") < 128).any(axis=1)
    assert ink.sum() == pytest.approx(0.4 * 30, abs=1)  # the letter's own height, not that of the missing glyph


def test_the_font_with_most_is_not_needed_where_two_have_all(fonts):
    write_font(fonts / "a" / "One.ttf", "夜")
    write_font(fonts / "b" / "Two.ttf", "海")
    glyphs = Glyphs(["夜海 空"])
    assert glyphs.missing == "空"
    assert glyphs.drawable("夜海 空") == "夜海"
    assert glyphs.width("夜海", 20) == 40


def test_a_damaged_font_is_passed_over(fonts):
    write_font(fonts / "B.ttf", "夜")
    (fonts / "A.ttf").write_bytes(b"\0\1\0\0 not a font")
    assert Glyphs(["夜"]).missing == ""


def test_text_that_dejavu_has_looks_for_no_font(monkeypatch):
    monkeypatch.setattr(module, "_installed", lambda: pytest.fail("the machine's fonts were looked for"))
    glyphs = Glyphs(["Harbour Lights", "Привет", "שלום", "مرحبا", "C♯ minor", "🎵🏴‍☠️"])
    assert glyphs.missing == ""
    assert glyphs.drawable("sea 🎵🏴") == "sea"


def test_text_is_anchored_as_pillow_anchors_it(fonts):
    glyphs = Glyphs(["word"])
    width = glyphs.width("word", 30)
    image = Image.new("RGB", (300, 60), "white")
    glyphs.write(ImageDraw.Draw(image), (250, 45), "word", 30, (0, 0, 0), "rs")
    ink = np.flatnonzero((np.asarray(image.convert("L")) < 200).any(axis=0))
    assert (ink.min(), ink.max()) == pytest.approx((250 - width, 250), abs=4)
