import io

import mido
import pytest

from harmonia_lab.music.composing import compose
from harmonia_lab.music.midi import CHARSET, TICKS_PER_BEAT, part_to_midi, song_to_midi
from harmonia_lab.music.plan import Chord, Note, Part, Plan, PlanSection
from harmonia_lab.protocol.models import Instrument, SongMetadata
from harmonia_lab.syllables import words_of

METADATA = SongMetadata(
    title="Dvořák’s Möwe 夜",
    lyrics="[Verse]\nThe café is closed tonight\nI’m walking home\n\n[Chorus]\nOver and over again\nWe sing",
    genre="pop",
    mood=["hopeful"],
    bpm=113,
    key="F# minor",
    instruments=[
        Instrument(name="flute", role="lead"),
        Instrument(name="piano", role="chords"),
        Instrument(name="bass guitar", role="bass"),
        Instrument(name="brush kit", role="drums"),
    ],
)


@pytest.fixture(scope="module")
def plan():
    return compose(METADATA, 25, 3)


def read(data):
    return mido.MidiFile(file=io.BytesIO(data), charset=CHARSET)


def notes_of(track):
    """[(start, end, pitch, velocity)] in ticks."""
    found, sounding, now = [], {}, 0
    for message in track:
        now += message.time
        if message.type == "note_on" and message.velocity:
            assert message.note not in sounding
            sounding[message.note] = (now, message.velocity)
        elif message.type in ("note_on", "note_off"):
            start, velocity = sounding.pop(message.note)
            found.append((start, now, message.note, velocity))
    assert not sounding
    return sorted(found)


def test_the_song_file_holds_every_note_of_the_plan_to_the_tick(plan):
    file = read(song_to_midi(plan))
    assert file.type == 1
    assert file.ticks_per_beat == TICKS_PER_BEAT == 480
    assert len(file.tracks) == 1 + len(plan.parts)
    for part, track in zip(plan.parts, file.tracks[1:], strict=True):
        written = notes_of(track)
        assert len(written) == len(part.notes)
        for (start, end, pitch, velocity), note in zip(
            written,
            sorted(part.notes, key=lambda n: (round(n.start * 480), round((n.start + n.duration) * 480), n.pitch)),
            strict=True,
        ):
            assert (pitch, velocity) == (note.pitch, note.velocity)
            assert start == round(note.start * 480)
            assert end == max(start + 1, round((note.start + note.duration) * 480))


def test_the_conductor_gives_tempo_metre_key_and_sections(plan):
    conductor = read(song_to_midi(plan)).tracks[0]
    found = {message.type: message for message in conductor}
    assert mido.tempo2bpm(found["set_tempo"].tempo) == pytest.approx(113, abs=0.001)
    assert (found["time_signature"].numerator, found["time_signature"].denominator) == (4, 4)
    assert found["key_signature"].key == "F#m"
    assert [m.text for m in conductor if m.type == "marker"] == [section.name for section in plan.sections]
    assert read(song_to_midi(plan)).length == pytest.approx(25, abs=0.01)


def test_drums_have_channel_ten_and_everybody_else_one_of_their_own(plan):
    tracks = read(song_to_midi(plan)).tracks[1:]
    channels = [{m.channel for m in track if not m.is_meta} for track in tracks]
    assert channels == [{0}, {1}, {2}, {9}]
    programs = [m.program for track in tracks for m in track if m.type == "program_change"]
    assert programs == [73, 0, 33, 40]


def test_parts_are_dry(plan):
    for data in (song_to_midi(plan), part_to_midi(plan, plan.parts[1])):
        controls = {(m.control, m.value) for track in read(data).tracks for m in track if m.type == "control_change"}
        assert {(91, 0), (93, 0)} <= controls
        assert not any(number in (91, 93) and value for number, value in controls)


def test_lyrics_are_events_in_their_order(plan):
    lead = read(song_to_midi(plan)).tracks[1]
    texts = [m.text for m in lead if m.type == "lyrics"]
    words = "".join(texts).split()
    assert words == [word for line in plan.sung for word in words_of(line.text)]
    assert "ca" in texts
    assert "I’m " in texts


def test_text_of_every_script_is_kept_as_utf_8(plan):
    assert read(song_to_midi(plan)).tracks[0].name == "Dvořák’s Möwe 夜"
    assert "Dvořák’s Möwe 夜".encode() in song_to_midi(plan)


def test_a_part_alone_lasts_as_long_as_the_song(plan):
    for part in plan.parts:
        file = read(part_to_midi(plan, part))
        assert file.length == pytest.approx(plan.seconds, abs=0.01)
        assert len(notes_of(file.tracks[1])) == len(part.notes)


def test_two_kits_share_the_channel_and_the_first_ones_program():
    hit = (Note(0.0, 0.5, 38, 90),)
    kits = tuple(
        Part(name, Instrument(name=name, role="drums"), program, hit)
        for name, program in (("brush kit", 40), ("drum machine", 25))
    )
    section = PlanSection("outro", 0, 1, 0.5)
    plan = Plan(
        "x", "jazz", 0, "major", 120.0, 4, 1, 2.0, 0.0, 0.0, (section,), (Chord(0, 4, "C", (0, 4, 7)),), kits, ()
    )
    tracks = read(song_to_midi(plan)).tracks[1:]
    assert [m.program for track in tracks for m in track if m.type == "program_change"] == [40]
    assert all(m.channel == 9 for track in tracks for m in track if not m.is_meta)


def test_the_same_plan_gives_the_same_bytes(plan):
    assert song_to_midi(plan) == song_to_midi(compose(METADATA, 25, 3))
