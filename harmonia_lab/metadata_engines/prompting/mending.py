"""Small faults of a large model's answer, mended by rule: no song is lost to them, and no second question asked.

Owns which values are mended, and how. What is missing altogether is asked for again (`structured.py`), and only filled
by rule when the last answer lacks it.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harmonia_lab.metadata_engines.prompting.answers import plain_line
from harmonia_lab.music.moods import MusicalFeatures, suggest_features
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, find_instrument, normalise_key

__all__ = ["FIELDS", "Mending", "mend"]

FIELDS = ("title", "lyrics", "genre", "mood", "bpm", "key", "instruments")
"""An answer's fields."""

LONGEST_TITLE, LONGEST_GENRE = 80, 40
SLOWEST, FASTEST = 40, 220

_OTHER_NAMES = {"tempo": "bpm", "moods": "mood", "style": "genre", "instrumentation": "instruments", "name": "title",
                "song_title": "title", "sections": "lyrics", "scale": "key", "tonality": "key"}  # fmt: skip
_MINOR_MODES = ("aeolian", "dorian", "phrygian", "locrian", "moll")
_MAJOR_MODES = ("ionian", "lydian", "mixolydian", "dur")


@dataclass
class Mending:
    """An answer while it is mended. values: by the names of `FIELDS`. notes: entries for the transcript. warnings:
    sentences for people, on what they can hear."""

    values: dict[str, Any]
    notes: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def replace(self, name: str, value: Any, why: str, warning: str = "") -> None:
        self.notes.append({"mended": name, "was": self.values.get(name), "value": value, "why": why})
        self.values[name] = value
        if warning:
            self.warnings.append(warning)


def mend(answer: Mapping[str, Any], request: SongRequest, seed: int, *, fill: bool = False) -> Mending:
    """Return the answer with known names of fields and usable values, as far as rules can make them.

    fill: also make up what is missing, but for the lyrics. What the request gives replaces the answer's.
    """
    mending = Mending({_field(name): value for name, value in answer.items()})
    _mend_text(mending, "title", LONGEST_TITLE)
    _mend_text(mending, "genre", LONGEST_GENRE)
    if fill:
        _fill_words(mending)
    band = _suggested(mending, seed)
    for name, rule in (("bpm", _mend_tempo), ("key", _mend_key), ("instruments", _mend_instruments)):
        if getattr(request, name) is None and (fill or mending.values.get(name) is not None):
            rule(mending, band)
        elif getattr(request, name) is not None:
            _take_given(mending, name, _given(request, name))
    return mending


def _field(name: str) -> str:
    plain = name.strip().lower().replace(" ", "_")
    return _OTHER_NAMES.get(plain, plain)


def _take_given(mending: Mending, name: str, given: Any) -> None:
    """Replace the answer's value by the request's; note it, if the answer says otherwise."""
    answered = mending.values.get(name)
    readers: dict[str, Callable[[Any], Any]] = {"key": normalise_key, "instruments": sorted}
    read = readers.get(name, lambda value: value)
    with contextlib.suppress(TypeError, ValueError, AttributeError):  # the answer's value may be of any type
        if answered is None or read(answered) == read(given):
            mending.values[name] = given
            return
    mending.replace(name, given, "the request gives it")


def _given(request: SongRequest, name: str) -> Any:
    value = getattr(request, name)
    return [instrument.name for instrument in value] if name == "instruments" else value


def _suggested(mending: Mending, seed: int) -> MusicalFeatures:
    genre, mood = mending.values.get("genre"), mending.values.get("mood")
    words = re.split(r"[,;/]", mood) if isinstance(mood, str) else mood if isinstance(mood, list) else []
    moods = [word.strip().lower() for word in words if isinstance(word, str)]
    return suggest_features(genre if isinstance(genre, str) else "", moods, seed)


def _mend_text(mending: Mending, name: str, longest: int) -> None:
    value = mending.values.get(name)
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = mending.values[name] = value[0]
    if isinstance(value, str) and len(plain := plain_line(value)) > longest:
        cut = plain[: longest + 1].rpartition(" ")[0] or plain[:longest]
        mending.replace(name, cut.rstrip(" ,;:-–"), f"it had {len(plain)} characters")


def _fill_words(mending: Mending) -> None:
    """Make up a title, genre and mood that are missing: the first line that is sung, pop, and thoughtful."""
    if not plain_line(str(mending.values.get("title") or "")):
        lines = re.findall(r"\w[^\[\]{}\"\n]{3,60}", str(mending.values.get("lyrics") or ""))
        line = next((text for text in lines if " " in text.strip()), "Untitled")
        mending.replace("title", " ".join(line.split()[:6]), "the answer had none")
    for name, value in (("genre", "pop"), ("mood", ["reflective"])):
        if not mending.values.get(name):
            mending.replace(
                name, value, "the answer had none", f"The language model named no {name}; {value} was taken."
            )


def _mend_tempo(mending: Mending, band: MusicalFeatures) -> None:
    value = mending.values.get("bpm")
    match = re.search(r"\d+(?:\.\d+)?", str(value)) if isinstance(value, str | int | float) else None
    tempo = float(match[0]) if match else 0.0
    if SLOWEST <= tempo <= FASTEST:
        return
    # A tempo that is out by an octave or two counts other note values as beats.
    octaves = (round(tempo * factor) for factor in (2, 0.5, 0.25))
    mended = next((each for each in octaves if SLOWEST <= each <= FASTEST), band.bpm)
    warning = (
        f"The language model's tempo, {_shown(value)}, is none from {SLOWEST} to {FASTEST}: the song has {mended} bpm."
    )
    mending.replace("bpm", mended, "out of range", warning)


def _mend_key(mending: Mending, band: MusicalFeatures) -> None:
    value = mending.values.get("key")
    text = re.sub(r"(?i)\b(key of|scale)\b", "", value).strip() if isinstance(value, str) else ""
    if normalise_key(text):
        return
    tonic, _, mode = text.replace("-", " ").partition(" ")
    quality = {**dict.fromkeys(_MINOR_MODES, "minor"), **dict.fromkeys(_MAJOR_MODES, "major")}.get(mode.strip().lower())
    tonic = {"H": "B", "h": "B"}.get(tonic, tonic)  # German for B natural
    mended = (normalise_key(f"{tonic} {quality}") if quality else normalise_key(f"{tonic} {mode}".strip())) or band.key
    warning = f"The language model's key, {_shown(value)}, is no major or minor key: the song is in {mended}."
    mending.replace("key", mended, "no major or minor key", warning)


def _mend_instruments(mending: Mending, band: MusicalFeatures) -> None:
    value = mending.values.get("instruments")
    entries = re.split(r"[,;]", value) if isinstance(value, str) else value if isinstance(value, list) else []
    names = [entry.get("name") if isinstance(entry, Mapping) else entry for entry in entries]
    wanted = [name.strip() for name in names if isinstance(name, str) and name.strip()]
    found = {name: find_instrument(name) or _nearest(name) for name in wanted}
    lacking = [name for name, instrument in found.items() if instrument is None]
    if wanted and all(find_instrument(name) for name in wanted):
        return
    mended = list(dict.fromkeys(instrument for instrument in found.values() if instrument))
    mended = mended or [instrument.name for instrument in band.instruments]
    missing = f"No engine here has {', '.join(_shown(name) for name in lacking[:4])}, which the language model named."
    mending.replace("instruments", mended[:8], "unknown instruments", missing if lacking else "")


def _nearest(name: str) -> str | None:
    near = difflib.get_close_matches(name.lower(), INSTRUMENTS, 1, 0.8)
    return near[0] if near else None


def _shown(value: Any) -> str:
    text = plain_line(str(value)) or "nothing"
    return text if len(text) <= 30 else f"{text[:29]}…"
