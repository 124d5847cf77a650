"""Who plays when: each instrument's task and how much it does in each section.

Owns the roles inside the band (who sings the tune when there is no lead, who fills, who doubles) and the entering and
leaving of instruments over the form. What they then play is in the players' modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.ranges import is_kit
from harmonia_lab.music.composing.setting import Setting
from harmonia_lab.protocol.models import Instrument
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, Role

__all__ = ["Player", "enlist", "levels"]


class Player(NamedTuple):
    """role: what it really plays. nth: how many players of that role come before it. sings: it carries the tune.

    alone: nobody else plays below, so chords get a left hand.
    """

    name: str
    instrument: Instrument
    role: Role
    nth: int
    sings: bool
    alone: bool


def enlist(instruments: Sequence[Instrument]) -> list[Player]:
    """One player an instrument, in their order, with names that are unique in the band ("piano", "piano 2").

    A kit always plays drums, and only a kit does; the role "mix" stands for the instrument's usual one.
    """
    roles = [_real_role(instrument) for instrument in instruments]
    singer = next((roles.index(role) for role in ("lead", "chords", "pad", "bass") if role in roles), None)
    names = [instrument.name for instrument in instruments]
    players = []
    for i, (instrument, role) in enumerate(zip(instruments, roles, strict=True)):
        copies = names[:i].count(instrument.name)
        name = f"{instrument.name} {copies + 1}" if copies else instrument.name
        players.append(Player(name, instrument, role, roles[:i].count(role), i == singer, "bass" not in roles))
    return players


def _real_role(instrument: Instrument) -> Role:
    usual = INSTRUMENTS[instrument.name].role
    if is_kit(instrument.name):
        return "drums"
    if instrument.role == "drums":
        return "chords"
    return usual if instrument.role == "mix" else instrument.role


_FIRST = {
    #         intro verse chorus bridge solo outro
    "lead":   (0, 2, 2, 2, 2, 0),
    "chords": (1, 1, 2, 1, 2, 1),
    "bass":   (0, 1, 2, 1, 2, 1),
    "drums":  (0, 1, 2, 0, 2, 1),
    "pad":    (1, 0, 2, 2, 1, 1),
}  # fmt: skip
_OTHERS = {
    "lead":   (0, 1, 1, 0, 2, 0),
    "chords": (0, 0, 2, 0, 1, 0),
    "bass":   (0, 0, 2, 0, 1, 0),
    "drums":  (0, 0, 2, 0, 1, 0),
    "pad":    (0, 0, 2, 1, 0, 1),
}  # fmt: skip
_COLUMNS = ("intro", "verse", "chorus", "bridge", "solo", "outro")


def levels(setting: Setting, players: Sequence[Player]) -> list[list[int]]:
    """For each player and section: 0 rests, 1 plays lightly, 2 plays fully.

    The band is thin at first, whole in choruses, thinner in the bridge; second verses have more than first ones. Every
    player plays somewhere before the last chord, and no section is left without harmony where somebody could play it.
    """
    dice = setting.dice("arranging")
    wakes_early = {player.name: dice.random() < 0.45 for player in players}
    plan = [
        [_wanted(player, section, early=wakes_early[player.name]) for section in setting.sections] for player in players
    ]
    leads = [i for i, player in enumerate(players) if player.role == "lead"]
    for column, section in enumerate(setting.sections):
        if section.kind == "solo" and len(leads) > 1:
            plan[leads[0]][column] = 0
        _fill(plan, players, column, section)
    body = [i for i, section in enumerate(setting.sections) if section.kind not in ("intro", "outro")]
    loudest = max(body or range(len(setting.sections)), key=lambda i: setting.sections[i].intensity)
    for row in plan:
        if not any(row[i] for i in body):
            row[loudest] = 1
    return plan


def _wanted(player: Player, section: Section, *, early: bool) -> int:
    table = _OTHERS if player.nth else _FIRST
    level = table[player.role][_COLUMNS.index(section.kind)]
    if player.sings and section.has_words:
        return max(level, 1)  # an intro or outro may have words
    if section.kind == "verse" and section.occurrence and player.role != "lead":
        return max(level, 1)
    wakes = {"intro": ("bass", "drums", "lead"), "bridge": ("bass", "drums"), "outro": ("lead",)}
    if level == 0 and early and not player.nth and player.role in wakes.get(section.kind, ()):
        return 1
    return level


def _fill(plan: list[list[int]], players: Sequence[Player], column: int, section: Section) -> None:
    """A section needs harmony, and two pitched players where there are two; drums alone play all of it."""
    pitched = [i for i, player in enumerate(players) if player.role != "drums"]
    if not pitched:
        for row in plan:
            row[column] = max(1, row[column])
    order = sorted(pitched, key=lambda i: (("chords", "pad", "bass", "lead").index(players[i].role), players[i].nth))
    if section.kind in ("intro", "outro"):
        order = [i for i in order if players[i].role != "lead"] or order
    wanted = 1 if section.kind == "intro" else 2
    for i in order:
        if sum(plan[j][column] > 0 for j in pitched) >= wanted:
            return
        plan[i][column] = max(1, plan[i][column])
