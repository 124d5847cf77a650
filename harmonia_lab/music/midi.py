"""A plan as Standard MIDI Files: the whole song, or one part alone for a renderer.

Owns the mapping to MIDI events and channels (not the rendering, which is in `audio_engines/sketch/`, nor the texts of
lyric events, which are in `lyric_events.py`).
"""

from __future__ import annotations

import io

import mido

from harmonia_lab.music.lyric_events import lyric_events
from harmonia_lab.music.plan import Part, Plan
from harmonia_lab.protocol.vocabulary import INSTRUMENTS

__all__ = ["CHARSET", "TICKS_PER_BEAT", "part_to_midi", "song_to_midi"]

TICKS_PER_BEAT = 480
CHARSET = "utf-8"
"""Of all text. The MIDI standard leaves it open beyond ASCII; notation programs and DAWs read UTF-8, as does
`mido.MidiFile` with `charset="utf-8"`. A player that expects Latin-1 or Shift-JIS shows other letters wrongly, and
plays the notes."""

_DRUM_CHANNEL = 9
_VOLUME = 90
"""Controller 7. The loudest part in our tests, a harp with chords and melody, then peaks at −4 dBFS."""

_KEY_NAMES = {
    "major": ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"),
    "minor": ("Cm", "C#m", "Dm", "Ebm", "Em", "Fm", "F#m", "Gm", "G#m", "Am", "Bbm", "Bm"),
}
"""By pitch class, spelled as MIDI key signatures require."""

MidiEvent = tuple[int, int, mido.Message | mido.MetaMessage]
"""Absolute tick, order within the tick, message."""


def song_to_midi(plan: Plan) -> bytes:
    """Return a type 1 file: a conductor track (tempo, metre, key, section markers), then a track for each part.

    The part with the melody has lyric events, as `lyric_events.py` says. All kits share channel 10 and so the program
    of the first one.
    """
    tracks = [_conductor(plan)]
    free_channels = iter([channel for channel in range(16) if channel != _DRUM_CHANNEL])
    kits = 0
    for part in plan.parts:
        kit = _is_kit(part)
        tracks.append(_track(plan, part, _DRUM_CHANNEL if kit else next(free_channels), program=not (kit and kits)))
        kits += kit
    return _file_bytes(tracks)


def part_to_midi(plan: Plan, part: Part) -> bytes:
    """Return one part alone, without reverb and chorus, as long as the song."""
    return _file_bytes([_conductor(plan), _track(plan, part, _DRUM_CHANNEL if _is_kit(part) else 0, program=True)])


def _is_kit(part: Part) -> bool:
    return INSTRUMENTS[part.instrument.name].role == "drums"


def _conductor(plan: Plan) -> mido.MidiTrack:
    markers = [
        (section.bar * plan.beats_per_bar * TICKS_PER_BEAT, 1, mido.MetaMessage("marker", text=section.name))
        for section in plan.sections
    ]
    head = [
        mido.MetaMessage("track_name", name=plan.title),
        mido.MetaMessage("set_tempo", tempo=round(60e6 / plan.bpm)),
        mido.MetaMessage("time_signature", numerator=plan.beats_per_bar, denominator=4),
        mido.MetaMessage("key_signature", key=_KEY_NAMES[plan.mode][plan.tonic]),
    ]
    return _timed([*((0, 0, message) for message in head), *markers], _tick(plan.seconds / plan.seconds_per_beat))


def _track(plan: Plan, part: Part, channel: int, *, program: bool) -> mido.MidiTrack:
    def control(number: int, value: int) -> mido.Message:
        return mido.Message("control_change", channel=channel, control=number, value=value)

    head = [mido.MetaMessage("track_name", name=part.name)]
    if program:
        head.append(mido.Message("program_change", channel=channel, program=part.program))
    head += [control(7, _VOLUME), control(91, 0), control(93, 0)]
    events: list[MidiEvent] = [(0, 0, message) for message in head]
    end = _tick(plan.seconds / plan.seconds_per_beat)
    for note in part.notes:
        on = _tick(note.start)
        off = min(end, max(on + 1, _tick(note.start + note.duration)))
        events += [
            (on, 3, mido.Message("note_on", channel=channel, note=note.pitch, velocity=note.velocity)),
            (off, 1, mido.Message("note_off", channel=channel, note=note.pitch, velocity=0)),
        ]
    events += [(tick, 1, control(11, level)) for tick, level in _fade(plan)]
    events += [
        (
            min(end, _tick(lyric.beat)),
            1 if lyric.text in ("\r", "\n") else 2,
            mido.MetaMessage("lyrics", text=lyric.text),
        )
        for lyric in lyric_events(plan, part.notes)
    ]
    return _timed(events, end)


def _fade(plan: Plan) -> list[tuple[int, int]]:
    """Return a fade-out by controller 11 (expression) over the last part of the last chord, as (tick, value).

    Without it strings, pads and cymbals would stop abruptly at the end of the file.
    """
    beats = plan.seconds / plan.seconds_per_beat
    last = plan.chords[-1].start if plan.chords else 0.0
    length = min(1.4 / plan.seconds_per_beat, 0.6 * (beats - last))
    return [(_tick(beats - length * (1 - i / 24)), round(127 * (1 - i / 24) ** 1.5)) for i in range(25)]


def _tick(beats: float) -> int:
    return round(beats * TICKS_PER_BEAT)


def _timed(events: list[MidiEvent], end: int) -> mido.MidiTrack:
    """Return a track of the events, which ends at tick `end`; MIDI files store the ticks between events."""
    track = mido.MidiTrack()
    now = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=max(0, end - now)))
    return track


def _file_bytes(tracks: list[mido.MidiTrack]) -> bytes:
    buffer = io.BytesIO()
    mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, charset=CHARSET, tracks=tracks).save(file=buffer)
    return buffer.getvalue()
