"""Folders of songs, made in a moment: tones in place of music, with a record, a plan and words."""

import json

import numpy as np
import soundfile

from harmonia_lab.player.page import ListeningGroup, ListeningSong
from harmonia_lab.player.song import files_of, song_in_folder

RATE = 8000
LYRICS = "[Verse 1]\nThe tide comes in\nThe boat goes out\n\n[Chorus]\nHold the light\n\n[Verse 2]\nNobody sings this"
SUNG = (
    ("The tide comes in", 0.5, 1.5),
    ("The boat goes out!", 2, 3),
    ("Hold the light", 5, 6),
    ("Hold the light", 9, 10),
)


def tone(path, seconds, pitch, rate=RATE, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * pitch * t) * (0.2 + 0.8 * np.abs(np.sin(t)))
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate, format="FLAC", subtype="PCM_16")


def make_song(
    folder, *, title="A Small Boat", seconds=12, seed=7, stems=("piano", "double bass"),
    sections=("intro", "verse", "chorus"), lyrics=LYRICS, follows=("notes",), lufs=-14.0, pan=0.0,
    generation_id="0123456789abcdef",
):  # fmt: skip
    """A song of 60 bpm in bars of four beats, each section of one bar."""
    tone(folder / "song.flac", seconds, 440)
    files = [f"stems/{number}-{name.replace(' ', '-')}.flac" for number, name in enumerate(stems, 1)]
    for number, file in enumerate(files, 1):
        tone(folder / file, seconds, 220 * number)
    plan = {
        "title": title,
        "bpm": 60.0,
        "beats_per_bar": 4,
        "sections": [{"name": name, "bar": bar, "bars": 1} for bar, name in enumerate(sections)],
        "sung": [{"text": t, "start": a, "end": b, "section": ""} for t, a, b in SUNG if b < seconds] if lyrics else [],
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "metadata.json").write_text(json.dumps({"title": title, "lyrics": lyrics}))
    record = {
        "recordVersion": 2,
        "generationId": generation_id,
        "songId": "s",
        "request": {"seconds": seconds, "seed": seed},
        "seeds": {"request": seed},
        "engines": {"metadata": {"engine": "embedded", "model": "small"}, "audio": {"engine": "sketch"}},
        "measurements": {
            "loudness_lufs": lufs,
            "master_gain_db": 6.0,
            "stems": [{"name": name, "gain_db": -6.0 * number, "pan": pan} for number, name in enumerate(stems)],
        },
        "follows": list(follows),
        "stems": [
            {"file": file, "name": name, "role": "chords", "sampleRate": RATE}
            for file, name in zip(files, stems, strict=True)
        ],
        "files": {name: {"sha256": "0" * 64, "bytes": 1} for name in ("song.flac", *files)},
        "seconds": {},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def group(*folders, heading=""):
    return ListeningGroup(heading, [ListeningSong(song_in_folder(each), files_of(each), each.name) for each in folders])
