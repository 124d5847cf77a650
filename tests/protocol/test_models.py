"""Ranges, names and units of requests and metadata."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.protocol.models import Instrument, SongMetadata, SongRequest, check_contradictions, parse_request
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, TONICS, find_instrument, normalise_key

METADATA = {
    "title": "Harbour Light",
    "lyrics": "[Verse 1]\nThe lamp is burning low\nI wait for you\n\n[Chorus]\nHold on, hold on",
    "genre": "folk",
    "mood": ["nostalgic"],
    "bpm": 96,
    "key": "a min",
    "instruments": [{"name": "Guitar", "role": "chords"}],
}


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"narrative": ""}, "narrative", "empty"),
        ({"narrative": " \n\t "}, "narrative", "empty"),
        ({"narrative": "x" * 1_000_000}, "narrative", "1,000,000 characters"),
        ({"narrative": "\x00\x01\x7fELF"}, "narrative", "no text"),
        ({"narrative": "caf\udce9"}, "narrative", "no text"),
        ({"narrative": 5}, "narrative", "string"),
        ({"seconds": 0}, "seconds", "greater than or equal to 1"),
        ({"seconds": -1}, "seconds", "greater than or equal to 1"),
        ({"seconds": math.nan}, "seconds", "finite"),
        ({"seconds": math.inf}, "seconds", "finite"),
        ({"seconds": 601}, "seconds", "less than or equal to 600"),
        ({"seconds": 10**6}, "seconds", "less than or equal to 600"),
        ({"instruments": ["viollin"]}, "instruments", "Nearest: violin"),
        ({"instruments": []}, "instruments", "at least 1"),
        ({"instruments": ["piano"] * 9}, "instruments", "at most 8"),
        ({"key": "H major"}, "key", "no key"),
        ({"key": "A lydian"}, "key", "no key"),
        ({"bpm": 39}, "bpm", "greater than or equal to 40"),
        ({"bpm": 221}, "bpm", "less than or equal to 220"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**32}, "seed", "less than or equal to"),
        ({"generation_id": "../../etc"}, "generation_id", "pattern"),
    ],
)
def test_bad_input_is_answered_with_the_field_and_what_would_do(fields, field, says):
    with pytest.raises(InvalidRequest) as caught:
        parse_request(**{"narrative": "A story.", **fields})
    assert caught.value.code is ErrorCode.INVALID_PAYLOAD
    assert field in caught.value.details["fields"]
    assert says in str(caught.value)
    assert len(str(caught.value)) < 700


def test_what_metadata_says_is_not_said_again_beside_it():
    """Stage 1 alone reads these: beside metadata, nobody would."""
    request = parse_request(narrative="A story.", metadata=METADATA)
    assert check_contradictions(request) is request
    with pytest.raises(InvalidRequest, match="bpm, genre: the given metadata") as caught:
        check_contradictions(parse_request(metadata=METADATA, bpm=60, genre="jazz"))
    assert caught.value.details == {"fields": ["bpm", "genre"]}


@pytest.mark.parametrize(
    "narrative", ["🎵 A song about 🌊", "שלום עולם, סיפור קצר", "Había una vez…", "tab\tand\r\nlines"]
)
def test_any_text_is_a_narrative(narrative):
    assert parse_request(narrative=narrative).narrative == narrative.strip()


@given(st.text(max_size=50), st.floats(), st.integers(), st.text(max_size=20))
def test_nothing_but_a_harmonia_error_ever_comes_out(narrative, seconds, bpm, key):
    try:
        request = parse_request(narrative=narrative, seconds=seconds, bpm=bpm, key=key)
    except HarmoniaError:
        return
    assert 1 <= request.seconds <= 600
    assert SongRequest.model_validate_json(json.dumps(request.to_wire())) == request


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a min", "A minor"),
        ("Db", "C# major"),
        ("F♯m", "F# minor"),
        ("C M", "C major"),
        ("B♭ major", "Bb major"),
        ("h", None),
        ("Am7", None),
    ],
)
def test_keys_are_read_as_people_write_them(text, key):
    assert normalise_key(text) == key


def test_every_tonic_is_a_key_of_its_own():
    assert [normalise_key(tonic) for tonic in TONICS] == [f"{tonic} major" for tonic in TONICS]


@pytest.mark.parametrize(
    ("text", "name"), [("Guitar", "acoustic guitar"), ("drum-kit", "drums"), ("Violins", "violin"), ("kazoo", None)]
)
def test_instruments_are_found_by_what_people_call_them(text, name):
    assert find_instrument(text) == name


def test_a_bare_instrument_name_plays_its_usual_role():
    request = parse_request(narrative="x", instruments=["bass", Instrument(name="piano", role="lead")])
    assert [(i.name, i.role) for i in request.instruments] == [("bass guitar", "bass"), ("piano", "lead")]
    assert all(info.role != "mix" for info in INSTRUMENTS.values())


def test_metadata_counts_what_is_sung_and_not_the_headers():
    metadata = SongMetadata.model_validate(METADATA)
    assert [s.name for s in metadata.sections] == ["Verse 1", "Chorus"]
    assert metadata.word_count == 13
    assert metadata.syllable_count == 14
    assert metadata.key == "A minor"


def test_lyrics_without_headers_are_one_verse():
    metadata = SongMetadata.model_validate(METADATA | {"lyrics": "one line\n\nand another"})
    assert metadata.sections == (("Verse", ("one line", "and another")),)


def test_the_wire_has_the_guides_names_and_reads_back():
    wire = SongMetadata.model_validate(METADATA).to_wire()
    assert {"title", "lyrics", "genre", "mood", "syllableCount", "wordCount"} <= wire.keys()
    assert SongMetadata.model_validate(wire).to_wire() == wire
