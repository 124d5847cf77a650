"""Songs in other languages: an Ollama server's answer arrives in the song's notes, sections, MIDI and lyrics.txt."""

import io
import json

import mido
import pytest

from harmonia_lab import Lab
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine
from harmonia_lab.music.composing import compose
from harmonia_lab.music.midi import CHARSET, song_to_midi
from harmonia_lab.protocol.models import parse_request
from harmonia_lab.testing import FakeOllama

SONGS = {
    "ja": (
        "昔、山のふもとにおじいさんが住んでいた。",
        {"Aメロ": ["雪が降る夜に", "海を見ていた"], "サビ": ["思い出の歌", "きょうも歌う"]},
        "雪 - が 降る - 夜 - に 海 - を 見 て い た 思い出 - - - の 歌 - きょ う も 歌う - -",
        8 + 7 + 7 + 6,
    ),
    "ar": (
        "سافر الكلب والقطة معًا إلى الغابة.",
        {"مقطع": ["يا ليل طويل", "يا قمر جميل"], "لازمة": ["قلبي يغني", "في الليل"]},
        "",
        None,
    ),
    "es": (
        "Mi abuela vendía flores en la plaza del pueblo.",
        {"Estrofa 1": ["La luna brilla en el mar", "Mi corazón va a volar"],
         "Estribillo": ["Vuela, paloma, vuela", "Sobre la nieve"]},
        "La luna - brilla - en el mar Mi corazón - - va a volar - Vuela - paloma - - vuela - Sobre - la nieve -",
        8 + 8 + 7 + 5,
    ),
    "ru": (
        "Жил-был старик со своею старухой у самого синего моря.",
        {"Куплет 1": ["Снова над морем луна", "Тихо поёт волна"],
         "Припев": ["Пой, моя песня, пой", "Ветер зовёт домой"]},
        "Снова - над морем - луна - Тихо - поёт - волна - Пой моя - песня - пой Ветер - зовёт - домой -",
        7 + 6 + 6 + 6,
    ),
    "zh": (
        "从前有座山，山上有座庙。",
        {"主歌": ["月亮照在山上", "风吹过我的窗"], "副歌": ["我在等你回家", "唱一首老的歌"]},
        " ".join("月亮照在山上风吹过我的窗我在等你回家唱一首老的歌"),
        24,
    ),
}  # fmt: skip
"""Narrative, the answer's sections, the texts under the notes, and the number of notes that are sung; by language."""


def answer(sections):
    return json.dumps(
        {
            "title": next(iter(sections.values()))[0],
            "lyrics": [{"section": name, "lines": lines} for name, lines in sections.items()],
            "genre": "folk",
            "mood": ["hopeful"],
            "bpm": 96,
            "key": "A minor",
            "instruments": ["flute", "piano", "double bass"],
        },
        ensure_ascii=False,
    )


def write(reply, **fields):
    """(metadata, the first chat's last message), from a server over HTTP."""
    with FakeOllama([reply]) as server:
        engine = OllamaEngine(host=server.url)
        result = engine.write(parse_request(**fields), 7, lambda _: None, CancelToken())
        return result.metadata, server.chats[0]["messages"][-1]["content"]


def lyric_events(plan):
    file = mido.MidiFile(file=io.BytesIO(song_to_midi(plan)), charset=CHARSET)
    return [message.text for track in file.tracks for message in track if message.type == "lyrics"]


@pytest.mark.parametrize("language", SONGS)
def test_lyrics_of_a_language_are_sung_a_syllable_a_note(language):
    narrative, sections, under_notes, notes = SONGS[language]
    metadata, asked = write(answer(sections), narrative=narrative)
    names = {"ja": "Japanese", "ar": "Arabic", "es": "Spanish", "ru": "Russian", "zh": "Chinese"}
    assert f"lyrics in {names[language]}" in asked
    assert metadata.language == language
    assert [section.lines for section in metadata.sections] == [tuple(lines) for lines in sections.values()]
    plan = compose(metadata, 30, 7)
    sung = [section.name for section in plan.sections if section.lyric_section is not None]
    assert sung[:2] == ["verse", "chorus"]
    every = [line for lines in sections.values() for line in lines]
    once = [line.text for line in plan.sung][: len(every)]
    assert once == every
    assert "".join(lyric_events(plan)).replace("\n", "").startswith("".join(f"{line} \r" for line in every))
    texts = [note.lyric for part in plan.parts for note in part.notes if note.lyric]
    if notes:
        assert len(texts) >= notes
        assert metadata.syllable_count == notes
    if under_notes:
        assert texts[: len(under_notes.split())] == under_notes.split()
    assert bool(metadata.warnings) == (language == "ar")


def test_the_song_of_a_japanese_story_is_right_on_disk(tmp_path):
    narrative, sections, _, _ = SONGS["ja"]
    with FakeOllama([answer(sections)]) as server:
        engine = OllamaEngine(host=server.url)
        with Lab(metadata=engine, audio="sketch", songs=tmp_path / "songs", home=tmp_path / "home") as lab:
            song = lab.compose(narrative, seconds=12, seed=3, progress=False)
    folder = next((tmp_path / "songs").iterdir())
    written = (folder / "lyrics.txt").read_text(encoding="utf-8")
    assert "雪が降る夜に" in written
    texts = [
        message.text
        for track in mido.MidiFile(folder / "song.mid", charset=CHARSET).tracks
        for message in track
        if message.type == "lyrics"
    ]
    assert texts[:3] == ["雪", "", "が"]
    assert song.metadata.language == "ja"
    assert json.loads((folder / "metadata.json").read_text())["language"] == "ja"


def test_a_language_that_was_asked_for_is_asked_of_the_model_and_missed_aloud():
    reply = answer({"Verse 1": ["The moon is on the sea tonight"], "Chorus": ["And I am waiting for the light"]})
    metadata, asked = write(reply, narrative="A lighthouse keeper.", language="German")
    assert "in German" in asked
    assert metadata.language == "en"
    assert metadata.warnings == ["Lyrics in German were asked for, and the model wrote English."]


def test_a_region_that_was_asked_for_stays_in_the_tag():
    reply = answer({"Verso": ["A lua brilha sobre o mar", "E o vento volta a me chamar"], "Refrão": ["Canta coração"]})
    metadata, _ = write(reply, narrative="A fisherman.", language="pt-BR")
    assert (metadata.language, metadata.warnings) == ("pt-BR", [])


def test_headers_inside_one_text_are_read_in_any_language():
    reply = json.loads(answer({"x": ["y"]})) | {
        "title": "Luna",
        "lyrics": "Estrofa 1:\nLa luna brilla en el mar\n\nEstribillo:\nVuela, paloma, vuela\n\n"
        "Estrofa 2:\nNo te olvido\n\nEstribillo:",
    }
    metadata, _ = write(json.dumps(reply), narrative="Una paloma cruza el mar.")
    found = [(section.name, section.lines) for section in metadata.sections]
    assert [name for name, _ in found] == ["Estrofa 1", "Estribillo", "Estrofa 2", "Estribillo"]
    assert found[3][1] == ("Vuela, paloma, vuela",)
