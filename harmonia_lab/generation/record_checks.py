"""What a record says that can't be so: values that contradict each other, or the files beside it.

Owns these checks, for a record that was edited or that is too old to have a digest. They recompute what the files
allow: seeds, names, sizes, lengths, the digest of each second, loudness and true peak.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile

from harmonia_lab.audio_engines.audiofile import digest_seconds, read_audio
from harmonia_lab.audio_engines.mixing.loudness import integrated_loudness, segment_powers, true_peak
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.artifacts import MIDI, REPEATABLE
from harmonia_lab.generation.record_schema import file_inside, first_difference
from harmonia_lab.music.seeds import derive_seed

__all__ = ["contradictions"]

_LOUDNESS_LU, _PEAK_DB = 0.05, 0.1
"""Tolerances: the record rounds to 0.001, and measured the song before it was rounded to 24 bits."""

_TIMES_S = 0.01


def contradictions(record: dict[str, Any], folder: Path, *, altered: set[str], extra: list[str]) -> list[str]:
    """Return what can't have been recorded so, each as a sentence without a full stop.

    altered: files that differ from their digests, from which nothing follows. extra: files that the record leaves out.
    """
    whole = {name for name in record["files"] if name not in altered and file_inside(folder, name) is not None}
    found: list[str] = []
    for check in (_identity, _seeds, _timings):
        found += check(record)
    found += _files(record, folder, whole, extra)
    try:
        found += _texts(record, folder, whole)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found.append("files has digests of a metadata.json or a plan.json that no song has")
    for name in sorted(whole & {*record["seconds"]}):
        try:
            found += _audio(record, folder, name)
        except (HarmoniaError, soundfile.LibsndfileError, OSError):
            found.append(f"files.{name} is not audio that can be read")
    return found


def _identity(record: dict[str, Any]) -> Iterator[str]:
    song, generation = record.get("songId"), record.get("generationId")
    if song is not None and generation is not None and song != f"song-{generation}":
        yield f'songId is "{song}", where generationId "{generation}" gives "song-{generation}"'
    if record["request"].get("generationId", generation) != generation:
        yield f'request.generationId is "{record["request"]["generationId"]}", and generationId "{generation}"'


def _seeds(record: dict[str, Any]) -> Iterator[str]:
    """The seeds of stages and stems follow from the song's; the seed from which most of them follow is the song's."""
    seeds = record.get("seeds")
    if seeds is None:
        return
    derived: dict[str, tuple[int, tuple[str, ...]]] = {}
    derived |= {f"seeds.{name}": (seeds[name], (name,)) for name in ("metadata", "plan") if name in seeds}
    derived |= {f"seeds.stems.{name}": (seed, ("stem", name)) for name, seed in seeds.get("stems", {}).items()}
    stated = {"seeds.request": seeds["request"]}
    if isinstance(record["request"].get("seed"), int):
        stated["request.seed"] = record["request"]["seed"]

    def follow(seed: int) -> int:
        return sum(value == derive_seed(seed, *names) for value, names in derived.values())

    song = max(stated.values(), key=follow)
    for where, seed in stated.items():
        if seed != song:
            yield f"{where} is {seed}, where the other seeds follow from {song}"
    wrong = [where for where, (value, names) in derived.items() if value != derive_seed(song, *names)]
    for where in wrong if len(wrong) < len(derived) else ():
        yield f"{where} is {derived[where][0]}, where {derive_seed(song, *derived[where][1])} follows from {song}"
    if wrong and len(wrong) == len(derived):
        yield f"seeds.request is {song}, from which none of the other seeds follows"


def _timings(record: dict[str, Any]) -> Iterator[str]:
    times = record.get("timings", {})
    for whole, parts in (("total", ("metadata", "audio")), ("audio", ("plan", "render", "mix", "write"))):
        spent = sum(times.get(part, 0.0) for part in parts)
        if whole in times and spent > times[whole] + _TIMES_S:
            yield f"timings.{whole} is {times[whole]:g} s, less than its parts ({' + '.join(parts)} = {spent:g} s)"
    for name, seconds in times.items():
        if seconds < 0:
            yield f"timings.{name} is negative"


def _files(record: dict[str, Any], folder: Path, whole: set[str], extra: list[str]) -> Iterator[str]:
    for name in extra:
        if any(PurePosixPath(name).match(pattern) for pattern in (*REPEATABLE, "transcript.jsonl")):
            yield f"files leaves out {name}, which is in the folder"
    midi = MIDI[0 if "notes" in record.get("follows", ["notes"]) else 1]  # older records don't say, and had song.mid
    for name in (pattern for pattern in REPEATABLE if ("*" not in pattern and pattern not in MIDI) or pattern == midi):
        if name not in record["files"] and name not in extra:
            yield f"files leaves out {name}, which every such song has"
    for name in sorted(whole):
        size = (folder / name).stat().st_size
        if size != record["files"][name]["bytes"]:
            yield f"files.{name}.bytes is {record['files'][name]['bytes']}, where the file has {size}"
    for name in sorted({name for name in record["files"] if name.endswith(".flac")} - {*record["seconds"]}):
        yield f"seconds leaves out {name}"
    if "stems" in record:
        listed = {stem["file"] for stem in record["stems"]}
        kept = {name for name in record["files"] if name.startswith("stems/")}
        yield from (f"stems leaves out {name}" for name in sorted(kept - listed))
        yield from (f"files leaves out {name}, which stems names" for name in sorted(listed - kept))


def _texts(record: dict[str, Any], folder: Path, whole: set[str]) -> Iterator[str]:
    """`metadata.json` holds the wishes and warnings too, and `plan.json` the length and the parts."""
    if "metadata.json" in whole:
        metadata = json.loads((folder / "metadata.json").read_bytes())
        for name in ("wishes", "warnings"):
            if name in record and record[name] != metadata.get(name, []):
                yield f"{name} differs from metadata.json"
    if "plan.json" in whole:
        plan = json.loads((folder / "plan.json").read_bytes())
        seconds = record["request"].get("seconds")
        if seconds is not None and seconds != plan["seconds"]:
            yield f"request.seconds is {seconds}, where the song was planned for {plan['seconds']:g}"
        parts = {part["name"] for part in plan["parts"]}
        if parts != set(record.get("seeds", {}).get("stems", parts)):
            yield f"seeds.stems names other parts than plan.json: {', '.join(sorted(parts))}"


def _audio(record: dict[str, Any], folder: Path, name: str) -> Iterator[str]:
    path = folder / name
    at = first_difference(record["seconds"][name], digest_seconds(path, CancelToken()))
    if at is not None:
        yield f"seconds.{name} differs from the file, from second {at}"
    rate = soundfile.info(path).samplerate
    for stem in record.get("stems", []):
        if stem["file"] == name and stem["sampleRate"] != rate:
            yield f"stems: {name} has a sample rate of {rate} Hz, and not {stem['sampleRate']}"
    if name == "song.flac":
        yield from _levels(record, path)


def _levels(record: dict[str, Any], path: Path) -> Iterator[str]:
    audio, rate = read_audio(path)
    loudness = integrated_loudness(segment_powers(audio, rate, CancelToken()))
    peak = true_peak(audio, CancelToken())
    measured = record.get("measurements", {})
    for name, value, unit, tolerance in (
        ("loudness_lufs", loudness, "LUFS", _LOUDNESS_LU),
        ("true_peak_dbtp", 20 * math.log10(peak) if peak > 0 else -math.inf, "dBTP", _PEAK_DB),
    ):
        if name not in measured:
            continue
        said = -math.inf if measured[name] is None else measured[name]
        if said != value and not abs(said - value) <= tolerance:
            yield f"measurements.{name} is {measured[name]}, where the song has {value:.2f} {unit}"
