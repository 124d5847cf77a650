"""The lyrics of one song from a small model: let it write, keep what can be sung, choose, and ask it about the choice.

Owns the prompts for verses and how many attempts a song of a given length is worth. What makes a good line is decided
in `lines.py`, what makes a couplet in `verses.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.prompting import verses
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, Dialogue, Message, Question
from harmonia_lab.metadata_engines.prompting.lines import (
    Line,
    Setting,
    cut_into_lines,
    refusal,
    score,
    with_ending,
)
from harmonia_lab.metadata_engines.prompting.story import Story, excerpt, passages
from harmonia_lab.metadata_engines.prompting.words import content_stems

__all__ = ["POET", "PROMPTS", "SAMPLING", "LyricWriter", "as_text", "ends_well"]

BUDGET = 900
"""Characters of the story that are shown, some 220 tokens: reading one takes as long as writing one."""

SAMPLE_TOKENS = 56
ENDINGS = 40
"""Alternatives asked for each token: other last words, which may rhyme, are found among them."""

ROUNDS = 3
"""Choices of lines, after each of which the model judges the last words that were exchanged."""

REPAIRS = 2
"""Rounds of further attempts, where the first ones hold too few lines."""

GOOD_ENDING = 0.25
"""Probability of a pause after a line, from which on it may end there."""

POET = "You are a poet who writes song lyrics."
PROMPTS = {
    "story": "Write a poem about it in short lines.",
    "place": "Write a poem in short lines about the place, its colors and its sounds.",
}
SAMPLING: Mapping[str, Any] = {
    "temperature": 0.7,
    "top_p": 0.95,
    "top_k": 0,
    "min_p": 0.05,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
}

Section = tuple[str, list[Line]]
"""Its kind (verse, chorus, bridge) and its lines."""

_PAUSE = re.compile(r"\s*[.,;:!?…—\n]|\s+(?:and|but|or|as|where|when|while|until)$|$")


class LyricWriter:
    """One song's lyrics, from the first attempt to the last choice."""

    def __init__(self, dialogue: Dialogue, story: Story, setting: Setting, title: str) -> None:
        self._dialogue = dialogue
        self._story = story
        self._setting = setting
        self._title = frozenset(content_stems(title))
        self._lines: dict[int, list[Line]] = {}  # by the passage that they were written about
        self._samples = 0
        self._reasons: dict[str, int] = {}
        self._refused: set[tuple[str, ...]] = set()
        self._sound: set[tuple[str, ...]] = set()

    async def write(self, form: Sequence[tuple[str, int]], report: Callable[[float, str], None]) -> list[Section]:
        """The sections of a form, shortened where the model didn't write enough. Raises MetadataError.

        report: takes the part that is done, 0…1, and the best lines so far.
        """
        parts = sum(kind == "verse" for kind, _ in form)
        told = passages(self._story.told, parts, BUDGET)
        kinds = ["story"] * 4 + ["place"] * 2 if parts == 1 else ["story"] * 3 + ["place"]
        await self._collect(told, kinds, lambda done: report(0.8 * done, self._draft(parts)))
        sections = await self._choose(form)
        for repair in range(1, REPAIRS + 1):
            if all(len(lines) == count for (_, lines), (_, count) in zip(sections, form, strict=True)):
                break
            self._dialogue.note(repair=repair, refused=dict(self._reasons))
            await self._collect(
                told, ["story"] * 3 + ["place"] * 3, lambda _: report(0.8, self._draft(parts)), temperature=0.9
            )
            sections = await self._choose(form)
        sections = [(kind, lines) for kind, lines in sections if lines]
        if not sections:
            raise self._nothing()
        return sections

    def _nothing(self) -> MetadataError:
        reasons = sorted(self._reasons.items(), key=lambda item: -item[1])
        told = ", ".join(f"{reason}: {count}" for reason, count in reasons) or "there was nothing of a line's length"
        return MetadataError(
            f"The language model wrote no line that can be sung. Refused, by reason: {told}.",
            code=ErrorCode.METADATA_INVALID,
            hint="Try another seed, a longer narrative, or a larger model.",
            details={"refused": dict(reasons)},
        )

    async def _collect(
        self, told: Sequence[str], kinds: Sequence[str], report: Callable[[float], None], **options: Any
    ) -> None:
        """Let the model write about each passage, once for each kind of prompt, and keep what can be sung."""
        attempts = [(part, kind) for part in range(len(told)) for kind in kinds]
        for number, (part, kind) in enumerate(attempts, 1):
            question = Question(
                f"lyrics-{self._samples}",
                _prompt(told[part], kind),
                {**SAMPLING, "num_predict": SAMPLE_TOKENS, **options},
                alternatives=min(ENDINGS, self._dialogue.most_alternatives),
            )
            self._keep(await self._dialogue.ask(question), part)
            report(number / len(attempts))

    def _keep(self, answer: Answer, part: int) -> None:
        known = {line.words for lines in self._lines.values() for line in lines}
        for line in cut_into_lines(answer.text, self._samples, complete=answer.complete, tokens=answer.tokens):
            reason = refusal(line, self._setting)
            if reason:
                self._reasons[reason] = self._reasons.get(reason, 0) + 1
            elif line.words not in known:
                known.add(line.words)
                endings = [one for one in line.endings if not refusal(with_ending(line, one[0]), self._setting)]
                line = replace(score(line, self._setting), endings=tuple(endings))  # noqa: PLW2901 - the same line, valued
                self._lines.setdefault(part, []).append(line)
        self._samples += 1

    def _draft(self, parts: int) -> str:
        """The best lines so far, for those who watch."""
        lines = sorted((line for lines in self._lines.values() for line in lines), key=lambda line: -line.value)
        return "\n".join(line.text for line in lines[: 4 * parts])

    async def _choose(self, form: Sequence[tuple[str, int]]) -> list[Section]:
        """Choose, have the model judge the last words that were exchanged, and choose again while some are refused."""
        for _ in range(ROUNDS):
            sections = self._pick(form, lambda line, word: (*line.words[:-1], word) not in self._refused)
            doubtful = {line.words: line for _, lines in sections for line in lines if line.swapped}
            for words, line in doubtful.items():
                if words not in self._sound:
                    (self._sound if await self._may_end(line) else self._refused).add(words)
            if not doubtful.keys() & self._refused:
                return sections
        return self._pick(form, lambda line, word: word == line.words[-1] or (*line.words[:-1], word) in self._sound)

    async def _may_end(self, line: Line) -> bool:
        """Whether the model would pause after this line, which it did not write to the end itself."""
        messages = [*_prompt(excerpt(self._story.told, BUDGET), "story"), Message("assistant", line.text)]
        question = Question(
            f"ending-{len(self._sound) + len(self._refused)}",
            messages,
            {"temperature": 0.0, "repeat_penalty": 1.0, "num_predict": 1},
            alternatives=min(20, self._dialogue.most_alternatives),
        )
        return ends_well(await self._dialogue.ask(question))

    def _pick(self, form: Sequence[tuple[str, int]], may_sing: Callable[[Line, str], bool]) -> list[Section]:
        """The sections: the chorus first, from everything; each verse from what was written about its passage."""
        everything = [line for lines in self._lines.values() for line in lines]
        taken: list[Line] = []

        def take(lines: Sequence[Line], count: int, bonus: float = 0.0) -> list[Line]:
            couplets = verses.best_couplets(
                lines,
                count // 2,
                bonus=lambda line: bonus * min(2, len(self._title & line.stems)),
                taken=taken,
                may_sing=may_sing,
            )
            couplets.sort(key=lambda couplet: self._setting.place(couplet.first, couplet.second))
            found = [line for couplet in couplets for line in couplet[:2]]
            taken.extend(found)
            return found

        counts = dict(form)
        chorus = take(everything, counts["chorus"], bonus=0.5) if "chorus" in counts else []
        sections: list[Section] = []
        passage = 0
        for kind, count in form:
            if kind == "chorus":
                sections.append((kind, chorus))
            else:
                own = self._lines.get(passage, []) if kind == "verse" else everything
                lines = take(own, count)
                lines += take(everything, count - len(lines)) if len(lines) < count else []
                passage += kind == "verse"
                sections.append((kind, lines))
        return sections


def ends_well(answer: Answer) -> bool:
    """Whether a pause would come next: punctuation, a line end, the end, or a conjunction."""
    if not answer.tokens:
        return True  # the model had nothing to add, or the server tells nothing
    listed = answer.tokens[0].others or ((answer.tokens[0].text, 0.0),)
    return sum(math.exp(logprob) for text, logprob in listed if _PAUSE.match(text)) > GOOD_ENDING


def as_text(sections: Sequence[tuple[str, Sequence[Line]]]) -> str:
    """The lyrics as `SongMetadata` has them."""
    blocks = []
    verse = 0
    for kind, lines in sections:
        verse += kind == "verse"
        name = f"Verse {verse}" if kind == "verse" else kind.capitalize()
        blocks.append("\n".join([f"[{name}]", *(line.text for line in lines)]))
    return "\n\n".join(blocks)


def _prompt(story: str, kind: str) -> list[Message]:
    return [Message("system", POET), Message("user", f"The story: {story}\n\n{PROMPTS[kind]}")]
