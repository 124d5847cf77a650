"""The server of `make bench-worst`, run as a process: a user with many long songs, and another one with a song at work.

Owns what the server has to serve. `worst.py` measures, `worst_client.py` does its worst.
"""

from __future__ import annotations

import random

from benchmarks.server.children import commands, reply
from benchmarks.server.generation import begin, scratch_lab
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import new_state
from harmonia_lab.lab import Lab
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    AudioGenerationStarted,
    MetadataGenerationComplete,
    MetadataGenerationStarted,
)
from harmonia_lab.protocol.models import Job, SongRequest, utc_now
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.testing import SONG_METADATA

__all__ = ["WORST_USER", "main", "song_id"]

WORST_USER = "worst"
CHARACTERS = 20_000
"""Of each song's lyrics, and of each narrative: as many as are allowed."""

_WORDS = "the old lighthouse keeper counts seven storms and a lantern burns beside the harbour until morning".split()  # noqa: SIM905 - a word list


def song_id(number: int) -> str:
    return f"long-{number}"


def fill(lab: Lab, songs: int) -> None:
    """Journal finished songs with lyrics of full length, each different."""
    draw = random.Random(1)  # noqa: S311 - no secret
    for number in range(songs):
        text = _text(draw)
        generation_id, now = song_id(number), utc_now()
        request = SongRequest(narrative=text, generation_id=generation_id)
        job = Job(id=generation_id, user_id=WORST_USER, created_at=now, updated_at=now)
        lab.journal.begin(job, request)
        log = EventLog(new_state(job, request), lab.journal, lambda _event: None)
        log.queued(0, 1.0)
        same = {"generation_id": generation_id}
        metadata = SONG_METADATA.model_copy(update={"lyrics": f"[Verse 1]\n{text}"[:CHARACTERS]})
        log(MetadataGenerationStarted(**same, user_id=WORST_USER, narrative=text, model="none"))
        log(MetadataGenerationComplete(**same, metadata=metadata, duration=1.5))
        song = {"song_id": generation_id, "instruments": metadata.instruments, "duration": 20.0, "bpm": 96.0}
        log(AudioGenerationStarted(**same, **song))
        url = (lab.songs / generation_id / "song.flac").absolute().as_uri()
        done = {"song_id": generation_id, "audio_url": url, "duration": 20.0, "file_size": 1, "checksum": "0" * 64}
        log(AudioGenerationComplete(**same, **done))


def _text(draw: random.Random) -> str:
    words: list[str] = []
    length = 0
    while length < CHARACTERS:
        words.append(draw.choice(_WORDS) + ("\n" if len(words) % 8 == 7 else ""))
        length += len(words[-1]) + 1
    return " ".join(words)[:CHARACTERS].strip()


def main() -> None:
    for command in commands():
        with scratch_lab() as lab:
            begin(lab)
            fill(lab, command["songs"])
            server = lab.serve(ServerSettings(port=0, **command.get("settings", {})))
            admin = server.token("root", roles=("admin",))
            reply(url=server.url, token=server.token(), worst=server.token(WORST_USER), admin=admin)
            for _ in commands():
                pass
        return


if __name__ == "__main__":
    main()
