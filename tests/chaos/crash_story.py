"""What is done while crash points are taken, and what must hold in each: a few songs of a small home, with faults,
cancels and retries.

Owns both. The engines are quick ones of `harmonia_lab.testing`, and the song's picture is a few bytes.
"""

import json
import random
import threading

from harmonia_lab import Lab
from harmonia_lab.errors import AudioError, HarmoniaError, MetadataError
from harmonia_lab.protocol.event_codec import encode
from harmonia_lab.protocol.events import linked
from harmonia_lab.protocol.models import SongRequest
from tests.chaos import invariants
from tests.chaos.world import CALM
from tests.server.engines import Player, Writer
from tests.waiting import PATIENCE_S

SONGS = 3
"""Of one home: with more, a copy costs more."""


def make_lab(folder, **engines):
    return Lab(
        metadata=engines.get("metadata") or Writer(), audio=engines.get("audio") or Player(),
        songs=folder / "songs", home=folder / "home",
    )  # fmt: skip


def tell(folder, seed, hear):
    """Make some songs in `folder`, each with a fate of its own. hear: gets each lifecycle event as a client would."""
    draw = random.Random(seed)
    writer, player = Writer(), Player()
    with make_lab(folder, metadata=writer, audio=player) as lab:
        lab.events.subscribe(lambda event: hear(_heard(event)) if event.delivery == "lifecycle" else None)
        for number in range(SONGS):
            fate = draw.choice(
                ["whole", "given", "writer fails", "player fails", "defect", "cancelled", "cancelled", "out"]
            )
            generation_id = f"{draw.randbytes(5).hex()}-{number}"
            request = SongRequest(narrative="A lamp burns.", seconds=1, generation_id=generation_id, seed=number)
            if fate == "given":
                request = request.model_copy(update={"metadata": CALM})
            writer.errors = [MetadataError("The model wrote no song.")] if fate == "writer fails" else []
            errors = {"player fails": AudioError("The renderer failed."), "defect": RuntimeError("a defect")}
            player.errors = [errors[fate]] if fate in errors else []
            cancelling = _cancel_later(lab, generation_id, draw.randrange(25)) if fate == "cancelled" else None
            out = folder / "songs" / f"own-{number}-{generation_id[:8]}" if fate == "out" else None
            job = lab.submit_request(request, out=out)
            job.wait(PATIENCE_S)
            if cancelling is not None:
                cancelling()
            state = lab.journal.state(generation_id)
            if state.status == "failed" and state.failure.error.recoverable and draw.random() < 0.7:
                lab.retry(generation_id).wait(PATIENCE_S)


def _cancel_later(lab, generation_id, after):
    """Cancel the song in a thread of its own, once so many of its events came. Return what waits for that thread."""
    count, reached = 0, threading.Event()

    def look(event):
        nonlocal count
        if event.generation_id == generation_id:
            count += 1
            if count > after or event.ends:
                reached.set()

    def cancel():
        reached.wait(PATIENCE_S)
        try:
            lab.cancel(generation_id)
        except HarmoniaError:
            return  # it has ended

    leave, thread = lab.events.subscribe(look), threading.Thread(target=cancel)
    thread.start()
    return lambda: (thread.join(), leave())


def _heard(event):
    name, payload = encode(linked(event, ""))
    return event.generation_id, event.family, event.seq, name, json.loads(json.dumps(payload))


def check(folder, heard, *, retry):
    """Open a copy as the next process does. Return what does not hold. retry: whether failed songs are tried again."""
    with make_lab(folder) as lab:
        jobs = lab.journal.jobs(None, 1000)
        retried = {}
        for job in jobs if retry else ():
            state = lab.journal.state(job.id)
            if state.status == "failed" and state.failure.error.code == "INTERRUPTED":
                retried[job.id] = lab.retry(job.id)
        for again in retried.values():
            again.wait(PATIENCE_S)
    broken = []
    found = {job.id: invariants.kept(folder / "home", folder / "songs", job.id) for job in jobs}
    for one in found.values():
        broken += invariants.broken_history(one, invariants.attempts(one))
        broken += invariants.broken_log(one)
        broken += invariants.broken_folder(one)
        if one.id in retried and one.status != "completed":
            broken.append(f"{one.id} was tried again, and is {one.status}")
    for generation_id, family, seq, name, payload in heard:
        events = {(e[0], e[1]): e[2:] for e in found[generation_id].events} if generation_id in found else {}
        if events.get((family, seq)) != (name, payload):
            broken.append(f"{name} of {generation_id} was heard as {family} {seq}; the journal has another")
    return broken
