"""The lyrics of one song from a small model: sample texts, cut them into lines, choose, and let the model judge.

Owns the prompts for verses, and how many samples a song of a given length gets (not what makes a good line: `lines.py`,
nor a good couplet: `verses.py`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, ChatMessage, Dialogue, Question
from harmonia_lab.metadata_engines.prompting.lines import (
    CandidateLine,
    StoryContext,
    cut_into_lines,
    refusal,
    score,
    with_ending,
)
from harmonia_lab.metadata_engines.prompting.story import Story, excerpt, passages
from harmonia_lab.metadata_engines.prompting.verses import best_couplets
from harmonia_lab.metadata_engines.prompting.words import content_stems

__all__ = ["POET", "PROMPTS", "SAMPLING", "LyricWriter", "SectionLines", "as_text", "predicts_pause"]

BUDGET = 900
"""Characters of the story in a prompt, some 220 tokens: reading one takes as long as writing one."""

SAMPLE_TOKENS = 56
ENDINGS = 40
"""Alternatives to ask for at each token: some of them are last words that rhyme."""

ROUNDS = 3
"""Choices of lines, each followed by the model's judgement of the last words that were replaced."""

REPAIRS = 2
"""Rounds of further samples if the first ones hold too few lines."""

PAUSE_PROBABILITY = 0.25
"""Least probability of a pause behind a line's replaced last word."""

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

SectionLines = tuple[str, list[CandidateLine]]
"""Its kind (verse, chorus, bridge) and its lines."""

_PAUSE = re.compile(r"\s*[.,;:!?…—\n]|\s+(?:and|but|or|as|where|when|while|until)$|$")


class LyricWriter:
    """Writes one song's lyrics. title: a draft of it; the chorus prefers its words."""

    def __init__(self, dialogue: Dialogue, story: Story, context: StoryContext, title: str) -> None:
        self._dialogue = dialogue
        self._story = story
        self._context = context
        self._title = frozenset(content_stems(title))
        self._lines: dict[int, list[CandidateLine]] = {}  # by the passage that the sample was about
        self._samples = 0
        self._reasons: Counter[str] = Counter()
        self._rejected: set[tuple[str, ...]] = set()  # lines whose replaced last word the model judged bad
        self._accepted: set[tuple[str, ...]] = set()

    async def write(self, form: Sequence[tuple[str, int]], report: Callable[[float, str], None]) -> list[SectionLines]:
        """Return the sections of a form, shorter if the model wrote too few usable lines. Raises MetadataError if none.

        report: called with the part that is done, 0…1, and the best lines so far.
        """
        parts = sum(kind == "verse" for kind, _ in form)
        excerpts = passages(self._story.prompt_text, parts, BUDGET)
        kinds = ["story"] * 4 + ["place"] * 2 if parts == 1 else ["story"] * 3 + ["place"]
        await self._sample(excerpts, kinds, lambda done: report(0.8 * done, self._draft(parts)))
        sections = await self._choose(form)
        for repair in range(1, REPAIRS + 1):
            if all(len(lines) == count for (_, lines), (_, count) in zip(sections, form, strict=True)):
                break
            self._dialogue.note(repair=repair, refused=dict(self._reasons))
            kinds = ["story"] * 3 + ["place"] * 3
            await self._sample(excerpts, kinds, lambda _: report(0.8, self._draft(parts)), temperature=0.9)
            sections = await self._choose(form)
        sections = [(kind, lines) for kind, lines in sections if lines]
        if not sections:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self._reasons.most_common())
            raise MetadataError(
                "The language model wrote no line that can be sung. Refused lines by reason: "
                f"{reasons or 'none, because no text had the length of a line'}.",
                code=ErrorCode.METADATA_INVALID,
                hint="Try another seed, a longer narrative, or a larger model.",
                details={"refused": dict(self._reasons)},
            )
        return sections

    async def _sample(
        self, excerpts: Sequence[str], kinds: Sequence[str], report: Callable[[float], None], **options: Any
    ) -> None:
        """Sample a text for each excerpt and each kind of prompt, and keep its usable lines."""
        attempts = [(part, kind) for part in range(len(excerpts)) for kind in kinds]
        for number, (part, kind) in enumerate(attempts, 1):
            question = Question(
                f"lyrics-{self._samples}",
                _prompt(excerpts[part], kind),
                {**SAMPLING, "num_predict": SAMPLE_TOKENS, **options},
                top_logprobs=min(ENDINGS, self._dialogue.max_top_logprobs),
            )
            self._keep(await self._dialogue.ask(question), part)
            report(number / len(attempts))

    def _keep(self, answer: Answer, part: int) -> None:
        known = {line.words for line in self._all_lines()}
        for line in cut_into_lines(answer.text, self._samples, complete=answer.complete, tokens=answer.tokens):
            reason = refusal(line, self._context)
            if reason:
                self._reasons[reason] += 1
            elif line.words not in known:
                known.add(line.words)
                endings = [one for one in line.endings if not refusal(with_ending(line, one[0]), self._context)]
                scored = replace(score(line, self._context), endings=tuple(endings))
                self._lines.setdefault(part, []).append(scored)
        self._samples += 1

    def _all_lines(self) -> list[CandidateLine]:
        return [line for lines in self._lines.values() for line in lines]

    def _draft(self, parts: int) -> str:
        """Return the best lines so far, for the progress report."""
        best = sorted(self._all_lines(), key=lambda line: -line.value)
        return "\n".join(line.text for line in best[: 4 * parts])

    async def _choose(self, form: Sequence[tuple[str, int]]) -> list[SectionLines]:
        """Choose lines, let the model judge their replaced last words, and choose again while it rejects some."""
        for _ in range(ROUNDS):
            sections = self._pick(form, lambda line, word: (*line.words[:-1], word) not in self._rejected)
            doubtful = {line.words: line for _, lines in sections for line in lines if line.swapped}
            for words, line in doubtful.items():
                if words not in self._accepted:
                    (self._accepted if await self._may_end(line) else self._rejected).add(words)
            if not doubtful.keys() & self._rejected:
                return sections
        return self._pick(form, lambda line, word: word == line.words[-1] or (*line.words[:-1], word) in self._accepted)

    async def _may_end(self, line: CandidateLine) -> bool:
        """Return whether the model would pause after a line whose last word was replaced."""
        prompt = _prompt(excerpt(self._story.prompt_text, BUDGET), "story")
        question = Question(
            f"ending-{len(self._accepted) + len(self._rejected)}",
            [*prompt, ChatMessage("assistant", line.text)],
            {"temperature": 0.0, "repeat_penalty": 1.0, "num_predict": 1},
            top_logprobs=min(20, self._dialogue.max_top_logprobs),
        )
        return predicts_pause(await self._dialogue.ask(question))

    def _pick(
        self, form: Sequence[tuple[str, int]], allow_ending: Callable[[CandidateLine, str], bool]
    ) -> list[SectionLines]:
        """Return the sections: first the chorus, from all lines; then each verse, from the lines about its passage."""
        used: list[CandidateLine] = []

        def take(lines: Sequence[CandidateLine], count: int, bonus: float = 0.0) -> list[CandidateLine]:
            couplets = best_couplets(
                lines,
                count // 2,
                bonus=lambda line: bonus * min(2, len(self._title & line.stems)),
                used=used,
                allow_ending=allow_ending,
            )
            couplets.sort(key=lambda couplet: self._context.place(couplet.first, couplet.second))
            found = [line for couplet in couplets for line in couplet[:2]]
            used.extend(found)
            return found

        counts = dict(form)
        chorus = take(self._all_lines(), counts["chorus"], bonus=0.5) if "chorus" in counts else []
        sections: list[SectionLines] = []
        passage = 0
        for kind, count in form:
            lines = chorus
            if kind != "chorus":
                lines = take(self._lines.get(passage, []) if kind == "verse" else self._all_lines(), count)
                if len(lines) < count:
                    lines += take(self._all_lines(), count - len(lines))
                passage += kind == "verse"
            sections.append((kind, lines))
        return sections


def predicts_pause(answer: Answer) -> bool:
    """Return whether the next token would be a pause: punctuation, a line end, the end, or a conjunction."""
    if not answer.tokens:
        return True  # the model ended here, or the server returns no log-probabilities
    token = answer.tokens[0]
    alternatives = token.alternatives or ((token.text, 0.0),)
    return sum(math.exp(logprob) for text, logprob in alternatives if _PAUSE.match(text)) > PAUSE_PROBABILITY


def as_text(sections: Sequence[SectionLines]) -> str:
    """Return the lyrics in the form of `SongMetadata.lyrics`."""
    blocks = []
    verse = 0
    for kind, lines in sections:
        verse += kind == "verse"
        name = f"Verse {verse}" if kind == "verse" else kind.capitalize()
        blocks.append("\n".join([f"[{name}]", *(line.text for line in lines)]))
    return "\n\n".join(blocks)


def _prompt(story: str, kind: str) -> list[ChatMessage]:
    return [ChatMessage("system", POET), ChatMessage("user", f"The story: {story}\n\n{PROMPTS[kind]}")]
