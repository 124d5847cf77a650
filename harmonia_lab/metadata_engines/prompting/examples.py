"""The prompt for small models: written examples of stories with mood, genre, title and song, and a story to continue.

Owns the examples, which we wrote, and the form of the prompt (not what is made of the answers: `labels.py`, `titles.py`,
`lyrics.py`). Each question continues the one before it, so that a server that keeps its cache reads a story once; the
examples are the same for every song, so that our own server keeps what it read of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harmonia_lab.metadata_engines.prompting.dialogue_types import ChatMessage

__all__ = ["EXAMPLES", "STATIC", "prompt"]


class Example(NamedTuple):
    """lines: of the song, in couplets."""

    story: str
    mood: str
    genre: str
    title: str
    lines: tuple[str, ...]


EXAMPLES = (
    Example(
        "A girl leaves her small town on a train at dawn and waves to her mother.",
        "bittersweet",
        "folk",
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
        "energetic",
        "rock",
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
        "calm",
        "ambient",
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
        "lonely",
        "blues",
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
        "triumphant",
        "pop",
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
        "tense",
        "electronic",
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
        "nostalgic",
        "jazz",
        "The Boy in the Photograph",
        (
            "He turns the pages one by one,",
            "A boy of seven in the sun.",
            "The old man smiles, his coffee's cold,",
            "That boy had no plan to grow old.",
        ),
    ),
)

_TASK = "Write the mood, the genre, the title and a short song of rhyming lines for each story."


def _written(example: Example) -> str:
    song = "\n".join(example.lines)
    head = f"Story: {example.story}\nMood: {example.mood}\nGenre: {example.genre}\nTitle: {example.title}\n"
    return f"{head}Song:\n{song}\n\n"


_START = "".join(map(_written, EXAMPLES)) + "Story:"

STATIC = len(_START)
"""Characters of the prompt's last message that are the same for every story."""


def prompt(story: str, known: Sequence[tuple[str, str]], head: str, begun: str = "") -> tuple[ChatMessage, ...]:
    """Return the messages whose continuation is the value of `head`: Mood, Genre, Title or Song.

    known: the heads before it with their values. begun: the beginning of the value.
    """
    lines = "".join(f"{name}: {value}\n" for name, value in known)
    return (ChatMessage("user", _TASK), ChatMessage("assistant", f"{_START} {story}\n{lines}{head}:{begun}"))
