"""Drum grooves: the patterns of a kit, light and full, by name.

Owns the table (`GenreStyle.grooves` names its rows); `drums.py` plays them.

Sources: M. Berry and J. Gianni, "The Drummer's Bible: How to Play Every Drum Style from Afro-Cuban to Zydeco" (2nd ed.
2012) for rock, country, soul, reggae, bossa nova and waltz; J. Riley, "The Art of Bop Drumming" (1994) for jazz; R.-P.
Bardet, "260 Drum Machine Patterns" (1987) for pop and electronic music. They name the figures (train beat, one drop,
steppers, four on the floor, Motown, …); the light forms and the ghost notes are ours. Motorik is Klaus Dinger's beat
(Neu!, 1972), d-beat the one that punk and metal have from Discharge (1982).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["GROOVES", "LIFTS", "Groove", "Pattern"]

Pattern = Mapping[str, str]
"""Drum → sixteenths of one bar, or of several bars that follow each other.

X accent, x normal, o soft, g ghost note (each is played with probability 0.45), . rest. A pattern has as many
sixteenths as its bar, or a multiple.
"""


class Groove(NamedTuple):
    """light, full: for verses and for choruses. quiet: crash and fills are softer. fills: whether it has fills."""

    light: Pattern
    full: Pattern
    quiet: bool = False
    fills: bool = True


GROOVES: dict[str, Groove] = {
    # Pop
    "pop": Groove(
        {"kick": "x.......x.x.....", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....x.x.x.....", "snare": "....X..g.g..X..g", "hat": "x.o.x.o.x.o.x...",
         "open": "..............x."},
    ),
    "pop stomp": Groove(
        {"kick": "x...x...x...x...", "stick": "....x.......x...", "shaker": "o.x.o.x.o.x.o.x."},
        {"kick": "X...X...X...X...", "snare": "....X.......X..g", "hat": "..x...x...x...x.",
         "clap": "....o.......o..."},
    ),
    "pop sixteenths": Groove(
        {"kick": "x.....x...x.....", "stick": "....x.......x...", "hat": "xoooxoooxoooxooo"},
        {"kick": "X.....X...X.....", "snare": "....X.......X.g.", "hat": "xoxoxoxoxoxoxoxo",
         "tambourine": "....x.......x..."},
    ),
    "pop push": Groove(
        {"kick": "x..x..x.........", "stick": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X..x..X...x.....", "snare": "....X..g....X...", "hat": "x.x.x.x.x.x.x.x.",
         "open": "......o........."},
    ),
    # Rock
    "rock": Groove(
        {"kick": "X.......x.x.....", "snare": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....x.X.x.....", "snare": "....X..g....X..g", "ride": "X.x.X.x.X.x.X.x."},
    ),
    "rock driving": Groove(
        {"kick": "X.x.....X.......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X.x...x.X.x...x.", "snare": "....X.......X...", "open": "X...X...X...X..."},
    ),
    "rock four": Groove(
        {"kick": "x...x...x...x...", "snare": "....x.......x...", "hat": "x...x...x...x..."},
        {"kick": "X...X...X...X...", "snare": "....X..g....X.x.", "ride": "X...X...X...X...",
         "tambourine": "..o...o...o...o."},
    ),
    "surf": Groove(
        {"kick": "x.......x.x.....", "snare": "....x.x.....x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.......X.X.....", "snare": "....X.x.....X...", "ride": "X.x.X.x.X.x.X.x."},
    ),
    # Folk and country
    "train": Groove(
        {"kick": "x.......x.......", "snare": "o.o.x.o.o.o.x.o."},
        {"kick": "X.......X.......", "snare": "ogoox.oogogox.oo", "hat": "....x.......x...",
         "tambourine": "....o.......o..."},
        quiet=True,
    ),
    "two beat": Groove(
        {"kick": "x.......x.......", "stick": "....x.......x..."},
        {"kick": "X.......X.......", "snare": "....x.......x.o.", "hat": "x.o.x.o.x.o.x.o."},
        quiet=True,
    ),
    "brush sixteenths": Groove(
        {"kick": "x.....o.x.......", "snare": "o.oox.ooo.oox.oo"},
        {"kick": "X.....o.X.....o.", "snare": "ooooxoooooooxooo", "pedal": "....x.......x..."},
        quiet=True,
    ),
    "folk stomp": Groove(
        {"kick": "x.......x.......", "tambourine": "....x.......x..."},
        {"kick": "X...x...X...x...", "tambourine": "..o.X.o...o.X.o.", "snare": "....x.......x..."},
    ),
    "country rock": Groove(
        {"kick": "x.......x.......", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "x.o.x.o.x.o.x.o.",
         "open": "..............o."},
    ),
    # Jazz and blues
    "swing": Groove(
        {"kick": "o.......o.......", "ride": "x...x.o.x...x.o.", "pedal": "....x.......x..."},
        {"kick": "o...o...o...o...", "ride": "X...X.x.X...X.x.", "pedal": "....x.......x...",
         "snare": "......g...g...g."},
        quiet=True,
    ),
    "two feel": Groove(
        {"kick": "o.......o.......", "hat": "x...o.x.x...o.x.", "stick": "............o..."},
        {"kick": "x.......x.......", "ride": "X...X.x.X...X.x.", "pedal": "....x.......x...",
         "stick": "............x..."},
        quiet=True,
    ),
    "brush swing": Groove(
        {"snare": "x...o.o.x...o.o.", "pedal": "....x.......x..."},
        {"snare": "x...o.o.x...x.o.", "ride": "x...x.o.x...x.o.", "pedal": "....x.......x...",
         "kick": "o...o...o...o..."},
        quiet=True,
    ),
    "shuffle": Groove(
        {"kick": "x.......x.......", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.......X.x.....", "snare": "..g.X.g...g.X.g.", "ride": "X.x.X.x.X.x.X.x."},
    ),
    "texas shuffle": Groove(
        {"kick": "x...x...x...x...", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X...X...X...X...", "snare": "o.o.X.o.o.o.X.o.", "hat": "x.x.x.x.x.x.x.x."},
    ),
    "slow blues": Groove(
        {"kick": "x.....o.x.......", "stick": "....x.......x...", "ride": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....x.X.....x.", "snare": "....X.......X.g.", "ride": "X.o.X.o.X.o.X.o.",
         "pedal": "....x.......x..."},
    ),
    # Soul
    "soul": Groove(
        {"kick": "x.......x.x.....", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....g.x.x..g..", "snare": "....X..g.g..X..g", "hat": "x.oox.oox.oox.oo",
         "tambourine": "....x.......x..."},
    ),
    "motown": Groove(
        {"kick": "x.....x.x.....x.", "snare": "o...o...o...o...", "tambourine": "....x.......x..."},
        {"kick": "X.....x.X.....x.", "snare": "X...X...X...X...", "hat": "x.o.x.o.x.o.x.o.",
         "tambourine": "..o.X.o...o.X.o."},
    ),
    "funk": Groove(
        {"kick": "x.....x...x.....", "snare": "....x..g.g..x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.x...x...x..x..", "snare": "....X..g.g.gX..g", "hat": "xoxoxoxoxoxoxo..",
         "open": "..............x."},
    ),
    # Electronic music
    "electro": Groove(
        {"kick": "X.......X.......", "clap": "....x.......x...", "hat": "..x...x...x...x."},
        {"kick": "X...X...X...X...", "clap": "....X.......X...", "hat": "x.oox.oox.oox.oo", "open": "..x...x...x...x."},
    ),
    "synth pop": Groove(
        {"kick": "X.......X.......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X.......X.X.....", "snare": "....X.......X...", "hat": "xoxoxoxoxoxoxoxo", "tom": "..............x."},
    ),
    "electro break": Groove(
        {"kick": "X.....x.........", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X.....X...X.....", "snare": "....X.......X..g", "hat": "xoxxxoxoxoxxxoxo",
         "clap": "....o.......o..."},
    ),
    "house": Groove(
        {"kick": "X...X...X...X...", "hat": "..x...x...x...x.", "shaker": "o.o.o.o.o.o.o.o."},
        {"kick": "X...X...X...X...", "clap": "....X.......X...", "open": "..x...x...x...x.",
         "shaker": "ooxoooxoooxoooxo"},
    ),
    "deep house": Groove(
        {"kick": "X...X...X...X...", "hat": "..x...x...x..ox.", "stick": "...o......o....."},
        {"kick": "X...X...X...X...", "clap": "....x.......x...", "open": "..x...x...x...x.",
         "stick": "...x..x...x..x..",
         "hat": "oo.ooo.ooo.ooo.o"},
    ),
    "disco": Groove(
        {"kick": "X...X...X...X...", "stick": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X...X...X...X...", "snare": "....X.......X...", "open": "..X...X...X...X.", "hat": "x.o.x.o.x.o.x.o.",
         "tambourine": "....o.......o..."},
    ),
    "none": Groove(
        {"kick": "o...............", "ride": "o...o...o...o..."},
        {"kick": "x.......o.......", "ride": "x...x...x...x...", "stick": "....o.......o..."},
        quiet=True,
        fills=False,
    ),
    # Hip hop
    "boom bap": Groove(
        {"kick": "X.........x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X......x..x.....", "snare": "....X..g.g..X...", "hat": "x.x.x.xox.x.x.x.",
         "open": "..............g."},
    ),
    "lo-fi": Groove(
        {"kick": "X..x............", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X..x....x.x.....", "snare": "....x.......x..g", "hat": "x.o.x.oox.o.x.o.",
         "shaker": "o.o.o.o.o.o.o.o."},
    ),
    "trap": Groove(
        {"kick": "X.....x.........", "clap": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X.....x...x..x..", "clap": "....X.......X...", "hat": "xoxoxoxoxoxoxooo", "open": "......o........."},
    ),
    # Indie
    "indie": Groove(
        {"kick": "X.......x.......", "snare": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....x.X.....g.", "snare": "....X.......X..g", "ride": "X.x.X.x.X.x.X.x.",
         "floor tom": "..........g....."},
    ),
    "indie toms": Groove(
        {"kick": "x...x...x...x...", "floor tom": "..x...x...x...x.", "stick": "....x.......x..."},
        {"kick": "X...X...X...X...", "floor tom": "..x...x...x.x.x.", "snare": "....X.......X...",
         "tambourine": "....x.......x..."},
    ),
    "indie disco": Groove(
        {"kick": "X...X...X...X...", "snare": "....x.......x...", "hat": "..x...x...x...x."},
        {"kick": "X...X...X...X...", "snare": "....X.......X..g", "hat": "xo.oxo.oxo.oxo.o",
         "open": "..x...x...x...x."},
    ),
    "motorik": Groove(
        {"kick": "X.......X.......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X.x...x.X.x...x.", "snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
    ),
    # Metal
    "metal": Groove(
        {"kick": "X.x.....X.x.....", "snare": "....X.......X...", "hat": "X...X...X...X..."},
        {"kick": "X.xxX.xxX.xxX.xx", "snare": "....X.......X...", "ride": "X...X...X...X..."},
    ),
    "thrash": Groove(
        {"kick": "X...X...X...X...", "snare": "..x...x...x...x.", "hat": "X.x.X.x.X.x.X.x."},
        {"kick": "X...X...X...X...", "snare": "..X...X...X...X.", "ride": "X.x.X.x.X.x.X.x."},
    ),
    "double bass": Groove(
        {"kick": "X.x.X.x.X.x.X.x.", "snare": "....X.......X...", "hat": "X...X...X...X..."},
        {"kick": "XxxxXxxxXxxxXxxx", "snare": "....X.......X...", "bell": "X.x.X.x.X.x.X.x."},
    ),
    "d-beat": Groove(
        {"kick": "X.....x...x.....", "snare": "....X.......X...", "hat": "X...X...X...X..."},
        {"kick": "X.....X...X.....", "snare": "....X.......X...", "ride": "X.x.X.x.X.x.X.x."},
    ),
    # Bossa nova
    "bossa": Groove(
        {"kick": "x...o...x...o...", "hat": "X.o.X.o.X.o.X.o.", "pedal": "....x.......x..."},
        {"kick": "x...o.o.x...o.o.", "stick": "x.....o.....x.......x.....o.....", "hat": "X.o.X.o.X.o.X.o.",
         "pedal": "....x.......x..."},
        quiet=True,
    ),
    "bossa clave": Groove(
        {"kick": "x.....o.x.....o.", "stick": "x.....x.....x.......x.....x.....", "shaker": "x.o.x.o.x.o.x.o."},
        {"kick": "x.....x.x.....x.", "stick": "x.....x.....x.......x.....x.....", "shaker": "xoxoxoxoxoxoxoxo",
         "pedal": "....x.......x..."},
        quiet=True,
    ),
    "samba": Groove(
        {"kick": "x.....o.x.....o.", "hat": "x.oox.oox.oox.oo", "stick": "....o..o....o..."},
        {"kick": "x.....o.X.....o.", "shaker": "xooxxooxxooxxoox", "stick": "x..x..x.x..x..x.",
         "pedal": "....x.......x..."},
        quiet=True,
    ),
    # Reggae
    "one drop": Groove(
        {"kick": "........X.......", "stick": "........x.......", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X...X...X...X...", "snare": "....o...X...o..g", "hat": "x.oox.oox.oox.oo"},
    ),
    "rockers": Groove(
        {"kick": "x...o...X...o...", "stick": "........x.......", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X..oX...X..oX.o.", "stick": "........X.....o.", "hat": "x.o.x.o.x.o.x...",
         "open": "..............o."},
    ),
    "steppers": Groove(
        {"kick": "X...X...X...X...", "stick": "......x.....x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X...X...X...X...", "snare": "....o...X...o...", "stick": "..x...x...x..x..",
         "hat": "..x...x...x...x."},
    ),
    # Waltz: three beats
    "waltz": Groove(
        {"kick": "x...........", "ride": "x...o...o...", "pedal": "....o...o..."},
        {"kick": "X...........", "snare": "....o...o.g.", "ride": "X...x...x.o."},
        quiet=True,
    ),
    "jazz waltz": Groove(
        {"kick": "x...........", "ride": "x...x.o.x...", "pedal": "....x......."},
        {"kick": "X.......o...", "ride": "X...x.o.x.o.", "pedal": "....x...x...", "snare": "......g....."},
        quiet=True,
    ),
    "country waltz": Groove(
        {"kick": "x...........", "stick": "....x...x...", "hat": "x...o...o..."},
        {"kick": "X...........", "snare": "....x...x...", "hat": "x.o.x.o.x.o."},
        quiet=True,
    ),
    # Cinematic
    "epic": Groove(
        {"low tom": "X.......x.......", "kick": "x..............."},
        {"low tom": "X.....x.x...x.x.", "floor tom": "....x..x....x..x", "kick": "X.......X.......",
         "snare": "o.ooo.ooo.ooo.oo"},
    ),
    "march": Groove(
        {"kick": "x.......x.......", "snare": "o...x.o.o...x.oo"},
        {"kick": "X.......X.......", "snare": "X.ooX.o.X.ooX.oo", "low tom": "X.......x......."},
    ),
    "taiko": Groove(
        {"low tom": "X.....x...x.....", "floor tom": "............x..."},
        {"low tom": "X.....X...X...x.", "floor tom": "..x.x...x...x.x.", "kick": "X...x...X...x..."},
    ),
    # A second kit in any genre of four beats
    "second kit": Groove(
        {"shaker": "x.o.x.o.x.o.x.o.", "low conga": "......x.......x."},
        {"shaker": "x.oox.oox.oox.oo", "tambourine": "....X.......X...", "high conga": "...x..x....x..x.",
         "low conga": "..............x."},
    ),
}  # fmt: skip

LIFTS: tuple[Pattern, ...] = (
    {"tambourine": "x.o.X.o.x.o.X.o."}, {"shaker": "xoxoxoxoxoxoxoxo"}, {"bell": "x...x...x...x..."},
)  # fmt: skip
"""Added to a groove of four beats where a section returns: one for each song."""
