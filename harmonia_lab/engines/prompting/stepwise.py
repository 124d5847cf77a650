"""Small models, step by step: mood and genre by scores, titles by choice among several, lyrics by cutting and choosing.

Owns the order of the steps, the prompts for titles and verses, and how many attempts a song of a given length is worth.
What makes a good line, couplet or title is decided next door, in pure functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harmonia_lab.engines import style
from harmonia_lab.engines.base import derive_seed
from harmonia_lab.engines.prompting import labels, titles, verses
from harmonia_lab.engines.prompting.cues import MOOD_CUES
from harmonia_lab.engines.prompting.exchange import Answer, Dialogue, Message, Question
from harmonia_lab.engines.prompting.lines import Line, Setting, cut_into_lines, refusal, score
from harmonia_lab.engines.prompting.story import Story, excerpt, passages, read_story
from harmonia_lab.engines.prompting.wording import content_stems, plain
from harmonia_lab.engines.style import MOOD_AFFECT
from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.protocol.models import SongMetadata, SongRequest
from harmonia_lab.protocol.vocabulary import GENRES, MOODS
from harmonia_lab.syllables import words_of

__all__ = ["VERSION", "write_song"]

VERSION = "stepwise-1"

TITLE_ATTEMPTS = 8
TITLE_BUDGET = 600
VERSE_BUDGET = 900
"""Characters of the story that are shown: some 150 and 220 tokens, each of which costs as much time as a written one."""

VERSE_TOKENS = 56
ROUNDS = 3
"""Choices of lines, each of which has exchanged last words judged."""

ENDINGS = 40
"""Alternatives asked for each token of a verse: other last words are found among them."""

_POET = "You are a poet who writes song lyrics."
_ASKS = {
    "story": "Write a poem about it in short lines.",
    "place": "Write a poem in short lines about the place, its colors and its sounds.",
}
_OPTIONS = {"temperature": 0.7, "top_p": 0.95, "top_k": 0, "min_p": 0.05, "repeat_penalty": 1.1, "repeat_last_n": 64}


async def write_song(dialogue: Dialogue, request: SongRequest, seed: int) -> SongMetadata:
    """The song's metadata. Raises MetadataError (METADATA_INVALID) where the model's text holds nothing that can be sung."""
    dialogue.report(0.0, "analysis", "Analyzing narrative...")
    story = read_story(request.narrative)
    for note in story.notes:
        dialogue.note(note=note)
    moods = await _moods(dialogue, story)
    genre = request.genre or await _genre(dialogue, story, moods)
    dialogue.report(0.22, "title", "Generating title...", genre=genre, mood=moods)
    setting = _setting(story, moods)
    attempts = await _title_attempts(dialogue, story, setting)
    draft = max(attempts)[1] if attempts else ""
    dialogue.report(0.35, "lyrics", "Creating lyrics...", **({"title": draft} if draft else {}))
    sections = await _LyricWriter(dialogue, story, setting, draft).write(verses.form_for(request.seconds))
    title = _title(dialogue, attempts, sections, setting)
    lyrics = _as_text(sections)
    dialogue.report(1.0, "lyrics", "Metadata complete", title=title, lyrics=lyrics)
    suggestion = style.suggest(genre, moods, derive_seed(seed, "style"), narrative=story.told)
    return SongMetadata(
        title=title,
        lyrics=lyrics,
        genre=genre,
        mood=moods,
        bpm=request.bpm or suggestion.bpm,
        key=request.key or suggestion.key,
        instruments=request.instruments or list(suggestion.instruments),
    )


async def _moods(dialogue: Dialogue, story: Story) -> list[str]:
    dialogue.report(0.02, "mood", "Finding the mood...")
    scores, neutral = await _scores(dialogue, "Mood", MOODS, story)
    moods = labels.choose_moods(story.told, scores, neutral)
    dialogue.note(chosen="mood", value=moods, scores={label: round(value, 3) for label, value in scores.items()})
    return moods


async def _genre(dialogue: Dialogue, story: Story, moods: Sequence[str]) -> str:
    dialogue.report(0.14, "genre", "Finding the genre...", mood=moods)
    scores: Mapping[str, float] = {}
    neutral: Sequence[Mapping[str, float]] = ()
    if not labels.has_genre_cue(story.told):
        scores, neutral = await _scores(dialogue, "Genre", GENRES, story)
    genre = labels.choose_genre(story.told, moods, scores, neutral)
    dialogue.note(chosen="genre", value=genre, scores={label: round(value, 3) for label, value in scores.items()})
    return genre


async def _scores(
    dialogue: Dialogue, head: str, choices: Sequence[str], story: Story
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The labels' scores for the story, and for each of the neutral ones."""
    found = []
    for number, told in enumerate((*labels.NEUTRAL_STORIES, excerpt(story.told, TITLE_BUDGET))):
        question = labels.label_question(head, told, f"{head.lower()}-{number}", dialogue.most_alternatives)
        found.append(labels.label_scores(await dialogue.ask(question), choices))
    return found[-1], found[:-1]


async def _title_attempts(dialogue: Dialogue, story: Story, setting: Setting) -> list[tuple[float, str]]:
    """Titles that the model thought of, with their ranks; those that can't be one are left out."""
    ask = "Write a short title for a song about this story."
    messages = [Message("system", _POET)]
    for example, title in titles.TITLE_EXAMPLES:
        messages += [Message("user", f"The story: {example}\n\n{ask}"), Message("assistant", title)]
    messages.append(Message("user", f"The story: {excerpt(story.told, TITLE_BUDGET)}\n\n{ask}"))
    options = _OPTIONS | {"temperature": 0.8, "repeat_penalty": 1.0, "num_predict": 12, "stop": ["\n"]}
    found = []
    for number in range(TITLE_ATTEMPTS):
        answer = await dialogue.ask(Question(f"title-{number}", messages, options, alternatives=1))
        attempt = titles.rank_attempt(answer, setting)
        found += [attempt] if attempt else []
        done = (number + 1) / TITLE_ATTEMPTS
        dialogue.report(0.22 + 0.13 * done, "title", "Generating title...", **({"title": max(found)[1]} if found else {}))
    return found


def _title(
    dialogue: Dialogue, attempts: Sequence[tuple[float, str]], sections: Sequence[tuple[str, Sequence[Line]]], setting: Setting
) -> str:
    """The best among the attempts and the phrases of the lyrics; what the chorus sings is preferred."""
    chorus = [line for kind, lines in sections if kind == "chorus" for line in lines]
    every = [line for _, lines in sections for line in lines]
    sung = [frozenset[str]().union(*(line.stems for line in lines)) for lines in (chorus, every)]
    ranked = list(attempts)
    for phrase in titles.phrases(every):
        value = titles.rank(phrase, setting, likelihood=-2.0)
        ranked += [(value, phrase)] if value is not None else []
    ranked = [(value + 0.3 * sum(len(set(content_stems(title)) & stems) for stems in sung), title) for value, title in ranked]
    title = max(ranked)[1] if ranked else titles.title_of(every[0].text)
    dialogue.note(chosen="title", value=title, among=[shown for _, shown in sorted(set(ranked), reverse=True)[:12]])
    return title


class _LyricWriter:
    """The lyrics of one song, from the first attempt to the last choice."""

    def __init__(self, dialogue: Dialogue, story: Story, setting: Setting, title: str) -> None:
        self._dialogue = dialogue
        self._story = story
        self._setting = setting
        self._title = frozenset(content_stems(title))
        self._lines: dict[int, list[Line]] = {}
        self._samples = 0
        self._reasons: dict[str, int] = {}
        self._refused: set[tuple[str, ...]] = set()
        self._sound: set[tuple[str, ...]] = set()

    async def write(self, form: Sequence[tuple[str, int]]) -> list[tuple[str, list[Line]]]:
        """The sections with their lines. Raises MetadataError."""
        parts = sum(kind == "verse" for kind, _ in form)
        told = passages(self._story.told, parts, VERSE_BUDGET)
        await self._collect(told, story=4 if parts == 1 else 3, place=2 if parts == 1 else 1, until=0.9)
        for repair in range(3):
            sections = await self._sections(form)
            if all(lines for _, lines in sections):
                return sections
            if repair < 2:
                self._dialogue.note(repair=repair + 1, refused=dict(self._reasons))
                await self._collect(told, story=3, place=3, until=0.95, temperature=0.9)
        sections = [(kind, lines) for kind, lines in sections if lines]
        if sections:
            return sections
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(self._reasons.items(), key=lambda item: -item[1]))
        raise MetadataError(
            f"The language model wrote no line that can be sung. Refused, by reason: {reasons or 'it wrote nothing'}.",
            code=ErrorCode.METADATA_INVALID,
            hint="Try another seed, a longer narrative, or a larger model.",
        )

    async def _collect(self, told: Sequence[str], *, story: int, place: int, until: float, **options: Any) -> None:
        """Let the model write about each passage so many times, and keep what can be sung."""
        kinds = ["story"] * story + ["place"] * place
        start = 0.35 if not self._samples else 0.9
        for part, passage in enumerate(told):
            for index, kind in enumerate(kinds):
                answer = await self._dialogue.ask(self._question(passage, kind, options))
                self._keep(answer, part)
                done = (part * len(kinds) + index + 1) / (len(told) * len(kinds))
                self._dialogue.report(
                    start + (until - start) * done, "lyrics", "Creating lyrics...", lyrics=self._draft(len(told))
                )

    def _question(self, passage: str, kind: str, options: Mapping[str, Any]) -> Question:
        messages = [Message("system", _POET), Message("user", f"The story: {passage}\n\n{_ASKS[kind]}")]
        settings = _OPTIONS | {"num_predict": VERSE_TOKENS} | options
        purpose = f"lyrics-{kind}-{self._samples}"
        return Question(purpose, messages, settings, alternatives=min(ENDINGS, self._dialogue.most_alternatives))

    def _keep(self, answer: Answer, part: int) -> None:
        known = {line.words for lines in self._lines.values() for line in lines}
        for line in cut_into_lines(answer.text, self._samples, complete=answer.complete, tokens=answer.tokens):
            reason = refusal(line, self._setting)
            if reason:
                self._reasons[reason] = self._reasons.get(reason, 0) + 1
            elif line.words not in known:
                known.add(line.words)
                self._lines.setdefault(part, []).append(score(line, self._setting))
        self._samples += 1

    def _draft(self, parts: int) -> str:
        """The best lines so far, for those who watch."""
        lines = sorted((line for lines in self._lines.values() for line in lines), key=lambda line: -line.value)
        return "\n".join(line.text for line in lines[: 4 * parts])

    async def _sections(self, form: Sequence[tuple[str, int]]) -> list[tuple[str, list[Line]]]:
        """Choose, have the model judge the last words that were exchanged, and choose again while some are refused."""
        for _ in range(ROUNDS):
            sections = self._choose(form, lambda line, word: (*line.words[:-1], word) not in self._refused)
            doubtful = {line.words: line for _, lines in sections for line in lines if line.swapped}
            for words in doubtful.keys() - self._sound:
                good = await self._ends_well(doubtful[words])
                (self._sound if good else self._refused).add(words)
            if not doubtful.keys() & self._refused:
                return sections
        return self._choose(form, lambda line, word: word == line.words[-1] or (*line.words[:-1], word) in self._sound)

    async def _ends_well(self, line: Line) -> bool:
        """Whether the model would end a clause after this line, which it did not write to the end itself."""
        messages = [
            Message("system", _POET),
            Message("user", f"The story: {excerpt(self._story.told, VERSE_BUDGET)}\n\n{_ASKS['story']}"),
            Message("assistant", line.text),
        ]
        settings = {"temperature": 0.0, "repeat_penalty": 1.0, "num_predict": 1}
        purpose = f"ending-{len(self._sound) + len(self._refused)}"
        answer = await self._dialogue.ask(Question(purpose, messages, settings, alternatives=min(20, self._dialogue.most_alternatives)))
        return ends_well(answer)

    def _choose(self, form: Sequence[tuple[str, int]], may_sing: Callable[[Line, str], bool]) -> list[tuple[str, list[Line]]]:
        everything = [line for lines in self._lines.values() for line in lines]
        counts = dict(form)
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
            return found if len(found) == count else []

        chorus = take(everything, counts["chorus"], 0.8) if "chorus" in counts else []
        sections: list[tuple[str, list[Line]]] = []
        verse = 0
        for kind, count in form:
            if kind == "verse":
                sections.append((kind, take(self._lines.get(verse, []), count) or take(everything, count)))
                verse += 1
            else:
                sections.append((kind, chorus if kind == "chorus" else take(everything, count)))
        return sections


def ends_well(answer: Answer) -> bool:
    """Whether punctuation, a line end, a preposition or a conjunction would come next with some probability."""
    if not answer.tokens:
        return True  # the model had nothing to add, or the server tells nothing
    listed = answer.tokens[0].others or ((answer.tokens[0].text, 0.0),)
    return sum(math.exp(logprob) for text, logprob in listed if _CLOSING.match(text)) > 0.25


_CLOSING = re.compile(r"\s*[.,;:!?…—\n]|\s+(?:and|but|or|as|where|when|while|until)$|$")


def _setting(story: Story, moods: Sequence[str]) -> Setting:
    """Words that belong to moods of the opposite sign are not wanted, unless the story has them."""
    side = MOOD_AFFECT[moods[0]].valence
    against = {mood for mood, affect in MOOD_AFFECT.items() if abs(affect.valence - side) > 0.9}
    clash = {word for mood in against for word in MOOD_CUES[mood]} - {word for mood in moods for word in MOOD_CUES[mood]}
    told = " ".join(plain(word) for word in words_of(story.told))
    return Setting(story.stems, story.names, told, story.people, frozenset(clash) - story.stems)


def _as_text(sections: Sequence[tuple[str, Sequence[Line]]]) -> str:
    blocks = []
    verse = 0
    for kind, lines in sections:
        verse += kind == "verse"
        name = f"Verse {verse}" if kind == "verse" else kind.capitalize()
        blocks.append("\n".join([f"[{name}]", *(line.text for line in lines)]))
    return "\n\n".join(blocks)
