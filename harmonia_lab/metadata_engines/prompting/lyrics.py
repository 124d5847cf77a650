"""The lyrics of one song from a small model: sample texts, cut them into lines, choose, and let the model judge.

Owns how many samples a song of a given length gets, and the model's judgement (not the prompts: `examples.py`, nor what
makes a good line: `lines.py`, or couplet: `verses.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.prompting.cutting import (
    PAUSE_PROBABILITY,
    cut_into_lines,
    pause_probability,
    with_hero,
)
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, Dialogue, Question
from harmonia_lab.metadata_engines.prompting.examples import STATIC, song_prompt
from harmonia_lab.metadata_engines.prompting.lines import CandidateLine, StoryContext, refusal, score
from harmonia_lab.metadata_engines.prompting.story import Story, passages
from harmonia_lab.metadata_engines.prompting.titles import rank_attempt
from harmonia_lab.metadata_engines.prompting.verses import best_couplets, unsung
from harmonia_lab.metadata_engines.prompting.words import content_stems
from harmonia_lab.protocol.models import LyricSection

__all__ = ["SAMPLING", "LyricWriter", "SectionLines", "as_text", "predicts_pause", "sung_part"]

BUDGET = 600
"""Characters of the story in a prompt, some 150 tokens."""

SAMPLES, SAMPLES_OF_A_PART = 8, 6
"""Texts about the story of a song with one verse, and about each part of the story of a song with more."""

SAMPLE_TOKENS = 60
NAME_BIAS = 2.5
"""Added to the logits of the tokens of the story's names, where our own server writes."""

ENDINGS = 40
"""Alternatives to ask for at each token: some of them are last words that rhyme."""

ROUNDS = 8
"""Choices of lines, each followed by the model's judgement of the last words that were replaced."""

REPAIRS = 2
"""Rounds of further samples if the first ones hold too few lines."""

SAMPLING: Mapping[str, Any] = {
    "temperature": 0.7,
    "top_p": 0.95,
    "top_k": 50,
    "min_p": 0.05,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
}

SectionLines = tuple[str, list[CandidateLine]]
"""Its kind (verse, chorus, bridge) and its lines."""


class LyricWriter:
    """Writes one song's lyrics. titles: (rank, title) of each title over a sample that was not refused.

    partial: what is known of the song, for the progress reports.
    """

    def __init__(self, dialogue: Dialogue, story: Story, context: StoryContext, **partial: Any) -> None:
        self.titles: list[tuple[float, str]] = []
        self._dialogue = dialogue
        self._story = story
        self._context = context
        self._partial = partial
        self._excerpt = ""
        self._lines: dict[int, list[CandidateLine]] = {}  # by the passage that the sample was about
        self._samples = 0
        self._reasons: Counter[str] = Counter()
        self._judged: dict[tuple[str, ...], bool] = {}  # whether the model would pause behind a replaced last word

    async def write(self, form: Sequence[tuple[str, int]]) -> list[SectionLines]:
        """Return the sections of a form, shorter if the model wrote too few usable lines.

        Raises MetadataError (METADATA_INVALID) if it wrote none.
        """
        self._dialogue.report(0.22, "title", "Generating title...", **self._partial)
        parts = sum(kind == "verse" for kind, _ in form)
        excerpts = passages(self._story.prompt_text, parts, BUDGET)
        for part, self._excerpt in enumerate(excerpts):
            await self._sample(part, SAMPLES if parts == 1 else SAMPLES_OF_A_PART)
            self._report(0.22 + 0.6 * (part + 1) / parts, 4 * parts)
        sections = await self._choose(form)
        for repair in range(1, REPAIRS + 1):
            if all(len(lines) == count for (_, lines), (_, count) in zip(sections, form, strict=True)):
                break
            self._dialogue.note(repair=repair, refused=dict(self._reasons))
            for part, self._excerpt in enumerate(excerpts):
                await self._sample(part, SAMPLES_OF_A_PART, temperature=0.9)
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

    def _report(self, fraction: float, count: int) -> None:
        """Report the best title and the best lines so far."""
        best = sorted((line for line in self._all_lines() if not line.swapped), key=lambda line: -line.value)[:count]
        title = {"title": max(self.titles)[1]} if self.titles else {}
        lines = "\n".join(line.text for line in best)
        self._dialogue.report(fraction, "lyrics", "Creating lyrics...", lyrics=lines, **title)

    async def _sample(self, part: int, count: int, **options: Any) -> None:
        """Sample songs about an excerpt, and keep their titles and usable lines."""
        bias = [[f" {name}", NAME_BIAS] for name in self._context.proper_names]
        question = Question(
            f"lyrics-{self._samples}",
            song_prompt(self._excerpt),
            {**SAMPLING, "num_predict": SAMPLE_TOKENS, "logit_bias": bias, **options},
            top_logprobs=min(ENDINGS, self._dialogue.max_top_logprobs),
            static=STATIC,
        )
        for answer in await self._dialogue.ask_several(question, count):
            attempt = rank_attempt(answer, self._context) if "\n" in answer.text else None
            self.titles += [attempt] if attempt else []
            self._keep(answer, part)

    def _keep(self, answer: Answer, part: int) -> None:
        known = {line.words for line in self._all_lines()}
        cut = cut_into_lines(answer.text, self._samples, complete=answer.complete, tokens=answer.tokens)
        named = [line for line in (with_hero(line, self._context.hero) for line in cut) if line]
        for line in (*cut, *named):
            if line.words not in known:
                known.add(line.words)
                reason = refusal(line, self._context)
                if reason:
                    self._reasons[reason] += not line.swapped
                else:
                    self._lines.setdefault(part, []).append(score(line, self._context))
        self._samples += 1

    def _all_lines(self) -> list[CandidateLine]:
        return [line for lines in self._lines.values() for line in lines]

    async def _choose(self, form: Sequence[tuple[str, int]]) -> list[SectionLines]:
        """Choose lines, let the model judge their replaced last words, and choose again while it rejects some."""
        for _ in range(ROUNDS):
            sections = self._pick(form, lambda line: self._judged.get(line.words, True))
            doubtful = {line.words: line for _, lines in sections for line in lines if line.swapped}
            for words, line in doubtful.items():
                if words not in self._judged:
                    self._judged[words] = await self._may_end(line)
            if all(self._judged[words] for words in doubtful):
                return sections
        return self._pick(form, lambda line: self._judged.get(line.words, not line.swapped))

    async def _may_end(self, line: CandidateLine) -> bool:
        """Return whether the model would pause after a line whose last word was replaced."""
        title = max(self.titles)[1] if self.titles else "Song"
        question = Question(
            f"ending-{len(self._judged)}",
            song_prompt(self._excerpt, f"{title}\n\n{line.text}"),
            {"temperature": 0.0, "repeat_penalty": 1.0, "num_predict": 1},
            top_logprobs=min(20, self._dialogue.max_top_logprobs),
        )
        return predicts_pause(await self._dialogue.ask(question))

    def _pick(self, form: Sequence[tuple[str, int]], allowed: Callable[[CandidateLine], bool]) -> list[SectionLines]:
        """Return the sections: first the chorus, from all lines; then each verse, from the lines about its passage."""
        used: list[CandidateLine] = []

        def take(lines: Sequence[CandidateLine], count: int, bonus: float = 0.0) -> list[CandidateLine]:
            couplets = best_couplets(
                [line for line in lines if allowed(line)],
                count // 2,
                bonus=lambda line: bonus * min(2, len(title & line.stems)),
                used=used,
                names=self._context.name_stems,
            )
            couplets.sort(key=lambda couplet: self._context.place(couplet.first, couplet.second))
            found = [line for couplet in couplets for line in couplet[:2]]
            used.extend(found)
            return found

        title = frozenset(content_stems(max(self.titles)[1])) if self.titles else frozenset()
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
    """Return whether the next token would be a pause; also if the server returns no log-probabilities."""
    return not answer.tokens or pause_probability(answer.tokens[0]) > PAUSE_PROBABILITY


def sung_part(sections: Sequence[SectionLines], seconds: float, bar_seconds: float) -> list[SectionLines]:
    """Return the sections without the lines for which a song of this length and tempo has no room."""
    texts = [LyricSection(kind, tuple(line.text for line in lines)) for kind, lines in sections]
    left_out = unsung(texts, seconds, bar_seconds)
    kept = [(kind, [line for line in lines if line.text not in left_out]) for kind, lines in sections]
    return [(kind, lines) for kind, lines in kept if lines] or list(sections)


def as_text(sections: Sequence[SectionLines]) -> str:
    """Return the lyrics in the form of `SongMetadata.lyrics`."""
    blocks = []
    verse = 0
    for kind, lines in sections:
        verse += kind == "verse"
        name = f"Verse {verse}" if kind == "verse" else kind.capitalize()
        blocks.append("\n".join([f"[{name}]", *(line.text for line in lines)]))
    return "\n\n".join(blocks)
