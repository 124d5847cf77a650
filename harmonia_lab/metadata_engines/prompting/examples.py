"""The prompt for titles and lyrics: examples of stories with a song, and the story that gets one.

Owns the examples, which we wrote, and the form of the prompt (not what is made of the answers:
`lyrics.py`). The examples are the same for every song, so that our own server keeps what it read of them.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from harmonia_lab.metadata_engines.prompting.dialogue_types import ChatMessage

__all__ = ["EXAMPLES", "STATIC", "song_prompt"]


class Example(NamedTuple):
    """lines: of the song, in couplets."""

    story: str
    title: str
    lines: tuple[str, ...]


EXAMPLES = (
    Example(
        "A girl leaves her small town on a train at dawn and waves to her mother.",
        "Mother at the Gate",
        (
            "The train pulls out, the girl looks back,",
            "Her small town shrinks along the track.",
            "Her mother waves beside the gate,",
            "The dawn is cold, the train won't wait.",
        ),
    ),
    Example(
        "Benny and Rosa race their old cars along the coast road.",
        "Coast Road",
        (
            "Turn the key and hear it roar,",
            "Rosa's car is past the shore.",
            "Benny takes the corner wide,",
            "Old brakes burning, side by side.",
        ),
    ),
    Example(
        "A scientist in Antarctica listens to the ice at night.",
        "The Ice Is Singing",
        (
            "She sits alone and hears it crack,",
            "She hums, and the ice hums back.",
            "Her tent is warm, her tent is small,",
            "Antarctica sings through the wall.",
        ),
    ),
    Example(
        "A widow talks to the moon in a smoky bar.",
        "The Chair Where He Sat",
        (
            "She tells the moon about his hat,",
            "And shows it the chair where he sat.",
            "The smoke hangs low, the bar is slow,",
            "The widow has nowhere to go.",
        ),
    ),
    Example(
        "Sam's team wins the cup after eleven years of losing.",
        "Eleven Years",
        (
            "Eleven years we lost the game,",
            "And no one ever knew our name.",
            "Then Sam ran down and hit the ball,",
            "Now lift the cup and show them all.",
        ),
    ),
    Example(
        "Someone follows her home through the fog.",
        "Someone Behind",
        (
            "She hears the steps, she walks too fast,",
            "The shops are closed, the church is past.",
            "Her hands are cold, she finds the door,",
            "The fog stands still, the steps no more.",
        ),
    ),
    Example(
        "An old man looks at photographs of his youth.",
        "The Boy in the Photograph",
        (
            "He turns the pages one by one,",
            "A boy of seven in the sun.",
            "The old man smiles, his coffee's cold,",
            "That boy had no plan to grow old.",
        ),
    ),
)

_POET = "You are a poet who writes song lyrics."
_SONG_TASK = "Write a song about it in short rhyming lines."
_SONGS = (
    ChatMessage("system", _POET),
    *itertools.chain.from_iterable(
        (
            ChatMessage("user", f"Story: {one.story}\n\n{_SONG_TASK}"),
            ChatMessage("assistant", "\n".join((one.title, "", *one.lines))),
        )
        for one in EXAMPLES
    ),
)

STATIC = len("Story:")
"""Characters of the prompt's last message that are the same for every story."""


def song_prompt(story: str, begun: str = "") -> tuple[ChatMessage, ...]:
    """Return the messages whose answer is a title, an empty line, and lines. begun: the beginning of the answer."""
    asked = (*_SONGS, ChatMessage("user", f"Story: {story}\n\n{_SONG_TASK}"))
    return (*asked, ChatMessage("assistant", begun)) if begun else asked
