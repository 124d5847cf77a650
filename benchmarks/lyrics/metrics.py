"""What is measured in a song's words: rhyme, syllables, the story's words and names, stock phrases, broken titles.

Owns the metrics, as pure functions of a song and its narrative, and the lists that they use. How songs are made is in
`writer.py`, how metrics become a table in `table.py`.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from harmonia_lab.metadata_engines.prompting.words import FUNCTION_WORDS, content_stems, plain, word_set
from harmonia_lab.syllables import count_syllables, in_dictionary, rhyme, words_of

__all__ = [
    "STOCK_OPENINGS", "Couplet", "couplets", "is_english", "is_stock", "line_syllables", "names_in", "names_of",
    "opening", "rhyme_kind", "shared_lines", "story_share", "syllable_difference", "title_faults", "unsung",
]  # fmt: skip

Couplet = tuple[str, str]

STOCK_OPENINGS = (
    "in the heart of", "in the stillness of", "in the quiet of", "in the silence of", "in the depths of",
    "in the midst of", "in the realm of", "in the land of", "in the shadows of", "in the shadow of", "in the glow of",
    "in the hush of", "in the embrace of", "in the twilight", "in twilight's", "in shadows", "in dreams", "in a world",
    "in this world", "in a land", "in a realm", "in every heart", "in the night", "in the moonlight", "in moonlight",
    "beneath the moon", "beneath the stars", "under the moon", "under the stars", "beneath the starry",
    "under the starry", "through the night", "through the shadows", "through the storm", "through the darkness",
    "as the sun sets", "as the night falls", "as night falls", "as the moon rises", "as the world", "amidst the",
    "amid the", "whispers of", "echoes of", "a tale of", "a story of", "a symphony of", "a tapestry of", "once upon a",
    "with every step", "with every breath", "with every beat", "with each step", "with each breath", "where dreams",
    "where shadows", "where whispers", "lost in the", "oh, the", "the world is", "the stars above", "and in the end",
)  # fmt: skip
"""Openings that small models write about any story, lower case. From reading, not from the songs that are measured:
`table.py` also counts openings that several songs of one run share, which no list can miss."""

_NOT_NAMES = word_set("""
    january february march april may june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday english french german spanish italian american british christmas easter god mr mrs
    ms dr st happy dear mum mom mama dad papa grandma grandpa tv dj edm usa uk eu
""")
"""Capitalised words that a song about the story need not sing."""

_VERBS = word_set("was is had has grew went came took got found lived loves loved turns turned said says lost knew met")

_ORDINAL_ENDINGS = frozenset({"s", "st", "nd", "rd", "th", "bpm", "am", "pm", "km", "kg"})
"""What is left of "80s", "1st" or "5pm" where the figures are taken out."""

_LONE_LETTERS = frozenset({"a", "i", "o"})


def is_english(text: str) -> bool:
    """Return whether the dictionary has at least two thirds of the words, and there are any."""
    words = words_of(text)
    return bool(words) and sum(map(in_dictionary, words)) >= 2 / 3 * len(words)


def couplets(sections: Iterable[Sequence[str]]) -> list[Couplet]:
    """Return lines 1 and 2, 3 and 4, … of each section; equal ones, as of a repeated chorus, once."""
    found = [pair for lines in sections for pair in zip(lines[::2], lines[1::2], strict=False)]
    return list(dict.fromkeys(found))


def rhyme_kind(couplet: Couplet) -> str:
    """Return "perfect", "near" or "none" for the couplet's last words. A word does not rhyme with itself."""
    first, second = (words_of(line)[-1:] for line in couplet)
    value = rhyme(first[0], second[0]) if first and second else 0.0
    return "perfect" if value >= 1 else "near" if value > 0 else "none"


def line_syllables(line: str) -> int:
    return sum(map(count_syllables, words_of(line)))


def syllable_difference(couplet: Couplet) -> int:
    """Return the difference between the two lines' numbers of syllables, 0 or more."""
    return abs(line_syllables(couplet[0]) - line_syllables(couplet[1]))


def story_share(lines: Iterable[str], narrative: str) -> tuple[int, int]:
    """Return how many different lines have the stem of a content word of the narrative, and how many there are."""
    story = set(content_stems(narrative))
    different = list(dict.fromkeys(lines))
    return sum(not story.isdisjoint(content_stems(line)) for line in different), len(different)


def opening(line: str, words: int = 3) -> str:
    """Return the line's first words, lower case and without punctuation."""
    return " ".join(plain(word) for word in words_of(line)[:words])


def is_stock(line: str) -> bool:
    """Return whether the line begins with one of `STOCK_OPENINGS`."""
    start = " ".join(plain(word) for word in words_of(line)) + " "
    return any(start.startswith(" ".join(words_of(stock)) + " ") for stock in STOCK_OPENINGS)


def shared_lines(songs: Sequence[Iterable[str]]) -> list[str]:
    """Return the lines that two or more songs have, without regard to case and punctuation."""
    counted: Counter[str] = Counter()
    for lines in songs:
        counted.update({opening(line, 99) for line in lines})
    return sorted(line for line, number in counted.items() if number > 1 and line)


def names_of(narrative: str) -> list[str]:
    """Return the names in an English narrative: words with a capital inside a sentence, or ones that no dictionary has.

    A guess, for narratives that come without a list of names.
    """
    if not is_english(narrative):
        return []
    found: dict[str, None] = {}
    for match in re.finditer(r"[^\W\d_]+(?:['’][^\W\d_]+)*", narrative):
        word = re.sub(r"['’]s$", "", match[0])
        before = narrative[: match.start()].rstrip("\"“‘'( *_#>-")
        starts = not before or before[-1] in ".!?:…\n"
        if word[0].isupper() and not word.isupper() and len(word) > 1 and not starts and _may_be_name(word):
            found[word] = None
    # A name that only begins sentences: no dictionary has it, or a verb follows, as rarely after a noun.
    for match in re.finditer(r"(?:^|[.!?]\s+)([A-Z][a-z]+) (\w+)", narrative):
        subject = match[2] in _VERBS and not match[1].endswith(("s", "ing", "ly"))
        if (subject or not in_dictionary(match[1])) and _may_be_name(match[1]):
            found.setdefault(match[1])
    return list(found)


def _may_be_name(word: str) -> bool:
    return plain(word) not in _NOT_NAMES and plain(word) not in FUNCTION_WORDS


def names_in(names: Iterable[str], text: str) -> list[str]:
    """Return those names of which a word stands in the text, also with a possessive s."""
    words = {re.sub(r"'s?$", "", plain(word)) for word in words_of(text)}
    return [name for name in names if any(re.sub(r"'s?$", "", plain(part)) in words for part in words_of(name))]


def title_faults(title: str, narrative: str) -> list[str]:
    """Return what is broken in a title, in words; none for a sound one."""
    words = [plain(word) for word in words_of(title)]
    figures = {figure for figure in re.findall(r"\d+", narrative) if figure in title}
    bare = [w for w in words if not any(f"{figure}{w}" in title.lower() for figure in figures)]
    found = []
    if not words and not figures:
        return ["empty"]
    lone = [w for w in bare if len(w) == 1 and w.isascii() and w not in _LONE_LETTERS and not _spelled(w, narrative)]
    if lone:
        found.append(f"a single letter: {lone[0]}")
    ending = [w for w in bare if w in _ORDINAL_ENDINGS - {"s", "am"} and not _spelled(w, narrative)]
    if ending:
        found.append(f"figures lost before {ending[0]}")
    if words and all(w in FUNCTION_WORDS for w in words) and not figures:
        found.append("function words only")
    if any(one == other for one, other in itertools.pairwise(words)):
        found.append("a word twice")
    if title.count('"') % 2 or title.count("(") != title.count(")") or re.search(r"[\[\]{}<>|\\#*_`]", title):
        found.append("marks left over")
    if title.strip() != title or re.search(r"^[,;:.]|[,;:]$", title):
        found.append("cut off")
    if len(title) > 60:
        found.append("a whole sentence")
    return found


def _spelled(word: str, narrative: str) -> bool:
    """Return whether the narrative has the word standing alone."""
    return bool(re.search(rf"(?<![\w'’]){re.escape(word)}(?![\w'’])", narrative, re.IGNORECASE))


def unsung(lines: Iterable[str], sung: Iterable[str]) -> list[str]:
    """Return the different lines that were written and are not among those that the plan sings."""
    heard = set(sung)
    return [line for line in dict.fromkeys(lines) if line not in heard]
