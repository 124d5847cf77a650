"""Genres: tempo, swing, patterns, chord progressions and instruments of each; and the genre that a text names.

Owns the table of the genres in `protocol.vocabulary.GENRES`, and `nearest_genre`. `progressions.py` has the chords,
`composing/` the notes of each pattern, `moods.py` the influence of moods.

Sources. Tempo ranges and swing follow common practice; we made the ranges a little narrower than handbooks do, so that
beat trackers agree with listeners. `progressions.py` and `composing/grooves.py` name their own sources.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from harmonia_lab.music.progressions import PROGRESSIONS, Progressions
from harmonia_lab.protocol.vocabulary import GENRES, Role

__all__ = ["GENRE_STYLES", "Ending", "GenreStyle", "nearest_genre"]

Ending = Literal["hold", "stop", "tag"]
"""hold: the last chord rings. stop: it is cut short. tag: the outro repeats the hook, softer and softer."""


class GenreStyle(NamedTuple):
    """tempo: slowest and fastest usual bpm. swing: 0 straight … 1 full triplets.

    grooves, comping, bass: names of patterns in `composing/grooves.py`, `comping.py` and `bass.py`, of which each song
    has one (of comping, a second one for contrast). instruments: by role, from the softest sound to the brightest; the
    empty name leaves the role out. fifths: usual key signatures as positions on the circle of fifths (0 = C major/A
    minor, +1 = one sharp). endings: those that songs of the genre have; a name that is there twice is twice as likely.
    syncopation: 0 the melody keeps to the beats … 1 it ignores them. pickups: share of themes that begin before the bar
    line. swing_grid: beats; every second position of this grid is delayed. sevenths: whether chords include their
    seventh. dominant_sevenths: every major chord has a minor seventh, as in the blues. power_chords: the first chord
    instrument plays roots and fifths, and VII takes the place of the dominant in minor, because power chords have no
    third that could be the raised leading tone. open_choruses: choruses end on the dominant instead of closing on the
    tonic. breaks: whether the band may stop for a bar. minor_bias: subtracted from a mood's valence when the mode is
    chosen; positive values favour minor.
    """

    tempo: tuple[int, int]
    swing: float
    grooves: tuple[str, ...]
    comping: tuple[str, ...]
    bass: tuple[str, ...]
    progressions: Progressions
    instruments: Mapping[Role, tuple[str, ...]]
    fifths: tuple[int, ...]
    endings: tuple[Ending, ...]
    syncopation: float = 0.4
    pickups: float = 0.65
    swing_grid: float = 0.5
    sevenths: bool = False
    dominant_sevenths: bool = False
    power_chords: bool = False
    beats_per_bar: int = 4
    open_choruses: bool = False
    breaks: bool = True
    minor_bias: float = 0.0


_GUITAR_KEYS = (-1, 0, 1, 2, 3, 4)
_HORN_KEYS = (-4, -3, -2, -1, 0, 1)
_ANY_KEYS = (-4, -3, -2, -1, 0, 1, 2, 3, 4)

GENRE_STYLES: dict[str, GenreStyle] = {
    "pop": GenreStyle(
        (88, 124), 0.0, ("pop", "pop stomp", "pop sixteenths", "pop push"), ("push", "pulse", "arpeggio"),
        ("syncopated", "eighths", "tresillo"), PROGRESSIONS["pop"],
        {"lead": ("flute", "clarinet", "synth lead", "saxophone"),
         "chords": ("piano", "electric piano", "acoustic guitar", "electric guitar"),
         "bass": ("bass guitar", "synth bass"), "drums": ("drums",), "pad": ("strings", "synth pad")},
        _ANY_KEYS, ("hold", "stop", "tag"), syncopation=0.5, pickups=0.65,
    ),
    "rock": GenreStyle(
        (104, 140), 0.0, ("rock", "rock driving", "rock four", "surf"), ("eighths", "push", "stabs"),
        ("eighths", "pulse", "syncopated"), PROGRESSIONS["rock"],
        {"lead": ("harmonica", "electric guitar", "saxophone"), "chords": ("electric guitar", "distorted guitar"),
         "bass": ("bass guitar",), "drums": ("drums",), "pad": ("organ",)},
        _GUITAR_KEYS, ("hold", "stop", "stop"), syncopation=0.4, pickups=0.6,
    ),
    "folk": GenreStyle(
        (80, 112), 0.0, ("train", "brush sixteenths", "two beat", "folk stomp"),
        ("fingerpick", "travis", "boom chick"), ("root fifth", "half notes", "pulse"), PROGRESSIONS["folk"],
        {"lead": ("flute", "violin", "pan flute", "harmonica"), "chords": ("nylon guitar", "acoustic guitar", "banjo"),
         "bass": ("double bass",), "drums": ("", "brush kit"), "pad": ("strings", "accordion")},
        _GUITAR_KEYS, ("hold", "hold", "tag"), syncopation=0.15, pickups=0.8,
    ),
    "country": GenreStyle(
        (92, 128), 0.25, ("train", "two beat", "country rock", "brush sixteenths"),
        ("boom chick", "travis", "push"), ("root fifth", "walking", "half notes"), PROGRESSIONS["country"],
        {"lead": ("harmonica", "violin", "electric guitar"), "chords": ("acoustic guitar", "banjo"),
         "bass": ("double bass", "bass guitar"), "drums": ("brush kit", "drums"), "pad": ("accordion",)},
        _GUITAR_KEYS, ("stop", "hold", "tag"), syncopation=0.2, pickups=0.8, minor_bias=-0.2,
    ),
    "jazz": GenreStyle(
        (96, 144), 0.85, ("swing", "two feel", "brush swing"), ("charleston", "stabs", "four in the bar"),
        ("walking", "half notes", "two feel"), PROGRESSIONS["jazz"],
        {"lead": ("clarinet", "saxophone", "trumpet"), "chords": ("piano", "electric piano"), "bass": ("double bass",),
         "drums": ("brush kit", "drums"), "pad": ("", "vibraphone")},
        _HORN_KEYS, ("tag", "hold", "stop"), syncopation=0.7, pickups=0.65, sevenths=True,
    ),
    "blues": GenreStyle(
        (80, 116), 0.9, ("shuffle", "texas shuffle", "slow blues"), ("shuffle", "stabs", "four in the bar"),
        ("boogie", "walking", "pulse"), PROGRESSIONS["blues"],
        {"lead": ("harmonica", "clarinet", "saxophone", "electric guitar"), "chords": ("piano", "electric guitar"),
         "bass": ("double bass", "bass guitar"), "drums": ("drums",), "pad": ("organ",)},
        _GUITAR_KEYS, ("stop", "hold", "tag"), syncopation=0.4, pickups=0.65, sevenths=True, dominant_sevenths=True,
    ),
    "soul": GenreStyle(
        (76, 112), 0.2, ("soul", "motown", "funk"), ("push", "stabs", "pulse"),
        ("syncopated", "octaves", "tresillo"), PROGRESSIONS["soul"],
        {"lead": ("flute", "saxophone", "trumpet"), "chords": ("electric piano", "piano"), "bass": ("bass guitar",),
         "drums": ("drums",), "pad": ("organ", "brass")},
        _HORN_KEYS, ("tag", "hold", "stop"), syncopation=0.7, pickups=0.55, swing_grid=0.25, sevenths=True,
    ),
    "electronic": GenreStyle(
        (96, 128), 0.0, ("electro", "synth pop", "electro break"), ("arpeggio", "pulse", "tresillo"),
        ("eighths", "octaves", "tresillo"), PROGRESSIONS["electronic"],
        {"lead": ("vibraphone", "flute", "synth lead"), "chords": ("electric piano", "synth lead"),
         "bass": ("synth bass",), "drums": ("drum machine",), "pad": ("synth pad", "strings")},
        _ANY_KEYS, ("hold", "stop", "tag"), syncopation=0.5, pickups=0.5, open_choruses=True, minor_bias=0.15,
    ),
    "house": GenreStyle(
        (118, 128), 0.0, ("house", "deep house", "disco"), ("offbeat", "tresillo", "stabs"),
        ("offbeat", "octaves", "tresillo"), PROGRESSIONS["house"],
        {"lead": ("flute", "synth lead", "saxophone"), "chords": ("electric piano", "piano"), "bass": ("synth bass",),
         "drums": ("drum machine",), "pad": ("synth pad", "strings")},
        _ANY_KEYS, ("stop", "hold", "tag"), syncopation=0.6, pickups=0.5, open_choruses=True, sevenths=True,
        minor_bias=0.15,
    ),
    "ambient": GenreStyle(
        (60, 80), 0.0, ("none",), ("broken", "fingerpick", "arpeggio"), ("long", "half notes"), PROGRESSIONS["ambient"],
        {"lead": ("kalimba", "music box", "vibraphone", "flute"), "chords": ("harp", "piano"),
         "bass": ("cello", "synth bass"), "drums": ("",), "pad": ("synth pad", "choir")},
        _ANY_KEYS, ("hold", "tag"), syncopation=0.0, pickups=0.4, open_choruses=True, breaks=False,
    ),
    "hip hop": GenreStyle(
        (78, 96), 0.35, ("boom bap", "lo-fi", "trap"), ("stabs", "push", "arpeggio"),
        ("syncopated", "long", "tresillo"), PROGRESSIONS["hip hop"],
        {"lead": ("flute", "vibraphone", "trumpet", "synth lead"), "chords": ("electric piano", "piano"),
         "bass": ("bass guitar", "synth bass"), "drums": ("drum machine",), "pad": ("strings", "synth pad")},
        _ANY_KEYS, ("stop", "tag", "hold"), syncopation=0.8, pickups=0.65, open_choruses=True, swing_grid=0.25,
        sevenths=True, minor_bias=0.2,
    ),
    "classical": GenreStyle(
        (72, 116), 0.0, ("none",), ("alberti", "broken", "pulse"), ("half notes", "pulse", "long"),
        PROGRESSIONS["classical"],
        {"lead": ("oboe", "clarinet", "flute", "violin"), "chords": ("harp", "piano", "harpsichord"),
         "bass": ("cello",), "drums": ("",), "pad": ("strings", "french horn")},
        _ANY_KEYS, ("hold", "stop"), syncopation=0.0, pickups=0.65, breaks=False,
    ),
    "indie": GenreStyle(
        (92, 132), 0.0, ("indie", "indie toms", "indie disco", "motorik"), ("arpeggio", "eighths", "pulse"),
        ("eighths", "pulse", "syncopated"), PROGRESSIONS["indie"],
        {"lead": ("kalimba", "electric guitar", "synth lead"), "chords": ("acoustic guitar", "electric guitar"),
         "bass": ("bass guitar",), "drums": ("drums",), "pad": ("synth pad", "organ")},
        _GUITAR_KEYS, ("hold", "stop", "tag"), syncopation=0.5, pickups=0.65,
    ),
    "metal": GenreStyle(
        (112, 152), 0.0, ("metal", "thrash", "double bass", "d-beat"), ("power", "gallop", "chug"),
        ("eighths", "gallop", "pulse"), PROGRESSIONS["metal"],
        {"lead": ("violin", "electric guitar"), "chords": ("distorted guitar",), "bass": ("bass guitar",),
         "drums": ("drums",), "pad": ("choir", "strings")},
        (-1, 0, 1, 2, 3), ("stop", "hold", "stop"), syncopation=0.3, pickups=0.5, power_chords=True, minor_bias=0.5,
    ),
    "bossa nova": GenreStyle(
        (108, 136), 0.0, ("bossa", "bossa clave", "samba"), ("bossa", "bossa partido", "push"),
        ("bossa", "root fifth", "half notes"), PROGRESSIONS["bossa nova"],
        {"lead": ("flute", "clarinet", "saxophone"), "chords": ("nylon guitar",),
         "bass": ("double bass", "bass guitar"), "drums": ("brush kit", "drums"), "pad": ("", "strings")},
        _HORN_KEYS, ("tag", "hold", "stop"), syncopation=0.6, pickups=0.65, sevenths=True,
    ),
    "reggae": GenreStyle(
        (72, 92), 0.15, ("one drop", "rockers", "steppers"), ("skank", "skank bubble", "skank double"),
        ("reggae", "tresillo", "roots"), PROGRESSIONS["reggae"],
        {"lead": ("trumpet", "saxophone", "harmonica"), "chords": ("electric piano", "electric guitar"),
         "bass": ("bass guitar",), "drums": ("drums",), "pad": ("organ",)},
        _GUITAR_KEYS, ("tag", "hold", "stop"), syncopation=0.6, pickups=0.6, open_choruses=True, swing_grid=0.25,
        minor_bias=-0.1,
    ),
    "waltz": GenreStyle(
        (96, 144), 0.0, ("waltz", "jazz waltz", "country waltz"), ("oom pah", "waltz arpeggio", "waltz lilt"),
        ("downbeat", "waltz walk"), PROGRESSIONS["waltz"],
        {"lead": ("oboe", "clarinet", "flute", "violin"), "chords": ("harp", "piano", "accordion"),
         "bass": ("cello", "double bass"), "drums": ("", "brush kit"), "pad": ("strings",)},
        _ANY_KEYS, ("hold", "stop", "tag"), syncopation=0.0, pickups=0.75, beats_per_bar=3,
    ),
    "cinematic": GenreStyle(
        (80, 120), 0.0, ("epic", "march", "taiko"), ("ostinato", "pulse", "broken"), ("long", "pulse", "half notes"),
        PROGRESSIONS["cinematic"],
        {"lead": ("cello", "french horn", "violin", "trumpet"), "chords": ("harp", "piano", "strings"),
         "bass": ("cello", "double bass"), "drums": ("", "drums"), "pad": ("strings", "choir", "brass")},
        _ANY_KEYS, ("hold", "stop", "hold"), syncopation=0.1, pickups=0.55, minor_bias=0.15,
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
