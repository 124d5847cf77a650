"""The strategy for small models: mood, genre, title and lyrics, each by questions of its own.

Owns the order of the steps and the prompt for titles (not what makes a good label, title or line: `labels.py`,
`titles.py`, `lyrics.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from harmonia_lab.languages.tags import language_name, primary
from harmonia_lab.metadata_engines.prompting import labels, lyrics, titles
from harmonia_lab.metadata_engines.prompting.cues import MOOD_CUES
from harmonia_lab.metadata_engines.prompting.dialogue_types import ChatMessage, Dialogue, Question
from harmonia_lab.metadata_engines.prompting.lines import StoryContext
from harmonia_lab.metadata_engines.prompting.story import Story, excerpt, excerpt_note, read_story
from harmonia_lab.metadata_engines.prompting.verses import form_for
from harmonia_lab.metadata_engines.prompting.words import content_stems, plain
from harmonia_lab.metadata_engines.wishes import understand
from harmonia_lab.music.moods import MOOD_AFFECT, suggest_features
from harmonia_lab.music.seeds import derive_seed, narrative_digest
from harmonia_lab.protocol.models import SongMetadata, SongRequest
from harmonia_lab.protocol.vocabulary import GENRES, MOODS
from harmonia_lab.syllables import words_of

__all__ = ["template_version", "write_song"]

BUDGET = 600
"""Characters of the story in a prompt for labels and titles, some 150 tokens."""

TITLE_ATTEMPTS = 8
_TITLE_PROMPT = "Write a short title for a song about this story."

CONFLICT = 0.9
"""Moods whose valences (each −1…1) differ by more than this contradict each other."""


def template_version() -> str:
    """Return a version that changes when one of the prompts below or `lyrics.SAMPLING` changes."""
    prompts = (lyrics.POET, lyrics.PROMPTS, lyrics.SAMPLING, _TITLE_PROMPT, titles.EXAMPLES)
    text = repr((prompts, labels.SHOTS, labels.NEUTRAL_STORIES))
    return f"stepwise-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


async def write_song(dialogue: Dialogue, request: SongRequest, seed: int) -> SongMetadata:
    """Return the song's metadata. Raises MetadataError; METADATA_INVALID if the model writes no usable line."""
    asked = understand(request)
    request = asked.request
    story = read_story(request.narrative)
    warnings = _language_warnings(story, request.language)
    dialogue.report(0.0, "analysis", " ".join(["Analyzing narrative...", *warnings]))
    for warning in warnings:
        dialogue.note(note=warning)
    if len(story.prompt_text) > BUDGET:
        dialogue.note(note=excerpt_note(story.prompt_text))
    moods = asked.moods or await _moods(dialogue, story)
    genre = request.genre or await _genre(dialogue, story, moods)
    dialogue.report(0.22, "title", "Generating title...", genre=genre, mood=moods)
    context = _context(story, moods)
    attempts = await _title_attempts(dialogue, story, context)
    draft = max(attempts)[1] if attempts else ""
    writer = lyrics.LyricWriter(dialogue, story, context, draft)
    sections = (
        []
        if asked.instrumental
        else await writer.write(
            form_for(request.seconds),
            lambda done, lines: dialogue.report(0.35 + 0.6 * done, "lyrics", "Creating lyrics...", lyrics=lines),
        )
    )
    title = _title(dialogue, attempts, sections, context) or titles.title_of(f"{moods[0]} {genre}")
    text = lyrics.as_text(sections)
    dialogue.report(1.0, "lyrics", "Metadata complete", title=title, lyrics=text)
    style_seed = derive_seed(seed, "style", narrative_digest(request.narrative))
    suggestion = suggest_features(genre, moods, style_seed, narrative=story.prompt_text)
    metadata = SongMetadata(
        title=title,
        lyrics=text,
        genre=genre,
        mood=moods,
        bpm=request.bpm or suggestion.bpm,
        key=request.key or suggestion.key,
        instruments=request.instruments or list(suggestion.instruments),
        language="en",
        warnings=warnings,
    )
    return asked.followed_by(metadata)


def _language_warnings(story: Story, asked: str | None) -> list[str]:
    """Return what is to be said of languages before the song is written: the model writes English only."""
    found = [story.note] if story.note else []
    if asked and primary(asked) != "en":
        name = language_name(asked)
        found.append(f"Lyrics in {name} were asked for, and this small model writes English only: use a larger one.")
    return found


async def _moods(dialogue: Dialogue, story: Story) -> list[str]:
    dialogue.report(0.02, "mood", "Finding the mood...")
    scores, neutral = await _scores(dialogue, "Mood", MOODS, story)
    moods = labels.choose_moods(story.prompt_text, scores, neutral)
    dialogue.note(chosen="mood", value=moods, scores=_rounded(scores))
    return moods


async def _genre(dialogue: Dialogue, story: Story, moods: Sequence[str]) -> str:
    dialogue.report(0.14, "genre", "Finding the genre...", mood=moods)
    scores: Mapping[str, float] = {}
    neutral: Sequence[Mapping[str, float]] = ()
    if not labels.has_genre_cue(story.prompt_text):
        scores, neutral = await _scores(dialogue, "Genre", GENRES, story)
    genre = labels.choose_genre(story.prompt_text, moods, scores, neutral)
    dialogue.note(chosen="genre", value=genre, scores=_rounded(scores))
    return genre


async def _scores(
    dialogue: Dialogue, head: str, choices: Sequence[str], story: Story
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Return the labels' scores for the story and, to calibrate them (`labels.py`), for each neutral story."""
    found = []
    for number, text in enumerate((*labels.NEUTRAL_STORIES, excerpt(story.prompt_text, BUDGET))):
        question = labels.label_question(head, text, f"{head.lower()}-{number}", dialogue.max_top_logprobs)
        found.append(labels.label_scores(await dialogue.ask(question), choices))
    return found[-1], found[:-1]


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {label: round(value, 3) for label, value in scores.items()}


async def _title_attempts(dialogue: Dialogue, story: Story, context: StoryContext) -> list[tuple[float, str]]:
    """Return (rank, title) of each attempt that was not refused; a higher rank is better."""
    messages = [ChatMessage("system", lyrics.POET)]
    for example, title in titles.EXAMPLES:
        messages += [ChatMessage("user", f"The story: {example}\n\n{_TITLE_PROMPT}"), ChatMessage("assistant", title)]
    messages.append(ChatMessage("user", f"The story: {excerpt(story.prompt_text, BUDGET)}\n\n{_TITLE_PROMPT}"))
    # No repeat_penalty: it would penalise the story's own words, which a good title uses.
    options = {**lyrics.SAMPLING, "temperature": 0.8, "repeat_penalty": 1.0, "num_predict": 12, "stop": ["\n"]}
    found: list[tuple[float, str]] = []
    for number in range(TITLE_ATTEMPTS):
        answer = await dialogue.ask(Question(f"title-{number}", messages, options, top_logprobs=1))
        attempt = titles.rank_attempt(answer, context)
        found += [attempt] if attempt else []
        best = {"title": max(found)[1]} if found else {}
        dialogue.report(0.22 + 0.13 * ((number + 1) / TITLE_ATTEMPTS), "title", "Generating title...", **best)
    return found


def _title(
    dialogue: Dialogue,
    attempts: Sequence[tuple[float, str]],
    sections: Sequence[lyrics.SectionLines],
    context: StoryContext,
) -> str:
    """Return the best-ranked title among the attempts and the phrases of the lyrics.

    Each of its words that is sung adds 0.3, and 0.3 more if the chorus sings it.
    """
    chorus = [line for kind, lines in sections if kind == "chorus" for line in lines]
    every = [line for _, lines in sections for line in lines]
    sung = [frozenset[str]().union(*(line.stems for line in lines)) for lines in (chorus, every)]
    found = [(titles.rank(phrase, context), phrase) for phrase in titles.phrases(every)]
    ranked = [
        (value + 0.3 * sum(len(words & set(content_stems(title))) for words in sung), title)
        for value, title in [*attempts, *found]
        if value is not None
    ]
    # The writer raises rather than write no line; an instrumental has none.
    title = max(ranked)[1] if ranked else titles.title_of(every[0].text) if every else ""
    among = [candidate for _, candidate in sorted(set(ranked), reverse=True)[:12]]
    dialogue.note(chosen="title", value=title, among=among)
    return title


def _context(story: Story, moods: Sequence[str]) -> StoryContext:
    """Return the story as lines and titles are compared with it.

    Cue words of moods opposite to the first one conflict, unless the story or its own moods use them.
    """
    valence = MOOD_AFFECT[moods[0]].valence
    opposite = {mood for mood, affect in MOOD_AFFECT.items() if abs(affect.valence - valence) > CONFLICT}
    opposite_cues = frozenset[str]().union(*(MOOD_CUES[mood] for mood in opposite))
    own_cues = frozenset[str]().union(*(MOOD_CUES[mood] for mood in moods))
    plain_text = " ".join(plain(word) for word in words_of(story.prompt_text))
    names = story.names | titles.numerals(story.prompt_text)
    return StoryContext(story.stems, names, plain_text, story.persons, opposite_cues - own_cues - story.stems)
