"""Run on a copy of the package to which `new_event.patch` was applied: the new event goes everywhere, by itself.

Prints one JSON object, which `test_new_event.py` looks at.
"""

import json
import sys
import tempfile
from pathlib import Path

from harmonia_lab import BlockingClient, Lab
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import new_state
from harmonia_lab.protocol.asyncapi import asyncapi_document
from harmonia_lab.protocol.events import LyricsRevised, MetadataGenerationComplete, MetadataGenerationStarted
from harmonia_lab.protocol.models import Job, SongRequest, utc_now
from harmonia_lab.protocol.typescript import typescript_module
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine

ID = "g"


def emit(lab):
    """The events of a generation whose words are revised."""
    now = utc_now()
    job = Job(id=ID, user_id="local", created_at=now, updated_at=now)
    request = SongRequest(narrative="A story.", generation_id=ID)
    lab.journal.begin(job, request)
    log = EventLog(new_state(job, request), lab.journal, lab.events)
    log.queued(0, 1.0)
    log(MetadataGenerationStarted(generation_id=ID, user_id="local", narrative="A story.", model="m"))
    log(MetadataGenerationComplete(generation_id=ID, metadata=SONG_METADATA, duration=1.0))
    yield
    log(LyricsRevised(generation_id=ID, metadata=SONG_METADATA.model_copy(update={"title": "Revised"})))
    yield


def title_for(client, server, last):
    """Join, and read events up to the one named `last`; the title that the client's store has then."""
    client.connect(server.token("local"))
    client.join(ID)
    for event in client.events(ID):
        if event.name == last:
            break
    return client.store.state.generations[ID].metadata.title


def main(folder):
    with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=folder / "songs", home=folder) as lab:
        server, steps = lab.serve(port=0), emit(lab)
        next(steps)
        panel = lab.panel(ID)
        with BlockingClient(server.url) as live, BlockingClient(server.url) as late:
            before = title_for(live, server, "metadata-generation-complete")
            stream = live.events(ID)
            next(steps)
            found = {
                "live": next(event.metadata.title for event in stream if event.name == "lyrics-revised"),
                "late": title_for(late, server, "lyrics-revised"),
            }
        found |= {
            "before": before,
            "panel": panel.view["title"],
            "journal": [event.name for event in lab.journal.replay(ID, "generation")],
            "state": lab.journal.state(ID).metadata.title,
        }
        panel.close()
    found["asyncapi"] = "lyrics-revised" in json.dumps(asyncapi_document())
    found["typescript"] = '"lyrics-revised"' in typescript_module() or "'lyrics-revised'" in typescript_module()
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        json.dump(main(Path(scratch)), sys.stdout)
