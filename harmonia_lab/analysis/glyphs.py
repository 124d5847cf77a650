"""Text in pictures, in any script: DejaVu, and for the letters that it lacks the fonts that this machine has.

Owns the choice of fonts, and measuring and drawing a line of text (not where a line breaks, which is in
`text_layout.py`). A letter that no font has is never drawn as an empty box: `Glyphs.note` says which are missing.

Fonts are looked for where Linux and macOS keep them, and in the package `matplotlib_fontja` (the extra `fonts`), but
only for texts with letters that DejaVu lacks: that takes about a millisecond for each font.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont, features

from harmonia_lab.errors import StorageError
from harmonia_lab.storage import expanded

__all__ = ["Colour", "Glyphs"]

Colour = tuple[int, int, int]

_PROBE_SIZE = 20  # pixels; at this size glyphs are compared
_SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}
_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH"}


class Glyphs:
    """The fonts for a picture with the given texts. missing: letters that none of the fonts has, in order."""

    def __init__(self, texts: Iterable[str]) -> None:
        letters = sorted({letter for text in texts for letter in text if not letter.isascii()})
        lacking = {letter for letter in letters if not _has(_dejavu(bold=False), letter)}
        self._fallbacks: list[Path] = []
        for path in _installed() if any(map(_is_needed, lacking)) else ():
            found = {letter for letter in lacking if _has(path, letter)}
            if any(map(_is_needed, found)):
                self._fallbacks.append(path)
                lacking -= found
            if not any(map(_is_needed, lacking)):
                break
        self._lacking = frozenset(lacking)
        self.missing = "".join(sorted(filter(_is_needed, lacking)))

    @property
    def scripts(self) -> list[str]:
        """The scripts of the missing letters, by name."""
        names = {unicodedata.name(letter, "unnamed").split()[0] for letter in self.missing}
        return sorted(name if name == "CJK" else name.capitalize() for name in names)

    @property
    def remedy(self) -> str:
        """What brings fonts with the missing letters: a command for Debian and Ubuntu."""
        east = {script for script in self.scripts if script.upper() in _EAST_ASIAN}
        packages = ["fonts-noto-cjk"] * bool(east) + ["fonts-noto-core"] * (len(east) < len(self.scripts))
        return f"apt-get install {' '.join(packages)}"

    @property
    def note(self) -> str:
        """Which letters are missing and what to install, in sentences; "" if none is."""
        if not self.missing:
            return ""
        return (
            "No font on this machine has letters of these scripts, so they are left out here: "
            f"{', '.join(self.scripts)}. lyrics.txt has them. Fonts on Debian and Ubuntu: {self.remedy}"
        )

    def drawable(self, text: str) -> str:
        """Return the text on one line, without what no font has; "–" where nothing else is left of a text."""
        line = " ".join(text.split())
        if line.isascii() and line.isprintable():
            return line
        kept = "".join(c for c in line if c not in self._lacking and (c.isprintable() or c in "\u200c\u200d"))
        kept = " ".join(kept.split())
        return kept or ("–" if any(letter in self.missing for letter in line) else "")

    def width(self, text: str, size: int, *, bold: bool = False) -> float:
        """Return the length of a drawable text in pixels."""
        return sum(_font(path, size).getlength(run) for path, run in self._runs(text, bold=bold))

    def write(
        self,
        draw: ImageDraw.ImageDraw,
        at: tuple[float, float],
        text: str,
        size: int,
        colour: Colour,
        anchor: str = "ls",
        *,
        bold: bool = False,
    ) -> None:
        """Draw a drawable text at `at`, with Pillow's anchor (l, m, r: left, middle, right; s: baseline; m: middle)."""
        x, y = at
        if anchor[0] != "l":
            x -= self.width(text, size, bold=bold) * (0.5 if anchor[0] == "m" else 1)
        for path, run in self._runs(text, bold=bold):
            font = _font(path, size)
            draw.text((x, y), run, colour, font, "l" + anchor[1])
            x += font.getlength(run)

    def _runs(self, text: str, *, bold: bool) -> Iterator[tuple[Path, str]]:
        """Yield the text in pieces of one font, from left to right: a word has one font, where one has all of it."""
        fonts = [_dejavu(bold=bold), *([_dejavu(bold=False)] if bold else []), *self._fallbacks]
        if text.isascii():
            yield fonts[0], text
            return
        chosen: list[tuple[Path, str]] = []
        for word in text.split(" "):
            whole = next((path for path in fonts if all(_has(path, letter) for letter in word)), None)
            chosen += [(fonts[0], " ")] if chosen else []  # DejaVu's, since a font may lack the space
            chosen += [(whole, word)] if whole else _pieces(word, fonts)
        runs = [(path, "".join(piece for _, piece in group)) for path, group in groupby(chosen, lambda each: each[0])]
        yield from reversed(runs) if _is_right_to_left(text) else runs


def _pieces(word: str, fonts: list[Path]) -> list[tuple[Path, str]]:
    """Return a word in pieces of one font each. A mark stays with its letter."""
    pieces: list[tuple[Path, str]] = []
    for letter in word:
        if pieces and unicodedata.category(letter)[0] in "MC":
            path = pieces[-1][0]
        else:
            path = next((path for path in fonts if _has(path, letter)), fonts[0])
        pieces.append((path, letter))
    return [(path, "".join(piece for _, piece in group)) for path, group in groupby(pieces, lambda each: each[0])]


def _is_needed(letter: str) -> bool:
    """Return whether a text isn't complete without it. A pictogram, or a code without a character, is left out."""
    return unicodedata.category(letter)[0] in "LNMP"


def _is_right_to_left(text: str) -> bool:
    strong = (unicodedata.bidirectional(letter) for letter in text)
    return next((kind for kind in strong if kind in {"L", "R", "AL"}), "L") != "L"


@lru_cache(maxsize=32_768)
def _has(path: Path, letter: str) -> bool:
    """Return whether the font has the letter, by comparing its glyph with the one for letters that it lacks."""
    category = unicodedata.category(letter)
    if category in {"Zs", "Cf"}:
        return True
    if category in {"Cs", "Cc", "Cn", "Co"}:
        return False
    if unicodedata.bidirectional(letter) in {"R", "AL"} and not features.check("raqm"):
        return False  # it would be drawn in the wrong order
    try:
        return _glyph(path, letter) != _glyph(path, "\U0010ffff")
    except (OSError, ValueError):  # a font of bitmaps has one size
        return False


def _glyph(path: Path, letter: str) -> bytes:
    """Return a picture of the letter alone, without shaping, which puts a dotted circle under a lone mark."""
    return bytes(_font(path, _PROBE_SIZE, ImageFont.Layout.BASIC).getmask(letter))


@lru_cache(maxsize=512)
def _font(path: Path, size: int, engine: ImageFont.Layout | None = None) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, layout_engine=engine)


@lru_cache(maxsize=2)
def _dejavu(*, bold: bool) -> Path:
    """Return DejaVu Sans of the installed matplotlib, without importing that."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("matplotlib")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf"


def _installed() -> list[Path]:
    """Return the machine's fonts: Noto first, upright before others, sans before serif; then by name."""
    found = {path for folder in _folders() for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES}
    return sorted(found, key=_preference)


def _preference(path: Path) -> tuple[bool, bool, bool, str, str]:
    name = path.stem.lower()
    odd = any(word in name for word in ("italic", "oblique", "mono", "thin", "light", "black", "bold", "condensed"))
    return odd, not name.startswith("noto"), "serif" in name.replace("sans", ""), name, str(path)


def _windows_fonts() -> list[str]:
    """Return the machine's fonts and the user's own, where the variables of Windows name folders for them."""
    found = {name: os.environ.get(name) for name in ("WINDIR", "LOCALAPPDATA")}
    places = {"WINDIR": "Fonts", "LOCALAPPDATA": "Microsoft/Windows/Fonts"}
    return [f"{folder}/{places[name]}" for name, folder in found.items() if folder]


def _folders() -> Iterator[Path]:
    data = [os.environ.get("XDG_DATA_HOME") or "~/.local/share", "/usr/local/share", "/usr/share"]
    named = [*(f"{folder}/fonts" for folder in data), "~/.fonts", "~/Library/Fonts", "/Library/Fonts"]
    for folder in (*named, "/System/Library/Fonts", *_windows_fonts()):
        with contextlib.suppress(StorageError):  # an account without a home
            yield expanded(folder)
    spec = importlib.util.find_spec("matplotlib_fontja")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "fonts"
