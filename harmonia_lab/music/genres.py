"""Genres: tempo, swing, patterns, chord progressions and instruments of each; and the genre that a text names.

Owns the table of the genres in `protocol.vocabulary.GENRES`, and `nearest_genre`. `moods.py` has the influence of
moods; `composing/` has the notes of each pattern.

Sources. Tempo ranges and swing follow common practice; we made the ranges a little narrower than handbooks do, so that
beat trackers agree with listeners. The progressions are stock material of each genre; for pop and rock see T. de Clercq
and D. Temperley, "A corpus analysis of rock harmony", Popular Music 30/1 (2011), for blues the twelve-bar form, for
jazz the ii-V-I and the rhythm-changes turnaround.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from harmonia_lab.protocol.vocabulary import GENRES, Role

__all__ = ["GENRE_STYLES", "GenreStyle", "nearest_genre"]


class GenreStyle(NamedTuple):
    """tempo: slowest and fastest usual bpm. swing: 0 straight … 1 full triplets.

    groove, comping, bass: names of patterns in `composing/drums.py`, `accompaniment.py` and `bass.py`. major, minor:
    progressions of one chord a bar, in Roman numerals (upper case major, lower case minor), which
    `composing/harmony.py` parses. instruments: by role, from the softest sound to the brightest; the empty name leaves
    the role out. fifths: usual key signatures as positions on the circle of fifths (0 = C major/A minor, +1 = one
    sharp). syncopation: 0 the melody keeps to the beats … 1 it ignores them. swing_grid: beats; every second position
    of this grid is delayed. sevenths: whether chords include their seventh. open_choruses: choruses end on the dominant
    instead of closing on the tonic. minor_bias: subtracted from a mood's valence when the mode is chosen; positive
    values favour minor.
    """

    tempo: tuple[int, int]
    swing: float
    groove: str
    comping: str
    bass: str
    major: tuple[str, ...]
    minor: tuple[str, ...]
    instruments: Mapping[Role, tuple[str, ...]]
    fifths: tuple[int, ...]
    syncopation: float = 0.4
    swing_grid: float = 0.5
    sevenths: bool = False
    beats_per_bar: int = 4
    open_choruses: bool = False
    minor_bias: float = 0.0


_GUITAR_KEYS = (0, 1, 2, 3, 4)
_HORN_KEYS = (-1, -2, -3, 0, 1)
_ANY_KEYS = (-3, -2, -1, 0, 1, 2, 3)

_POP_MAJOR = ("I V vi IV", "I vi IV V", "vi IV I V", "I IV vi V", "IV V iii vi")
_POP_MINOR = ("i VI III VII", "i iv VI V", "i VII VI VII", "VI VII i i", "i III VII iv")

GENRE_STYLES: dict[str, GenreStyle] = {
    "pop": GenreStyle(
        (88, 124), 0.0, "pop", "push", "syncopated", _POP_MAJOR, _POP_MINOR,
        {"lead": ("flute", "synth lead", "saxophone"), "chords": ("piano", "electric piano", "electric guitar"),
         "bass": ("bass guitar", "synth bass"), "drums": ("drums",), "pad": ("strings", "synth pad")},
        _ANY_KEYS, syncopation=0.5,
    ),
    "rock": GenreStyle(
        (104, 140), 0.0, "rock", "eighths", "eighths",
        ("I IV V IV", "I V IV I", "I V vi IV", "I IV I V"), ("i VI VII i", "i VII VI VII", "i III VII iv", "i iv i V"),
        {"lead": ("electric guitar",), "chords": ("electric guitar", "distorted guitar"), "bass": ("bass guitar",),
         "drums": ("drums",), "pad": ("organ",)},
        _GUITAR_KEYS, syncopation=0.4,
    ),
    "folk": GenreStyle(
        (80, 112), 0.0, "train", "fingerpick", "root fifth",
        ("I IV I V", "I V vi IV", "I vi IV V", "I iii IV V"),
        ("i VII VI VII", "i iv i V", "i III VII i", "i VI III VII"),
        {"lead": ("flute", "violin", "harmonica"), "chords": ("nylon guitar", "acoustic guitar", "banjo"),
         "bass": ("double bass",), "drums": ("", "brush kit"), "pad": ("strings", "accordion")},
        _GUITAR_KEYS, syncopation=0.15,
    ),
    "country": GenreStyle(
        (92, 128), 0.25, "train", "boom chick", "root fifth",
        ("I IV V I", "I V IV I", "I IV I V", "I vi IV V"), ("i iv V i", "i VII VI V", "i VI III VII"),
        {"lead": ("harmonica", "violin"), "chords": ("acoustic guitar", "banjo"),
         "bass": ("double bass", "bass guitar"), "drums": ("brush kit", "drums"), "pad": ("accordion",)},
        _GUITAR_KEYS, syncopation=0.2, minor_bias=-0.2,
    ),
    "jazz": GenreStyle(
        (96, 144), 0.85, "swing", "charleston", "walking",
        ("ii V I vi", "I vi ii V", "iii vi ii V", "I IV iii vi"),
        ("ii° V i i", "i VI ii° V", "i iv VII III", "i iv ii° V"),
        {"lead": ("clarinet", "saxophone", "trumpet"), "chords": ("piano", "electric piano"), "bass": ("double bass",),
         "drums": ("brush kit", "drums"), "pad": ("", "vibraphone")},
        _HORN_KEYS, syncopation=0.7, sevenths=True,
    ),
    "blues": GenreStyle(
        (80, 116), 0.9, "shuffle", "shuffle", "boogie",
        ("I IV I I IV IV I I V IV I V",), ("i iv i i iv iv i i VI V i V",),
        {"lead": ("harmonica", "saxophone", "electric guitar"), "chords": ("piano", "electric guitar"),
         "bass": ("double bass", "bass guitar"), "drums": ("drums",), "pad": ("organ",)},
        _GUITAR_KEYS, syncopation=0.4, sevenths=True,
    ),
    "soul": GenreStyle(
        (76, 112), 0.2, "soul", "push", "syncopated",
        ("I vi ii V", "I IV ii V", "IV iii ii I", "I iii IV V"), ("i iv VII III", "i VI iv V", "i iv i V"),
        {"lead": ("saxophone", "trumpet"), "chords": ("electric piano", "piano"), "bass": ("bass guitar",),
         "drums": ("drums",), "pad": ("organ", "brass")},
        _HORN_KEYS, syncopation=0.7, swing_grid=0.25, sevenths=True,
    ),
    "electronic": GenreStyle(
        (96, 128), 0.0, "electro", "arpeggio", "eighths",
        ("vi IV I V", "I V vi IV", "IV I V vi"), ("i VI III VII", "i VII VI VII", "VI VII i i", "i iv VI VII"),
        {"lead": ("synth lead",), "chords": ("electric piano", "synth lead"), "bass": ("synth bass",),
         "drums": ("drum machine",), "pad": ("synth pad", "strings")},
        _ANY_KEYS, syncopation=0.5, open_choruses=True, minor_bias=0.15,
    ),
    "house": GenreStyle(
        (118, 128), 0.0, "house", "offbeat", "offbeat",
        ("I vi IV V", "vi IV I V", "I iii vi IV"), ("i VI III VII", "i VII VI VII", "i iv VII VI"),
        {"lead": ("synth lead", "saxophone"), "chords": ("electric piano", "piano"), "bass": ("synth bass",),
         "drums": ("drum machine",), "pad": ("synth pad", "strings")},
        _ANY_KEYS, syncopation=0.6, open_choruses=True, sevenths=True, minor_bias=0.15,
    ),
    "ambient": GenreStyle(
        (60, 80), 0.0, "none", "broken", "long",
        ("I IV I vi", "I iii IV I", "IV I V vi", "I V IV IV"),
        ("i VI III VII", "i iv VI i", "i VI i VII", "VI III i VII"),
        {"lead": ("kalimba", "vibraphone", "flute"), "chords": ("harp", "piano"), "bass": ("cello", "synth bass"),
         "drums": ("",), "pad": ("synth pad", "choir")},
        _ANY_KEYS, syncopation=0.0, open_choruses=True,
    ),
    "hip hop": GenreStyle(
        (78, 96), 0.35, "boom bap", "stabs", "syncopated",
        ("I vi IV V", "ii V I vi", "IV iii vi I"), ("i VI iv V", "i iv VI VII", "i VII VI V", "i VI i VII"),
        {"lead": ("flute", "vibraphone", "synth lead"), "chords": ("electric piano", "piano"),
         "bass": ("bass guitar", "synth bass"), "drums": ("drum machine",), "pad": ("strings", "synth pad")},
        _ANY_KEYS, syncopation=0.8, open_choruses=True, swing_grid=0.25, sevenths=True, minor_bias=0.2,
    ),
    "classical": GenreStyle(
        (72, 116), 0.0, "none", "alberti", "half notes",
        ("I IV V I", "I vi ii V", "I V vi iii", "IV I ii V"), ("i iv V i", "i VI iv V", "i VII III VI", "i ii° V i"),
        {"lead": ("oboe", "flute", "violin"), "chords": ("harp", "piano", "harpsichord"), "bass": ("cello",),
         "drums": ("",), "pad": ("strings", "french horn")},
        _ANY_KEYS, syncopation=0.0,
    ),
    "indie": GenreStyle(
        (92, 132), 0.0, "indie", "arpeggio", "eighths",
        ("I IV vi V", "I iii vi IV", "IV I V vi", "I V IV IV"),
        ("i III VII iv", "VI i VII VII", "i VI III VII", "i iv i VI"),
        {"lead": ("electric guitar", "synth lead"), "chords": ("acoustic guitar", "electric guitar"),
         "bass": ("bass guitar",), "drums": ("drums",), "pad": ("synth pad", "organ")},
        _GUITAR_KEYS, syncopation=0.5,
    ),
    "metal": GenreStyle(
        (112, 152), 0.0, "metal", "power", "eighths",
        ("I V vi IV", "I IV V IV"), ("i VI VII i", "i VII VI V", "i VI III VII", "i iv VI V"),
        {"lead": ("electric guitar",), "chords": ("distorted guitar",), "bass": ("bass guitar",), "drums": ("drums",),
         "pad": ("choir", "strings")},
        (0, 1, 2, 3), syncopation=0.3, minor_bias=0.5,
    ),
    "bossa nova": GenreStyle(
        (108, 136), 0.0, "bossa", "bossa", "bossa",
        ("I vi ii V", "I IV ii V", "iii vi ii V"), ("i iv ii° V", "i VI ii° V", "i iv VII III"),
        {"lead": ("flute", "saxophone"), "chords": ("nylon guitar",), "bass": ("double bass", "bass guitar"),
         "drums": ("brush kit", "drums"), "pad": ("", "strings")},
        _HORN_KEYS, syncopation=0.6, sevenths=True,
    ),
    "reggae": GenreStyle(
        (72, 92), 0.15, "one drop", "skank", "reggae",
        ("I IV I V", "I V vi IV", "I ii I ii"), ("i iv i VII", "i VII VI VII", "i iv VI V"),
        {"lead": ("trumpet", "saxophone", "harmonica"), "chords": ("electric piano", "electric guitar"),
         "bass": ("bass guitar",), "drums": ("drums",), "pad": ("organ",)},
        _GUITAR_KEYS, syncopation=0.6, open_choruses=True, swing_grid=0.25, minor_bias=-0.1,
    ),
    "waltz": GenreStyle(
        (96, 144), 0.0, "waltz", "oom pah", "downbeat",
        ("I V V I", "I vi ii V", "I IV V I", "vi ii V I"), ("i iv V i", "i VI iv V", "i VII III V"),
        {"lead": ("oboe", "clarinet", "violin"), "chords": ("harp", "piano", "accordion"),
         "bass": ("cello", "double bass"), "drums": ("", "brush kit"), "pad": ("strings",)},
        _ANY_KEYS, syncopation=0.0, beats_per_bar=3,
    ),
    "cinematic": GenreStyle(
        (80, 120), 0.0, "epic", "ostinato", "long",
        ("I V vi IV", "vi IV I V", "I iii IV V", "IV V vi I"),
        ("i VI III VII", "i VI iv V", "i VII VI V", "i III VI VII"),
        {"lead": ("french horn", "violin", "trumpet"), "chords": ("harp", "piano", "strings"),
         "bass": ("cello", "double bass"), "drums": ("", "drums"), "pad": ("strings", "choir", "brass")},
        _ANY_KEYS, syncopation=0.1, minor_bias=0.15,
    ),
}  # fmt: skip
"""One row for each of `protocol.vocabulary.GENRES`."""

_RELATED = {
    "house": "techno trance disco club dance eurodance garage",
    "electronic": "edm synthwave synth retrowave electro electronica dubstep idm downtempo chiptune vaporwave "
    "electropop breakbeat jungle drum dnb",
    "hip hop": "hiphop rap trap lofi lo-fi boombap drill grime",
    "soul": "r&b rnb funk motown gospel neo-soul",
    "metal": "thrash doom metalcore djent deathcore",
    "rock": "punk grunge hardcore surf rockabilly stoner",
    "indie": "shoegaze alternative bedroom emo dreampop chillwave",
    "folk": "singer-songwriter acoustic celtic irish sea shanty ballad traditional lullaby medieval world",
    "country": "bluegrass americana western honky-tonk",
    "jazz": "bebop swing dixieland ragtime fusion big-band",
    "bossa nova": "bossa samba latin mpb brazilian salsa rumba tango",
    "reggae": "ska dub dancehall rocksteady reggaeton calypso",
    "ambient": "drone meditation newage new-age chillout chill soundscape minimal space",
    "classical": "baroque romantic opera chamber piano sonata orchestra choral concerto neoclassical hymn",
    "cinematic": "orchestral soundtrack score film epic trailer movie game",
    "waltz": "3/4 musette",
    "blues": "delta boogie-woogie",
    "pop": "k-pop j-pop kpop jpop ballads chart power-pop",
}
_GENRE_OF = {word: genre for genre, words in _RELATED.items() for word in words.split()}


def nearest_genre(text: str) -> str:
    """Return the genre of the table that `text` names: "synthwave" → "electronic", "Indie Folk" → "folk"; else "pop".

    English puts the noun last ("folk rock" is rock), so the last genre or related word in the text decides.
    """
    words = re.findall(r"[^\s,;()]+", text.lower().replace("_", " "))
    spaced = f" {' '.join(words).replace('-', ' ')} "
    found = [(spaced.rindex(f" {genre} ") + len(genre), genre) for genre in GENRES if f" {genre} " in spaced]
    for word in words:
        for form in (word, word.replace("-", ""), *re.split(r"[-/]", word)):
            if form in _GENRE_OF:
                found.append((spaced.rindex(f" {word.replace('-', ' ')} ") + len(form), _GENRE_OF[form]))
                break
    if found:
        return max(found)[1]
    inside = [genre for genre in GENRES if genre.replace(" ", "") in "".join(words)]  # "indiefolk"
    return max(inside, key=len, default="pop")
