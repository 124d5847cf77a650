"""Small models, step by step: mood and genre by scores, title by choice among several, lyrics by cutting and choosing.

Owns the order of the steps and the prompt for titles. What makes a good label, title or line is decided next door.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from harmonia_lab.metadata_engines.prompting import labels, lyrics, titles
from harmonia_lab.metadata_engines.prompting.cues import MOOD_CUES
from harmonia_lab.metadata_engines.prompting.dialogue_types import Dialogue, Message, Question
from harmonia_lab.metadata_engines.prompting.lines import Setting
from harmonia_lab.metadata_engines.prompting.story import Story, excerpt, read_story
from harmonia_lab.metadata_engines.prompting.verses import form_for
from harmonia_lab.metadata_engines.prompting.words import content_stems, plain
from harmonia_lab.music.moods import MOOD_AFFECT, suggest_features
from harmonia_lab.music.seeds import derive_seed
from harmonia_lab.protocol.models import SongMetadata, SongRequest
from harmonia_lab.protocol.vocabulary import GENRES, MOODS
from harmonia_lab.syllables import words_of

__all__ = ["template_version", "write_song"]

BUDGET = 600
"""Characters of the story that are shown for labels and titles, some 150 tokens."""

TITLE_ATTEMPTS = 8
_TITLE_PROMPT = "Write a short title for a song about this story."

CONTRARY = 0.9
"""Difference of valence (−1…1) from which on two moods contradict each other."""


def template_version() -> str:
    """Changes when a prompt or a sampling option changes."""
    prompts = (lyrics.POET, lyrics.PROMPTS, lyrics.SAMPLING, _TITLE_PROMPT, titles.EXAMPLES)
    text = repr((prompts, labels.SHOTS, labels.NEUTRAL_STORIES))
    return f"stepwise-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


async def write_song(dialogue: Dialogue, request: SongRequest, seed: int) -> SongMetadata:
    """The song's metadata. Raises MetadataError, METADATA_INVALID where the model's text holds nothing to be sung."""
    dialogue.report(0.0, "analysis", "Analyzing narrative...")
    story = read_story(request.narrative)
    for note in story.notes:
        dialogue.note(note=note)
    if len(story.told) > BUDGET:
        dialogue.note(note=f"Of {len(story.told)} characters, the model was shown the first and the last sentences.")
    moods = await _moods(dialogue, story)
    genre = request.genre or await _genre(dialogue, story, moods)
    dialogue.report(0.22, "title", "Generating title...", genre=genre, mood=moods)
    setting = _setting(story, moods)
    attempts = await _title_attempts(dialogue, story, setting)
    draft = max(attempts)[1] if attempts else ""
    writer = lyrics.LyricWriter(dialogue, story, setting, draft)
    sections = await writer.write(
        form_for(request.seconds),
        lambda done, lines: dialogue.report(0.35 + 0.6 * done, "lyrics", "Creating lyrics...", lyrics=lines),
    )
    title = _title(dialogue, attempts, sections, setting)
    text = lyrics.as_text(sections)
    dialogue.report(1.0, "lyrics", "Metadata complete", title=title, lyrics=text)
    suggestion = suggest_features(genre, moods, derive_seed(seed, "style"), narrative=story.told)
    return SongMetadata(
        title=title,
        lyrics=text,
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
    dialogue.note(chosen="mood", value=moods, scores=_rounded(scores))
    return moods


async def _genre(dialogue: Dialogue, story: Story, moods: Sequence[str]) -> str:
    dialogue.report(0.14, "genre", "Finding the genre...", mood=moods)
    scores: Mapping[str, float] = {}
    neutral: Sequence[Mapping[str, float]] = ()
    if not labels.has_genre_cue(story.told):
        scores, neutral = await _scores(dialogue, "Genre", GENRES, story)
    genre = labels.choose_genre(story.told, moods, scores, neutral)
    dialogue.note(chosen="genre", value=genre, scores=_rounded(scores))
    return genre


async def _scores(
    dialogue: Dialogue, head: str, choices: Sequence[str], story: Story
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The labels' scores for the story, and for each of the neutral ones."""
    found = []
    for number, told in enumerate((*labels.NEUTRAL_STORIES, excerpt(story.told, BUDGET))):
        question = labels.label_question(head, told, f"{head.lower()}-{number}", dialogue.most_alternatives)
        found.append(labels.label_scores(await dialogue.ask(question), choices))
    return found[-1], found[:-1]


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {label: round(value, 3) for label, value in scores.items()}


async def _title_attempts(dialogue: Dialogue, story: Story, setting: Setting) -> list[tuple[float, str]]:
    """Titles that the model thought of, with their ranks; those that can't be one are left out."""
    messages = [Message("system", lyrics.POET)]
    for example, title in titles.EXAMPLES:
        messages += [Message("user", f"The story: {example}\n\n{_TITLE_PROMPT}"), Message("assistant", title)]
    messages.append(Message("user", f"The story: {excerpt(story.told, BUDGET)}\n\n{_TITLE_PROMPT}"))
    # The penalty for repetition counts the prompt's words, too: a title would have to avoid its story's.
    options = {**lyrics.SAMPLING, "temperature": 0.8, "repeat_penalty": 1.0, "num_predict": 12, "stop": ["\n"]}
    found: list[tuple[float, str]] = []
    for number in range(TITLE_ATTEMPTS):
        answer = await dialogue.ask(Question(f"title-{number}", messages, options, alternatives=1))
        attempt = titles.rank_attempt(answer, setting)
        found += [attempt] if attempt else []
        done = (number + 1) / TITLE_ATTEMPTS
        shown = {"title": max(found)[1]} if found else {}
        dialogue.report(0.22 + 0.13 * done, "title", "Generating title...", **shown)
    return found


def _title(
    dialogue: Dialogue, attempts: Sequence[tuple[float, str]], sections: Sequence[lyrics.Section], setting: Setting
) -> str:
    """The best among the attempts and the phrases of the lyrics; what the chorus sings is preferred."""
    chorus = [line for kind, lines in sections if kind == "chorus" for line in lines]
    every = [line for _, lines in sections for line in lines]
    sung = [frozenset[str]().union(*(line.stems for line in lines)) for lines in (chorus, every)]
    ranked = list(attempts)
    for phrase in titles.phrases(every):
        value = titles.rank(phrase, setting)
        ranked += [(value, phrase)] if value is not None else []
    ranked = [
        (value + 0.3 * sum(len(words & set(content_stems(title))) for words in sung), title) for value, title in ranked
    ]
    title = max(ranked)[1] if ranked else titles.title_of(every[0].text)
    dialogue.note(chosen="title", value=title, among=[shown for _, shown in sorted(set(ranked), reverse=True)[:12]])
    return title


def _setting(story: Story, moods: Sequence[str]) -> Setting:
    """Words that belong to moods of the opposite sign are not wanted, unless the story has them."""
    side = MOOD_AFFECT[moods[0]].valence
    against = {mood for mood, affect in MOOD_AFFECT.items() if abs(affect.valence - side) > CONTRARY}
    theirs = frozenset[str]().union(*(MOOD_CUES[mood] for mood in against))
    ours = frozenset[str]().union(*(MOOD_CUES[mood] for mood in moods))
    told = " ".join(plain(word) for word in words_of(story.told))
    return Setting(story.stems, story.names, told, story.people, theirs - ours - story.stems)
