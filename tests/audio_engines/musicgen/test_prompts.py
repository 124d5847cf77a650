"""Prompts say what the metadata says, in the form that MusicGen was trained on."""

import pytest

from harmonia_lab.audio_engines.musicgen.prompts import check_prompt, prompt
from harmonia_lab.audio_engines.text_prompts import MAX_PROMPT
from harmonia_lab.errors import ErrorCode, InvalidRequest
from harmonia_lab.protocol.models import SongMetadata
from harmonia_lab.protocol.vocabulary import INSTRUMENTS

METADATA = SongMetadata(
    title="Harbour Light",
    lyrics="[Verse 1]\nThe lamp is burning low",
    genre="folk",
    mood=["nostalgic"],
    bpm=96,
    key="A minor",
    instruments=[
        {"name": "piano", "role": "chords"},
        {"name": "flute", "role": "lead"},
        {"name": "drums", "role": "drums"},
    ],
)


def with_(**changes):
    return SongMetadata.model_validate(METADATA.model_dump(mode="json") | changes)


def test_the_whole_mix_is_a_caption_with_fields():
    assert prompt(METADATA) == "A nostalgic folk song with piano, flute and drums. bpm: 96. key: A minor"


def test_an_instrument_is_asked_for_alone_with_what_it_plays():
    assert (
        prompt(METADATA, METADATA.instruments[1])
        == "Solo flute playing the melody, nostalgic folk. instrument: flute. bpm: 96. key: A minor"
    )


def test_drums_have_a_tempo_and_no_key():
    text = prompt(METADATA, METADATA.instruments[2])
    assert "bpm: 96" in text
    assert "key" not in text


def test_the_article_fits_the_mood():
    assert prompt(with_(mood=["angry", "dark"])).startswith("An angry, dark folk song")


def test_words_of_ones_own_stand_as_they_are_for_the_mix_and_lead_each_instrument():
    description = "  warm lo-fi,\nvinyl crackle. "
    assert prompt(METADATA, None, description) == "warm lo-fi, vinyl crackle"
    assert prompt(METADATA, METADATA.instruments[0], description).startswith(
        "Solo piano playing the chords, warm lo-fi, vinyl crackle."
    )


def test_lyrics_and_title_stay_out():
    assert "lamp" not in prompt(METADATA)
    assert "Harbour" not in prompt(METADATA)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_every_instrument_can_be_asked_for(name):
    info = INSTRUMENTS[name]
    metadata = with_(instruments=[{"name": name, "role": info.role}])
    assert prompt(metadata, metadata.instruments[0]).startswith(f"Solo {name} ")


@pytest.mark.parametrize("metadata", [METADATA, with_(mood=["x" * 100_000])])
def test_a_hundred_kilobytes_are_refused_wherever_they_come_from(metadata):
    description = "la " * 35_000 if metadata is METADATA else None
    with pytest.raises(InvalidRequest, match=r"10\d,") as raised:
        prompt(metadata, None, description)
    assert raised.value.code == ErrorCode.INVALID_PAYLOAD
    assert str(MAX_PROMPT)[0] in raised.value.message


def test_control_characters_are_no_text():
    with pytest.raises(InvalidRequest, match="control"):
        check_prompt("piano\x00solo")
    assert check_prompt("Klavier – ruhig, 静か") == "Klavier – ruhig, 静か"


@pytest.mark.parametrize(
    "text",
    [
        "نمی\u200cخواهم",
        "क्\u200dष",
        "👩\u200d🚀 rocket",
        "ru\u00adhig",
        "\ufeffpiano",
        "family \U0001f468\u200d\U0001f469\u200d\U0001f467",
    ],
    ids=["Persian", "Hindi", "emoji", "soft hyphen", "BOM", "family"],
)
def test_joiners_soft_hyphens_and_marks_are_ordinary_text(text):
    assert check_prompt(text) == text
    assert prompt(METADATA, None, text) == text


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\ud800b", "\ufeff", "bytes \ufffd"])
def test_what_is_no_text_is_refused_before_anything_runs(text):
    with pytest.raises(InvalidRequest, match="The prompt for MusicGen"):
        check_prompt(text)
