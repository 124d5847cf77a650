"""Chord progressions by genre, in Roman numerals.

Owns the table. `composing/harmony.py` reads the numerals, chooses by seed, and refuses a choice that leaves the key
unclear.

Sources; progressions are common property, and the sources say which ones are common. Pop, rock, indie: T. de Clercq and
D. Temperley, "A corpus analysis of rock harmony", Popular Music 30/1 (2011); loops, Aeolian, Dorian and Mixolydian
shuttles, also of electronic music, house, hip hop and reggae: P. Tagg, "Everyday Tonality" (2009). Country: C.
Williams, "The Nashville Number System" (1988). Jazz, bossa nova: M. Levine, "The Jazz Theory Book" (1995): ii-V-I,
turnarounds with secondary dominants, the backdoor bVII. Blues: the eight- and twelve-bar forms with slow change, quick
change and jazz changes, also Levine. Classical, waltz: E. Aldwell and C. Schachter, "Harmony and Voice Leading":
cadential patterns, descending fifths, descending thirds, the Neapolitan. Metal: E. Lilja, "Theory and Analysis of
Classic Heavy Metal Harmony" (2009). Cinematic: F. Lehman, "Hollywood Harmony" (2018). Folk, soul, ambient: stock
material.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PROGRESSIONS", "Progressions"]


class Progressions(NamedTuple):
    """A genre's progressions for major and for minor keys, one chord for each half of a line.

    Upper case is a major chord, lower case a minor one, "°" a diminished one, "b" lowers the root. "|" parts the forms
    that one progression has for sections of different lengths (an eight-bar and a twelve-bar blues).
    """

    major: tuple[str, ...]
    minor: tuple[str, ...]


PROGRESSIONS: dict[str, Progressions] = {
    "pop": Progressions(
        ("I V vi IV", "I vi IV V", "vi IV I V", "I IV vi V", "IV V iii vi", "I iii IV V", "I V ii IV", "I vi ii V",
         "I IV ii V", "I iii vi IV"),
        ("i VI III VII", "i iv VI V", "i VII VI VII", "VI VII i i", "i III VII iv", "i VI iv V", "i v VI iv",
         "i III VI VII"),
    ),
    "rock": Progressions(
        ("I IV V IV", "I V IV I", "I V vi IV", "I IV I V", "I bVII IV I", "I vi IV V", "I ii IV V", "I iii IV V",
         "vi IV I V"),
        ("i VI VII i", "i VII VI VII", "i III VII iv", "i iv i V", "i VI III VII", "i VII iv i", "i IV VI V",
         "i III iv VI"),
    ),
    "folk": Progressions(
        ("I IV I V", "I V vi IV", "I vi IV V", "I iii IV V", "I IV V I", "I V IV I", "I bVII I V", "I IV ii V",
         "I vi ii V"),
        ("i VII VI VII", "i iv i V", "i III VII i", "i VI III VII", "i VII i V", "i IV i VII", "i v VI VII",
         "i VI iv V"),
    ),
    "country": Progressions(
        ("I IV V I", "I V IV I", "I IV I V", "I vi IV V", "I I IV V", "I IV II V", "I V vi IV", "I iii IV V",
         "I ii V I"),
        ("i iv V i", "i VII VI V", "i VI III VII", "i iv i V", "i III VII i", "i VI iv V", "i VII i V"),
    ),
    "jazz": Progressions(
        ("ii V I vi", "I vi ii V", "iii vi ii V", "ii V I I", "I VI ii V", "I II ii V", "ii V I IV", "IV iv I VI",
         "IV bVII I VI", "I ii V I", "I IV ii V", "I IV iii vi", "I bVII IV V"),
        ("ii° V i i", "i VI ii° V", "i iv VII III", "i iv ii° V", "i VII VI V", "iv VII III VI", "i i iv V",
         "i iv i V"),
    ),
    "blues": Progressions(
        ("I V IV IV I V I V | I IV I I IV IV I I V IV I V", "I I IV IV I V I V | I I I I IV IV I I V IV I V",
         "I V I I IV IV I V | I I IV I IV IV I I V IV I V", "I VI ii V I IV I V | I IV I I IV IV I VI ii V I V",
         "I IV I V IV IV I V | I I I I IV IV I I V V I V", "I I I I IV IV I V | I I I I IV IV I I ii V I V",
         "I IV I I IV I V I | I IV I I IV IV I I V IV I I"),
        ("i iv i i iv iv i V | i iv i i iv iv i i VI V i V", "i i i i iv iv i V | i i i i iv iv i i VI V i V",
         "i i iv iv i V i V | i i i i iv iv i i V iv i V", "i iv i V iv iv i V | i iv i i iv iv i V VI V i V",
         "i VI i i iv iv VI V | i VI i i iv iv i i ii° V i V", "i i VI V i iv i V | i iv i V iv iv i i VI V i V",
         "i iv VII III iv i V i | i i iv i iv iv i i V V i V",
         "i V i i iv i V i | i i i i iv iv i i V V i V", "i VI iv V i VI iv V | i i i i iv iv i i VI iv i V",
         "i iv i V i iv V i | i i iv i iv iv i i V iv i V"),
    ),
    "soul": Progressions(
        ("I vi ii V", "I IV ii V", "IV iii ii I", "I iii IV V", "ii V I IV", "I bVII IV V", "IV V I vi", "I ii IV V",
         "I vi IV V", "IV iv I V", "I IV I ii"),
        ("i iv VII III", "i VI iv V", "i iv i V", "i IV i IV", "i VII VI V", "i III iv V", "i iv VI V"),
    ),
    "electronic": Progressions(
        ("vi IV I V", "I V vi IV", "IV I V vi", "I iii vi IV", "I IV vi V", "I ii vi IV", "IV vi I V", "I vi IV V"),
        ("i VI III VII", "i VII VI VII", "VI VII i i", "i iv VI VII", "i v VI iv", "VI iv i VII", "i VI iv VII",
         "i III VI VII"),
    ),
    "house": Progressions(
        ("I vi IV V", "vi IV I V", "I ii IV V", "I IV ii V", "IV V iii vi", "I IV bVII IV", "vi ii V I", "I bVII IV V",
         "IV I ii V", "I IV iv V", "I IV I V"),
        ("i VI III VII", "i VII VI VII", "i iv VII VI", "i iv VI V", "VI VII i i", "i III VII iv", "i v VI VII",
         "VI v i VII"),
    ),
    "ambient": Progressions(
        ("I IV I vi", "I iii IV I", "IV I V vi", "I V IV IV", "I ii IV I", "I vi IV I", "I iii vi IV", "vi IV I I"),
        ("i VI III VII", "i iv VI i", "i VI i VII", "VI III i VII", "i III VI iv", "i v VI i", "i VII VI i",
         "iv VI i i"),
    ),
    "hip hop": Progressions(
        ("I vi IV V", "ii V I vi", "IV iv I VI", "I IV iii vi", "I ii IV V", "I bVII IV V", "IV I ii V", "I vi ii V",
         "I IV iv V", "I IV bVII IV", "vi ii V I"),
        ("i VI iv V", "i iv VI VII", "i VII VI V", "i VI i VII", "i VI III VII", "i iv i V", "VI V i i", "i III VI V"),
    ),
    "classical": Progressions(
        ("I IV V I", "I vi ii V", "I V vi iii", "IV I ii V", "I ii V I", "I vi IV V", "I II V I",
         "I V vi iii IV I ii V", "I iii IV V"),
        ("i iv V i", "i VI iv V", "i VII III VI", "i ii° V i", "i V i iv", "i VI ii° V", "i bII V i",
         "i iv VII III VI ii° V i"),
    ),
    "indie": Progressions(
        ("I IV vi V", "I iii vi IV", "IV I V vi", "I V IV IV", "I ii IV I", "I iii IV iv", "vi I IV V", "I bVII IV I",
         "I vi iii IV"),
        ("i III VII iv", "VI i VII VII", "i VI III VII", "i iv i VI", "i VII iv VI", "i v VI VII", "i III VI iv",
         "i IV VI VII"),
    ),
    "metal": Progressions(
        ("I V vi IV", "I IV V IV", "vi IV I V", "I bVII IV V", "I iii IV V", "I vi IV V", "I bVI bVII I", "I V IV V"),
        ("i VI VII i", "i VII VI V", "i VI III VII", "i iv VI V", "i bII i VII", "i VII VI VII", "i III VI VII",
         "i VI iv VII", "i iv VII III"),
    ),
    "bossa nova": Progressions(
        ("I vi ii V", "I IV ii V", "iii vi ii V", "I II ii V", "I VI ii V", "ii V I VI", "IV iv I VI", "ii V I IV",
         "I bVII IV V", "I ii V I", "I iv I V"),
        ("i iv ii° V", "i VI ii° V", "i iv VII III", "ii° V i i", "i VII VI V", "iv VII III VI", "i v iv V"),
    ),
    "reggae": Progressions(
        ("I IV I V", "I V vi IV", "I ii I ii", "I IV V IV", "I vi IV V", "I iii ii V", "I bVII IV I", "I ii IV V"),
        ("i iv i VII", "i VII VI VII", "i iv VI V", "i VI iv V", "i III VII iv", "i VI VII i", "i iv i V"),
    ),
    "waltz": Progressions(
        ("I V V I", "I vi ii V", "I IV V I", "vi ii V I", "I II V I", "I IV I V", "I iii IV V", "I ii V I",
         "IV I ii V", "vi IV ii V"),
        ("i iv V i", "i VI iv V", "i VII III V", "i V V i", "i iv VII III", "i VI ii° V", "i iv i V", "i bII V i"),
    ),
    "cinematic": Progressions(
        ("I V vi IV", "vi IV I V", "I iii IV V", "IV V vi I", "I bVII IV I", "I iii vi IV", "I bVI bVII I", "I iv I V"),
        ("i VI III VII", "i VI iv V", "i VII VI V", "i III VI VII", "i iv VI V", "i v VI VII", "VI VII i i",
         "i VI i VII"),
    ),
}  # fmt: skip
"""One row for each of `protocol.vocabulary.GENRES`."""
