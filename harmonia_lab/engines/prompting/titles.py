"""From a small model's attempts at a title to the one that is taken.

Owns the cleaning, the refusals and the ranking of titles. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harmonia_lab.engines.prompting.exchange import Answer
from harmonia_lab.engines.prompting.lines import DANGLING, Line, Setting, is_meta, meta_stems
from harmonia_lab.engines.prompting.wording import FUNCTION_WORDS, plain, stem
from harmonia_lab.syllables import in_dictionary, words_of

__all__ = ["TITLE_EXAMPLES", "phrases", "rank", "rank_attempt", "title_of"]

TITLE_EXAMPLES = (
    ("A girl leaves her small town on a train at dawn and waves to her mother.", "Morning Train"),
    ("A scientist in Antarctica listens to the ice at night.", "The Ice Is Singing"),
    ("Two brothers build a boat and sail away from the island.", "Sails of Our Own"),
)

INTENDED = 0.4
"""What it is worth that the model meant it as a title."""

_SMALL = frozenset("a an the of and or but in on at by for to with from into as is".split())
_HANGING = frozenset("a an the of and or but in on at by for to with from into as is are was my your his her their our that before after until".split())
_OPENING = frozenset("a an the my your his her our their no every under".split())
_PARTING = frozenset("and or but in on at by with from of for into under over to through where when as that who is are was were".split())
_TIRED = frozenset("lament tale symphony tapestry journey whispers echoes".split())


def title_of(text: str) -> str:
    """The title in an answer: its first line, up to a colon, a full stop or a bracket, in title case; may be empty."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    first = re.sub(r"^\W*(?:title|song)\s*:", "", first.strip(), flags=re.IGNORECASE)
    quoted = re.match(r"\W*[\"“]([^\"”]+)[\"”]", first)
    first = re.split(r"[:.;!?(\[{|/…—–]|\s-\s|,\s+(?:a|an|the|by)\s", quoted[1] if quoted else first)[0]
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|,", first)
    shown = ""
    for index, word in enumerate(words):
        small = 0 < index < len(words) - 1 and plain(word) in _SMALL
        shown += "," if word == "," else f" {word.lower() if small else word[0].upper() + word[1:]}"
    return shown.strip(" ,")


def rank(title: str, setting: Setting, *, likelihood: float = 0.0) -> float | None:
    """How good a title is for the story, about −1…4; None where it can't be one. likelihood: log-probability a token."""
    words = [plain(word) for word in words_of(title)]
    stems = [stem(word) for word in words if word not in FUNCTION_WORDS and len(word) > 2]
    known = all(in_dictionary(word) or word.capitalize() in setting.names for word in words)
    if not 1 <= len(words) <= 6 or not stems or not known or is_meta(words, setting) or len(set(stems)) < len(stems):
        return None
    if words[-1] in DANGLING or any(a == b for a, b in zip(words, words[1:], strict=False)):
        return None
    related = len(set(stems) & setting.stems - meta_stems())
    if setting.stems and not related:
        return None
    value = min(2.0, 1.2 * related) - 0.5 * max(0, len(set(stems) - setting.stems) - 1)
    value += {1: -0.5, 2: 0.1, 3: 0.4, 4: 0.5, 5: 0.4}.get(len(words), -0.4)
    value -= 0.3 * (words[0] in _HANGING - _OPENING - {"in", "on"})
    value -= 0.5 * sum(word in _TIRED for word in words)
    if len(words) > 4 and " ".join(words) in setting.told:
        value -= 0.5
    return value + max(-1.0, min(0.5, 1.5 + likelihood)) * 0.6


def rank_attempt(answer: Answer, setting: Setting) -> tuple[float, str] | None:
    """The title in an answer with its rank; None where there is none."""
    title = title_of(answer.text)
    tokens = [token.logprob for token in answer.tokens][: max(1, len(title.split()) + 1)]
    value = rank(title, setting, likelihood=sum(tokens) / len(tokens) if tokens else -1.5)
    return None if value is None else (value + INTENDED, title)


def phrases(lines: Sequence[Line]) -> list[str]:
    """Phrases of lyrics that could be a title: runs of two to five words between an opening word and a full one."""
    found = []
    for line in lines:
        for clause in line.text.split(","):
            words = words_of(clause)
            plains = [plain(word) for word in words]
            for start in range(len(words)):
                if start and plains[start] not in _OPENING and plains[start - 1] not in _PARTING:
                    continue
                for end in range(start + 2, min(start + 5, len(words)) + 1):
                    closed = end == len(words) or plains[end] in _PARTING
                    if closed and plains[start] not in _HANGING - _OPENING and plains[end - 1] not in DANGLING:
                        found.append(title_of(" ".join(words[start:end])))
    return found
