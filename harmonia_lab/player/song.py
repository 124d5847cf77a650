"""What the player needs to know of a song, as one JSON value of 2 to 4 kB: names, times, levels; no sound.

Owns that value (its fields are listed in `player.js`), and the names of downloads. What isn't in a song's sound isn't
in its value either: sections and sung lines come from a plan that the sound follows.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mido
import soundfile

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.music.midi import CHARSET
from harmonia_lab.player.sound import waveform
from harmonia_lab.protocol.models import SongMetadata
from harmonia_lab.protocol.sound import given_note

__all__ = ["PlayerSong", "download_name", "files_of", "lyric_lines", "missing_sound", "song_in_folder", "song_of_files"]

PlayerSong = dict[str, Any]
"""JSON values under the names that `player.js` reads."""

MAX_NAME = 60
"""Characters of a title in a file's name; a file system takes 255 bytes, and a letter may have four."""

_Span = tuple[float, float]
"""Seconds from and to."""


def song_in_folder(folder: Path) -> PlayerSong:
    """Return the value of a song on this machine. Its sound may be missing: the player says so.

    Raises HarmoniaError: NOT_FOUND if the folder holds no song, RECORD_DAMAGED.
    """
    record = read_record(folder)
    follows = record.get("follows", ["notes"])
    metadata, plan = _read_json(folder / "metadata.json"), _read_json(folder / "plan.json")
    measurements, seed = record.get("measurements", {}), record.get("seeds", {}).get("request")
    try:
        seconds, peaks = waveform(folder / "song.flac")
    except (OSError, soundfile.LibsndfileError):
        seconds, peaks = float(record["request"].get("seconds") or 1), ""
    sections, sung = _planned(plan, seconds) if "notes" in follows else ([], [])
    title, identifier = str(metadata.get("title", "")), str(record.get("generationId", ""))
    engines = {stage: _engine(record["engines"][stage]) for stage in ("metadata", "audio")}
    return {
        "id": identifier,
        "title": title or folder.name,
        "name": download_name(title, seed, identifier),
        "seconds": round(seconds, 3),
        "peaks": peaks,
        "lufs": measurements.get("loudness_lufs"),
        "sections": sections,
        "lines": lyric_lines(str(metadata.get("lyrics", "")), sung),
        "note": given_note(follows),
        "facts": " · ".join([f"seed {seed}", engines["audio"], f"words: {engines['metadata']}"]),
        "stems": _stems(record),
        "about": _about(
            Seed=seed, Music=engines["audio"], Words=engines["metadata"], Folder=folder.absolute(), Id=identifier
        ),
    }


def song_of_files(
    generation_id: str,
    metadata: SongMetadata | None,
    follows: Sequence[str] | None,
    files: Mapping[str, Callable[[], bytes]],
) -> PlayerSong:
    """Return the value of a song whose folder isn't here: sections and sung lines are those of its MIDI file.

    files: name → function that reads the file. Raises what those raise, soundfile.LibsndfileError.
    """
    seconds, peaks = waveform(io.BytesIO(files["song.flac"]()))
    sections: list[dict[str, Any]] = []
    sung: list[tuple[str, _Span]] = []
    with contextlib.suppress(HarmoniaError, OSError):  # the sound is worth more than the places of its words
        if "song.mid" in files:
            sections, sung = _of_midi(files["song.mid"](), seconds)
    stems = [name for name in files if name.startswith("stems/")]
    title, lyrics = ("", "") if metadata is None else (metadata.title, metadata.lyrics)
    return {
        "id": generation_id,
        "title": title,
        "name": download_name(title, None, generation_id),
        "seconds": round(seconds, 3),
        "peaks": peaks,
        "lufs": None,
        "sections": sections,
        "lines": lyric_lines(lyrics, sung),
        "note": "" if follows is None else given_note(follows),
        "facts": "",
        "stems": [{"name": _stem_name(name), "file": name, "gain": 0.0, "pan": 0.0} for name in stems],
        "about": _about(Id=generation_id),
    }


def files_of(folder: Path) -> dict[str, Callable[[], bytes]]:
    """Return name → function that reads it, of the mix ("mix") and the stems of a song's folder.

    Raises HarmoniaError, as `song_in_folder`.
    """
    names = {"mix": "song.flac", **{stem["file"]: stem["file"] for stem in read_record(folder).get("stems", [])}}
    return {name: (folder / file).read_bytes for name, file in names.items()}


def missing_sound(file: str, error: Exception) -> str:
    """Return why a file of a song can't be played, and what to do."""
    if isinstance(error, HarmoniaError):
        return f"{file} can't be played. {error}"
    return f"{file} can't be read ({error}). `harmonia verify` says what the song's folder lacks; take it from a copy."


def download_name(title: str, seed: int | None, generation_id: str) -> str:
    """Return the name of a song's files without suffix: title, seed and the id's beginning, as any system takes it."""
    words = re.sub(r"[^\w'’-]+", " ", unicodedata.normalize("NFC", title)).strip(" _-")
    parts = [words[:MAX_NAME].strip() or "song", "" if seed is None else f"seed {seed}", generation_id[:8]]
    return re.sub(r" +", "-", " ".join(filter(None, parts)))


def lyric_lines(lyrics: str, sung: Sequence[tuple[str, _Span]]) -> list[dict[str, Any]]:
    """Return {text, spans} for each line of the lyrics as they are written; spans: when it is sung.

    sung: text and time of each sung line, by time. A line that the lyrics don't have, such as one that was cut, comes
    after those lines that were sung before it.
    """
    written = [line.strip() for line in lyrics.strip().splitlines()]
    lines: list[dict[str, Any]] = [{"text": text, "spans": []} for text in written]
    at = -1
    for text, span in sung:
        after = [*range(at + 1, len(lines)), *range(at + 1)]  # a chorus that is written once is sung again
        found = next((index for index in after if _letters(lines[index]["text"]) == _letters(text)), None)
        if found is None:
            found = at + 1
            lines.insert(found, {"text": text, "spans": []})
        lines[found]["spans"].append([round(second, 3) for second in span])
        at = found
    return lines


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def _planned(plan: Mapping[str, Any], seconds: float) -> tuple[list[dict[str, Any]], list[tuple[str, _Span]]]:
    """Return sections and sung lines of `plan.json`."""
    try:
        bar = plan["beats_per_bar"] * 60 / plan["bpm"]
        starts = [(str(section["name"]), section["bar"] * bar) for section in plan["sections"]]
        sung = [(str(line["text"]), (float(line["start"]), float(line["end"]))) for line in plan["sung"]]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):  # damaged, or of a version that wrote another plan
        return [], []
    return _sections(starts, seconds), sung


def _sections(starts: Sequence[tuple[str, float]], seconds: float) -> list[dict[str, Any]]:
    """Return {name, start, end} in seconds. starts: name and beginning, by time."""
    ends = [start for _, start in [*starts, ("", seconds)][1:]]
    return [
        {"name": name, "start": round(start, 3), "end": round(min(end, seconds), 3)}
        for (name, start), end in zip(starts, ends, strict=True)
        if start < min(end, seconds)
    ]


def _of_midi(data: bytes, seconds: float) -> tuple[list[dict[str, Any]], list[tuple[str, _Span]]]:
    """Return sections and sung lines of a MIDI file of ours: its markers, and its lyric events by lines."""
    try:
        midi = mido.MidiFile(file=io.BytesIO(data), charset=CHARSET)
        now, starts, sung = 0.0, [], []
        text, began = "", 0.0
        for message in midi:  # times are seconds since the message before
            now += message.time
            if message.type == "marker":
                starts.append((message.text, now))
            elif message.type == "lyrics" and message.text in ("\r", "\n"):
                if text:
                    sung.append((text.strip(), (began, now)))
                text = ""
            elif message.type == "lyrics":
                began = began if text else now
                text += message.text
    except (OSError, EOFError, ValueError, KeyError, IndexError):
        return [], []
    return _sections(starts, seconds), sung


def _stems(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return {name, file, gain, pan} of each stem: dB and −1…1 as in the mix, its master's gain included."""
    measurements = record.get("measurements", {})
    levels, master = measurements.get("stems", []), measurements.get("master_gain_db") or 0.0
    found = []
    for index, stem in enumerate(record.get("stems", [])):
        level = levels[index] if index < len(levels) else {}
        gain, pan = level.get("gain_db", 0.0) + master, level.get("pan", 0.0)
        found.append({"name": stem["name"], "file": stem["file"], "gain": round(gain, 2), "pan": round(pan, 3)})
    return found


def _stem_name(file: str) -> str:
    """Return "double bass" for "stems/2-double-bass.flac"."""
    return Path(file).stem.partition("-")[2].replace("-", " ") or Path(file).stem


def _engine(record: Mapping[str, Any]) -> str:
    model = record.get("model")
    return f"{record['engine']} ({model})" if model else str(record["engine"])


def _about(**values: object) -> list[list[str]]:
    return [[name, str(value)] for name, value in values.items() if value not in (None, "")]


def _read_json(path: Path) -> dict[str, Any]:
    """Return a file's object; an empty one where it is missing or damaged."""
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}
