"""The arrangement: each instrument's role in the band, and how much it plays in each section.

Owns the roles (including which instrument has the melody when there is no lead) and the sections in which an instrument
rests, plays lightly or fully. The notes come from `melody.py`, `counterpoint.py`, `accompaniment.py`, `bass.py` and
`drums.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harmonia_lab.music.composing.context import SongContext
from harmonia_lab.music.composing.form import Section
from harmonia_lab.protocol.models import Instrument
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, Role

__all__ = ["Player", "activity_levels", "assign_roles"]


class Player(NamedTuple):
    """role: one of lead, chords, bass, drums and pad. role_index: number of players with that role before this one.

    has_melody: whether it plays the sung melody. without_bass: the band has no bass, so the first chord instrument adds
    a left hand.
    """

    name: str
    instrument: Instrument
    role: Role
    role_index: int
    has_melody: bool
    without_bass: bool


def assign_roles(instruments: Sequence[Instrument]) -> list[Player]:
    """Return one player for each instrument, in order, with names that are unique in the band ("piano", "piano 2").

    A drum kit always has the role drums, and nothing else has; the role "mix" stands for the instrument's usual one.
    """
    roles = [_band_role(instrument) for instrument in instruments]
    melodic = next((roles.index(role) for role in ("lead", "chords", "pad", "bass") if role in roles), None)
    names = [instrument.name for instrument in instruments]
    players = []
    for i, (instrument, role) in enumerate(zip(instruments, roles, strict=True)):
        copies = names[:i].count(instrument.name)
        name = f"{instrument.name} {copies + 1}" if copies else instrument.name
        players.append(Player(name, instrument, role, roles[:i].count(role), i == melodic, "bass" not in roles))
    return players


def _band_role(instrument: Instrument) -> Role:
    usual = INSTRUMENTS[instrument.name].role
    if usual == "drums" or instrument.role == "mix":
        return usual
    return "chords" if instrument.role == "drums" else instrument.role


_FIRST = {
    #         intro verse chorus bridge solo outro
    "lead":   (0, 2, 2, 2, 2, 0),
    "chords": (1, 1, 2, 1, 2, 1),
    "bass":   (0, 1, 2, 1, 2, 1),
    "drums":  (0, 1, 2, 0, 2, 1),
    "pad":    (1, 0, 2, 2, 1, 1),
}  # fmt: skip
"""Level of a role's first player by the section's kind, in the order of `_COLUMNS`; see `activity_levels`."""
_OTHERS = {
    "lead":   (0, 1, 1, 0, 2, 0),
    "chords": (0, 0, 2, 0, 1, 0),
    "bass":   (0, 0, 2, 0, 1, 0),
    "drums":  (0, 0, 2, 0, 1, 0),
    "pad":    (0, 0, 2, 1, 0, 1),
}  # fmt: skip
"""The same for further players of a role."""
_COLUMNS = ("intro", "verse", "chorus", "bridge", "solo", "outro")


def activity_levels(context: SongContext, players: Sequence[Player]) -> list[list[int]]:
    """Return a level for each player and section: 0 rest, 1 light, 2 full.

    Few play at first, all in choruses, fewer in the bridge; more in later verses than in the first. Every player plays
    somewhere before the last chord, and every section has harmony if an instrument can play it.
    """
    rng = context.rng("arranging")
    table = []
    for player in players:
        early = rng.random() < 0.45
        table.append(
            [_wanted(player, section, early=early, tag=context.feel.ending == "tag") for section in context.sections]
        )
    leads = [i for i, player in enumerate(players) if player.role == "lead"]
    for column, section in enumerate(context.sections):
        if section.kind == "solo" and len(leads) > 1:
            table[leads[0]][column] = 0
        _add_harmony(table, players, column, section)
    body = [i for i, section in enumerate(context.sections) if section.kind not in ("intro", "outro")]
    loudest = max(body or range(len(context.sections)), key=lambda i: context.sections[i].intensity)
    for row in table:
        if not any(row[i] for i in body):
            row[loudest] = 1
    return table


def _wanted(player: Player, section: Section, *, early: bool, tag: bool) -> int:
    table = _OTHERS if player.role_index else _FIRST
    level = table[player.role][_COLUMNS.index(section.kind)]
    later_verse = section.kind == "verse" and section.occurrence > 0 and player.role != "lead"
    sung = player.has_melody and section.has_words  # an intro or outro may have words
    early_roles = {"intro": ("bass", "drums", "lead"), "bridge": ("bass", "drums"), "outro": ("lead",)}
    enters_early = early and not player.role_index and player.role in early_roles.get(section.kind, ())
    repeats_hook = tag and section.kind == "outro" and player.has_melody
    return max(level, int(later_verse or sung or enters_early or repeats_hook))


def _add_harmony(table: list[list[int]], players: Sequence[Player], column: int, section: Section) -> None:
    """Raise levels until two pitched players play in the section (one in an intro); in a band of drums, all of them."""
    pitched = [i for i, player in enumerate(players) if player.role != "drums"]
    if not pitched:
        for row in table:
            row[column] = max(1, row[column])
    order = sorted(pitched, key=lambda i: ("chords", "pad", "bass", "lead").index(players[i].role))
    if section.kind in ("intro", "outro"):
        order = [i for i in order if players[i].role != "lead"] or order
    wanted = 1 if section.kind == "intro" else 2
    for i in order:
        if sum(table[j][column] > 0 for j in pitched) >= wanted:
            return
        table[i][column] = max(1, table[i][column])
