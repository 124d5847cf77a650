"""Which language a text is in, what languages are called, and what songs call their sections."""

import pytest

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.languages.detection import detect_language
from harmonia_lab.languages.section_names import header_of, section_kind
from harmonia_lab.languages.tags import language_name, language_tag
from harmonia_lab.protocol.models import SongMetadata, parse_request


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("rain on tin", "en"), ("Old stone well. A toad slips in. Rings of quiet.", "en"),
        ("upbeat 80s synthwave about driving through the city at night", "en"), ("Mi amor se fue al mar", "es"),
        ("Es war einmal ein kleines Mädchen", "de"), ("Pieni tyttö kulkee metsässä", "fi"),
        ("Bir varmış bir yokmuş", "tr"), ("昔、山のふもとに", "ja"), ("从前有座山", "zh"), ("옛날 옛적에", "ko"),
        ("سافر الكلب والقطة معًا إلى الغابة", "ar"), ("Жил-был старик у самого синего моря", "ru"),
        ("Була собі дівчина", "uk"), ("Μια φορά κι έναν καιρό", "el"), ("היה היה מלך אחד", "he"),
        ("एक समय की बात है", "hi"), ("กาลครั้งหนึ่ง", "th"), ("She said 雪 to the man in the door.", "en"),
        ("🐋🌊", None), ("", None), ("123 !!", None),
    ],
)  # fmt: skip
def test_the_language_of_a_text(text, tag):
    assert detect_language(text) == tag


@pytest.mark.parametrize(
    ("given", "tag"),
    [
        ("de", "de"),
        ("German", "de"),
        ("deutsch", "de"),
        ("pt_br", "pt-BR"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("日本語", "ja"),
        ("jp", "ja"),
        ("Klingon", None),
        ("x", None),
        ("de-!", None),
    ],
)
def test_languages_by_tag_or_name(given, tag):
    assert language_tag(given) == tag


def test_a_request_takes_a_language_by_name_and_refuses_one_that_is_none():
    assert parse_request(narrative="A story.", language="German").language == "de"
    assert language_name("pt-BR") == "Portuguese"
    with pytest.raises(InvalidRequest, match=r"'Germna' is no language that we know.*German"):
        parse_request(narrative="A story.", language="Germna")


NAMES = {
    "chorus": "Chorus|Refrain 2|Estribillo|サビ|ラストサビ|副歌|Припев|Ritornello|Refrão|Kehrreim|Coro|Hook|"
    "후렴|الكورس|פזמון|Refrén",
    "verse": "Verse 1|Strophe 2|Couplet 1|Куплет 3|Aメロ|主歌|Strofa|Estrofa|Pre-Chorus|"
    "Pré-Refrão|Zwrotka|1절|Pre-Estribillo",
    "bridge": "Bridge|Puente|Brücke|Pont|Ponte|Бридж|大サビ|Cメロ|Middle 8|브릿지",
    "outro": "Outro|Coda|Концовка|アウトロ|Schluss",
    "intro": "Intro|イントロ|Вступление",
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names.split("|")])
def test_section_names_of_many_languages_are_recognised(kind, name):
    assert section_kind(name) == kind
    for header in (f"[{name}]", f"**{name}:**", f"【{name}】"):
        assert header_of(header) == name


@pytest.mark.parametrize(
    "line", ["la la la", "Bridge over water", "Hookah", "Final", "The end of summer", "Coro de ángeles en la noche", ""]
)
def test_a_line_of_lyrics_is_no_header(line):
    assert header_of(line) is None


def test_a_chorus_that_is_named_alone_repeats_its_words():
    song = SongMetadata(
        title="Luna",
        lyrics="[Estrofa]\nMira la luna que no duerme\n\n[Estribillo]\nVuela, vuela\n\n"
        "[Estrofa 2]\nSin ti\n\n[Estribillo]\n",
        genre="pop", mood=["hopeful"], bpm=100, key="C major", instruments=[{"name": "piano", "role": "chords"}],
    )  # fmt: skip
    assert [(section.name, section.lines) for section in song.sections][-1] == ("Estribillo", ("Vuela, vuela",))
    assert song.sung_language == "es"
    assert song.syllable_count == 9 + 4 + 2 + 4


@pytest.mark.parametrize(
    "text", ["jazz night", "two cats in Paris", "Tango in Buenos Aires", "Sing for Ukraine", "ninja"]
)
def test_a_short_english_text_is_not_taken_for_another_language(text):
    assert detect_language(text) == "en"
