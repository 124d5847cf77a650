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
from harmonia_lab.metadata_engines.prompting.dialogue_types import Dialogue
from harmonia_lab.metadata_engines.prompting.examples import song_prompt
from harmonia_lab.metadata_engines.prompting.lines import StoryContext
from harmonia_lab.metadata_engines.prompting.story import Story, excerpt, excerpt_note, read_story
from harmonia_lab.metadata_engines.prompting.verses import form_for
from harmonia_lab.metadata_engines.prompting.words import content_stems, hero_of, plain, proper_names
from harmonia_lab.metadata_engines.wishes import understand
from harmonia_lab.music.genres import GENRE_STYLES, nearest_genre
from harmonia_lab.music.moods import MOOD_AFFECT, suggest_features
from harmonia_lab.music.seeds import derive_seed, narrative_digest
from harmonia_lab.protocol.models import SongMetadata, SongRequest
from harmonia_lab.protocol.vocabulary import GENRES, MOODS
from harmonia_lab.syllables import words_of

__all__ = ["template_version", "write_song"]

BUDGET = 600
"""Characters of the story in a prompt for labels and titles, some 150 tokens, and in the first one for lyrics."""


CONFLICT = 0.9
"""Moods whose valences (each −1…1) differ by more than this contradict each other."""


def template_version() -> str:
    """Return a version that changes when one of the prompts below or `lyrics.SAMPLING` changes."""
    text = repr((song_prompt(""), lyrics.SAMPLING, labels.SHOTS, labels.NEUTRAL_STORIES))
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
    style_seed = derive_seed(seed, "style", narrative_digest(request.narrative))
    suggestion = suggest_features(genre, moods, style_seed, narrative=story.prompt_text)
    bpm = request.bpm or asked.bpm_for(suggestion.bpm, genre)  # now: how many lines fit depends on it
    bar_seconds = 60.0 / bpm * GENRE_STYLES[nearest_genre(genre)].beats_per_bar
    form, syllables = form_for(request.seconds, bar_seconds)
    context = _context(story, moods, syllables)
    writer = lyrics.LyricWriter(dialogue, story, context, genre=genre, mood=moods)
    sections = lyrics.sung_part(await writer.write(form), request.seconds, bar_seconds)
    if asked.instrumental:
        sections = []  # the model writes a title over lyrics only, so that an instrumental needs them too
    title = _title(dialogue, writer.titles, sections, context) or titles.title_of(f"{moods[0]} {genre}")
    text = lyrics.as_text(sections)
    dialogue.report(1.0, "lyrics", "Metadata complete", title=title, lyrics=text)
    metadata = SongMetadata(
        title=title,
        lyrics=text,
        genre=genre,
        mood=moods,
        bpm=bpm,
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
    """Return the labels' scores for the story and, to calibrate them (`labels.py`), for each neutral story.

    The neutral stories' scores are a constant of the model: `labels.known_neutral` has them for the shipped one.
    """
    found = []
    known = labels.known_neutral(dialogue.model_digest, head)
    texts = [excerpt(story.prompt_text, BUDGET), *(() if known else labels.NEUTRAL_STORIES)]
    for number, text in enumerate(texts):
        question = labels.label_question(head, text, f"{head.lower()}-{number}", dialogue.max_top_logprobs)
        found.append(labels.label_scores(await dialogue.ask(question), choices))
    return found[0], [known] if known else found[1:]


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {label: round(value, 3) for label, value in scores.items()}


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


def _context(story: Story, moods: Sequence[str], syllables: int) -> StoryContext:
    """Return the story as lines and titles are compared with it.

    Cue words of moods opposite to the first one conflict, unless the story or its own moods use them.
    """
    valence = MOOD_AFFECT[moods[0]].valence
    opposite = {mood for mood, affect in MOOD_AFFECT.items() if abs(affect.valence - valence) > CONFLICT}
    opposite_cues = frozenset[str]().union(*(MOOD_CUES[mood] for mood in opposite))
    own_cues = frozenset[str]().union(*(MOOD_CUES[mood] for mood in moods))
    plain_text = " ".join(plain(word) for word in words_of(story.prompt_text))
    return StoryContext(
        story.stems,
        story.names | titles.numerals(story.prompt_text),
        plain_text,
        story.persons,
        mood_conflicts=opposite_cues - own_cues - story.stems,
        proper_names=tuple(proper_names(story.prompt_text)) if story.stems else (),
        hero=hero_of(story.prompt_text) if story.stems else None,
        syllables=syllables,
    )
