"""What must hold after each fault: each check returns sentences that say what does not.

They read the journal's file, the log, the folders and `/proc` by themselves, and not through the code that they check;
only a whole song's folder is judged by `harmonia_lab.generation.verify`.
"""

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from harmonia_lab.generation.verify import check_folder
from harmonia_lab.protocol.event_codec import decode_event, encode
from harmonia_lab.protocol.events import linked

LONGEST_S = 300.0
"""No attempt takes that long, whatever the clock says."""

ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Kept:
    """One generation as the disk has it. events: (family, seq, name, payload). rows: of the run log."""

    id: str
    status: str | None
    song: str | None
    events: list[tuple[str, int, str, dict]]
    rows: list[dict]
    folders: list[str]

    @property
    def ends(self):
        """How often each family has ended."""
        decoded = [decode_event(name, payload) for _, _, name, payload in self.events]
        return [sum(event.ends for event in decoded if event.family == family) for family in ("generation", "job")]


def kept(home, songs, generation_id):
    """Read what is on the disk of one generation."""
    with contextlib.closing(sqlite3.connect(f"file:{home / 'journal.sqlite3'}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT status, song FROM generations WHERE id = ?", (generation_id,)).fetchone()
        events = database.execute(
            "SELECT family, seq, name, payload FROM events WHERE generation = ? ORDER BY family, seq", (generation_id,)
        ).fetchall()
    log = home / "runs.jsonl"
    lines = map(_row, log.read_bytes().splitlines()) if log.exists() else []
    rows = [row for row in lines if row["generation_id"] == generation_id]
    folders = [folder.name for folder in songs.iterdir() if generation_id[:8] in folder.name] if songs.exists() else []
    status, song = row or (None, None)
    return Kept(generation_id, status, song, [(*e[:3], json.loads(e[3])) for e in events], rows, folders)


def _row(line):
    """Return a row of the log; one of nobody's for a line that a crash has cut off."""
    try:
        return json.loads(line)
    except ValueError:
        return {"generation_id": None}


def attempts(found):
    """Return how often the song was begun, by the job events: once, and again at each pending after an end."""
    count, ended = 1, False
    for family, _, name, payload in found.events:
        if family == "job":
            event = decode_event(name, payload)
            count += ended and name == "job:status" and event.status == "pending"
            ended = event.ends
    return count


def broken_history(found, attempts):
    """attempts: how often the song was begun by somebody's wish."""
    if found.status not in ENDED:
        return [f"{found.id} is {found.status} in the journal"]
    broken = []
    if found.ends != [attempts, attempts]:
        broken.append(f"{found.id} has {found.ends} ends in the journal, not {attempts}")
    for family in ("generation", "job"):
        numbers = [seq for of, seq, _, _ in found.events if of == family]
        if numbers != list(range(1, len(numbers) + 1)):
            broken.append(f"{found.id}: {family} events are numbered {numbers}")
    return broken


def broken_log(found):
    ids = [row["run_id"] for row in found.rows]
    if len(set(ids)) != len(ids):
        return [f"{found.id} has a row twice: {ids}"]
    statuses = [row["status"] for row in found.rows]
    if statuses[-1:] != [found.status]:
        return [f"{found.id} is {found.status}, its rows say {statuses}"]
    durations = [row.get("total_s") or 0.0 for row in found.rows]
    return [f"{found.id} took {durations} s"] if not 0 <= max(durations) < LONGEST_S else []


def broken_folder(found):
    """A song has one folder, which is whole; a failed one may have what a retry can use; a cancelled one has none."""
    names = sorted(found.folders)
    whole = [name for name in names if not name.startswith(".") and "partial" not in name]
    if found.status != "completed":
        stray = whole if found.status == "failed" else names
        return [f"{found.id} is {found.status}, and has {stray}"] if stray else []
    if len(names) != 1 or whole != names:
        return [f"{found.id} is completed, and has {names}"]
    folder = Path(found.song).parent
    report = check_folder(folder)
    broken = [f"{found.id}: {finding}" for finding in report.findings]
    checksum = found.rows[-1]["checksum"] if found.rows else None
    if (
        folder.name != whole[0]
        or json.loads((folder / "run.json").read_text())["files"]["song.flac"]["sha256"] != checksum
    ):
        broken.append(f"{found.id}: journal, folder and log name different songs")
    return broken


def broken_hearing(found, heard, user, *, whole=True):
    """heard: lifecycle events that a client got. whole: whether it must have got all."""
    broken = []
    events = {(family, seq): (name, payload) for family, seq, name, payload in found.events}
    got = [(event.family, event.seq) for event in heard]
    if len(set(got)) != len(got):
        broken.append(f"{user} heard an event of {found.id} twice: {got}")
    for event in heard:
        name, payload = encode(linked(event, ""))
        if events.get((event.family, event.seq)) != (name, json.loads(json.dumps(payload))):
            broken.append(f"{user} heard {name} of {found.id} as {event.family} {event.seq}; the journal has another")
    missing = events.keys() - set(got)
    if whole and missing:
        broken.append(f"{user} did not hear {sorted(missing)} of {found.id}")
    return broken


def broken_process(base, now):
    """base, now: what the victim said of itself after warm-up, and says now."""
    broken = []
    if now["rooms"] != base["rooms"]:
        broken.append(f"{now['rooms']} rooms, {base['rooms']} after warm-up")
    if now["descriptors"] > base["descriptors"] + 20:
        broken.append(f"{now['descriptors']} descriptors, {base['descriptors']} after warm-up")
    if now["pss"] > 1.05 * base["pss"] + 20e6:
        broken.append(f"{now['pss'] / 1e6:.0f} MB of memory, {base['pss'] / 1e6:.0f} MB after warm-up")
    return broken
