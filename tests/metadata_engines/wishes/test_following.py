"""Wishes are followed: explicit options beat them, they beat the model, and what can't be done is said."""

import pytest

from harmonia_lab.metadata_engines.wishes import understand, with_wished_length
from harmonia_lab.metadata_engines.wishes.following import tempo_band
from harmonia_lab.music.genres import nearest_genre
from harmonia_lab.protocol.models import Instrument, SongRequest, parse_request
from harmonia_lab.testing import SONG_METADATA

WALTZ = "A slow waltz in D minor with solo cello and piano, 80 bpm, about an old ballroom."


def followed(narrative, **options):
    return understand(parse_request(narrative=narrative, **options)).followed_by(SONG_METADATA)


def names(song):
    return [instrument.name for instrument in song.instruments]


def outcomes(song):
    return {wish.value: wish.outcome for wish in song.wishes}


def test_wishes_beat_the_model():
    song = followed(WALTZ)
    assert (song.genre, song.bpm, song.key, names(song)) == ("waltz", 80, "D minor", ["cello", "piano"])
    assert set(outcomes(song).values()) == {"followed"}
    assert song.warnings == []


def test_options_beat_wishes():
    song = followed(WALTZ, bpm=140, key="A major", genre="rock", instruments=["organ"])
    assert (song.genre, song.bpm, song.key, names(song)) == ("rock", 140, "A major", ["organ"])
    assert {outcomes(song)[value] for value in ("80 bpm", "D minor", "waltz", "cello", "piano")} == {"overruled"}


def test_wishes_can_be_switched_off():
    asked = understand(parse_request(narrative=WALTZ, wishes=False))
    assert asked.request.narrative == WALTZ
    assert asked.followed_by(SONG_METADATA) == SONG_METADATA
    assert asked.status == ""


@pytest.mark.parametrize("narrative", [WALTZ, "lofi slow bpm", "Slow polka with choir, ukulele and no drums, 7/8"])
def test_to_follow_twice_changes_nothing(narrative):
    asked = understand(parse_request(narrative=narrative))
    once = asked.followed_by(SONG_METADATA)
    assert asked.followed_by(once) == once


def test_no_drums_leaves_the_rest_of_the_band():
    drums = [Instrument(name=name, role="drums") for name in ("drum machine", "brush kit")]
    given = SONG_METADATA.model_copy(update={"instruments": [*SONG_METADATA.instruments, *drums]})
    song = understand(parse_request(narrative="reggae with no drums")).followed_by(given)
    assert names(song) == ["piano", "flute"]


def test_a_band_is_never_empty():
    assert names(followed("Please no piano and no flute. The boat sank.")) != []


def test_a_named_instrument_takes_the_place_of_another_in_its_role():
    assert names(followed("a folk song with violin")) == ["piano", "violin"]


def test_an_instrumental_has_no_words():
    song = followed("Instrumental, please. The sea after a storm.")
    assert song.lyrics == ""
    assert song.word_count == 0


@pytest.mark.parametrize("genre", ["waltz", "reggae", "metal", "lofi", "ambient"])
def test_tempo_words_are_ordered_in_every_genre(genre):
    bands = [tempo_band(word, genre) for word in ("very slow", "slow", "moderate", "fast", "very fast")]
    middles = [low + high for low, high in bands]
    assert middles == sorted(middles)
    assert all(40 <= low < high <= 220 for low, high in bands)


def test_a_slow_song_is_slow_for_its_genre():
    assert followed("slow reggae").bpm < 72
    assert followed("fast reggae").bpm > 90


def test_a_mode_alone_keeps_the_tonic():
    assert followed("Use a major key, please. She left.").key == "A major"


def test_moods_are_those_that_were_asked_for():
    assert followed("Make it dark and tense. The door opens.").mood == ["dark", "tense"]
    assert "sad" not in followed("a folk song, but not sad, about the harbour").mood


@pytest.mark.parametrize(
    ("narrative", "said"),
    [
        ("7/8, prog rock", "7/8"),
        ("ambient with a big choir", "choir"),
        ("folk with ukulele", "nylon guitar"),
        ("a polka for my uncle", "polka"),
        ("pop, female vocals", "woman's voice"),
        ("techno, 300 bpm", "220"),
        ("a battle song, lyrics in Klingon", "Klingon"),
        ("ambient, 45 minutes", "600 s"),
    ],
)
def test_what_cannot_be_done_is_said(narrative, said):
    song = followed(narrative)
    assert any(said in warning for warning in song.warnings)
    assert all(warning.endswith(".") for warning in song.warnings)


def test_three_four_time_is_a_waltz():
    song = followed("folk song in 3/4 about the ice")
    assert nearest_genre(song.genre) == "waltz"
    assert outcomes(song)["meter: 3/4"] == "followed"


def test_a_length_is_followed_if_the_caller_gave_none():
    assert with_wished_length(SongRequest(narrative="two minutes of ambient")).seconds == 120
    assert with_wished_length(SongRequest(narrative="two minutes of ambient", seconds=20)).seconds == 20
    assert with_wished_length(SongRequest(narrative="two minutes of ambient", wishes=False)).seconds == 20
    assert outcomes(followed("two minutes of ambient", seconds=20))["120 s long"] == "overruled"


def test_a_language_goes_to_stage_1():
    assert understand(SongRequest(narrative="Lyrics in Spanish, please. The mill.")).request.language == "es"
    assert understand(SongRequest(narrative="Lyrics in Spanish, please.", language="de")).request.language == "de"


def test_where_nothing_but_a_wish_is_left_its_words_are_the_material():
    assert understand(SongRequest(narrative="lofi slow bpm")).request.narrative == "A lofi song."
    assert understand(SongRequest(narrative="sad violin only")).request.narrative == "A sad violin song."


def test_the_status_says_what_was_understood():
    assert understand(SongRequest(narrative=WALTZ)).status == (
        "Wishes: slow, waltz, D minor, no other instruments, cello, piano, 80 bpm"
    )
