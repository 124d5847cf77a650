"""Each section of a song has a prompt of its own: what it is, how strong, who plays, and how the song ends."""

from dataclasses import replace

import pytest

from harmonia_lab.audio_engines.musicgen.plan_sections import LEAST_S, prompted_sections
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.audio_engines.musicgen.song_conditions import sections_of
from harmonia_lab.audio_engines.text_prompts import MAX_PROMPT
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.music.composing import compose
from tests.audio_engines.musicgen.songs import plan, sectioned

FIELDS = "bpm: 96. key: A minor"


def told(song, description=None):
    return [(s.name, s.start, s.end, s.prompt) for s in prompted_sections(song, description)]


def test_an_intro_a_chorus_and_an_ending_are_asked_for_with_who_plays_in_them():
    assert told(sectioned()) == [
        ("intro", 0, 5, f"Soft intro of a nostalgic folk song with piano and drums. {FIELDS}"),
        ("chorus", 5, 12.5, f"Full chorus of a nostalgic folk song with piano, flute and drums. {FIELDS}"),
        ("outro", 12.5, 20, f"Soft ending of a nostalgic folk song with piano, flute and drums. {FIELDS}"),
    ]


def test_the_last_section_asks_for_an_ending_whatever_the_plan_calls_it():
    song = sectioned(15.0, [("verse", 3, 0.5), ("solo", 3, 0.7)])
    assert [s.prompt.partition(" of ")[0] for s in prompted_sections(song)] == ["Verse", "Full ending"]
    song = sectioned(22.5, [("verse", 3, 0.5), ("solo", 3, 0.7), ("outro", 3, 0.4)])
    assert prompted_sections(song)[1].prompt.startswith("Full instrumental solo of a nostalgic")


def test_neighbours_with_one_prompt_are_one_section():
    song = sectioned(30.0, [("verse", 3, 0.5), ("verse", 3, 0.55), ("chorus", 3, 0.9), ("outro", 3, 0.4)])
    song = replace(song, parts=song.parts[:1])
    assert [(name, start, end) for name, start, end, _ in told(song)] == [
        ("verse", 0, 15), ("chorus", 15, 22.5), ("outro", 22.5, 30),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ([("intro", 1, 0.3), ("verse", 4, 0.5), ("outro", 3, 0.4)], [("verse", 0, 12.5), ("outro", 12.5, 20)]),
        ([("verse", 3, 0.5), ("bridge", 1, 0.4), ("outro", 4, 0.4)], [("verse", 0, 10), ("outro", 10, 20)]),
        ([("verse", 7, 0.5), ("outro", 1, 0.4)], [("verse", 0, 15), ("outro", 15, 20)]),
        ([("verse", 4, 0.5), ("chorus", 3, 0.9), ("outro", 1, 0.4)],
         [("verse", 0, 10), ("chorus", 10, 15), ("outro", 15, 20)]),
    ],
    ids=["a short intro", "a short bridge", "a short ending", "an ending that takes a bar of the chorus"],
)  # fmt: skip
def test_what_is_too_short_for_a_window_is_told_with_its_neighbour(sections, expected):
    assert [each[:3] for each in told(sectioned(20.0, sections))] == expected


@pytest.mark.parametrize(
    "song",
    [plan(20.0), sectioned(20.0, [("outro", 8, 0.4)]), sectioned(5.0, [("intro", 1, 0.3), ("outro", 1, 0.4)])],
    ids=["none", "one", "one that is long enough"],
)
def test_a_plan_of_fewer_than_two_sections_has_no_section_prompts(song):
    assert prompted_sections(song) == []


def test_words_of_ones_own_stand_before_the_section():
    assert told(sectioned(), " rain on\na roof. ")[0][3] == "rain on a roof, soft intro with piano and drums"
    long = "x" * MAX_PROMPT
    assert {prompt for *_, prompt in told(sectioned(), long)} <= {long}


@pytest.mark.parametrize("seconds", [20, 90])
def test_the_sections_of_a_composed_song_lie_end_to_end_and_the_last_one_ends_it(seconds):
    metadata = plan().metadata.model_copy(
        update={"lyrics": "[Verse 1]\nThe lamp is low\nThe tide is slow\n\n[Chorus]\nCome home, come home\nOver foam"}
    )
    song = replace(compose(metadata, float(seconds), seed=3), metadata=metadata)
    found = prompted_sections(song)
    assert [a.end for a in found[:-1]] == [b.start for b in found[1:]]
    assert (found[0].start, found[-1].end) == (0, seconds)
    assert min(each.seconds for each in found) >= LEAST_S - 1e-9
    assert "ending of" in found[-1].prompt
    assert sum("ending of" in each.prompt for each in found) == 1


def test_a_song_that_fits_a_window_has_one_prompt_unless_sections_are_asked_for():
    def sections(song, **settings):
        return [s.name for s in sections_of(song, Settings(**settings), 30.0)]

    short, long = sectioned(), sectioned(40.0, [("intro", 4, 0.3), ("chorus", 6, 0.9), ("outro", 6, 0.4)])
    assert sections(short) == sections(short, windows="even") == sections(long, windows="even") == []
    assert sections(short, windows="plan") == sections(long) == ["intro", "chorus", "outro"]
    assert sections(long, prompt="rain") == sections(long, arrangement="stems") == []
    assert sections(long, prompt="rain", windows="plan") == ["intro", "chorus", "outro"]


@pytest.mark.parametrize(
    "settings",
    [{"windows": "odd"}, {"windows": "plan", "arrangement": "stems"}, {"best_of": 0}, {"best_of": 17},
     {"best_of": 2.0}, {"best_of": True}],
)  # fmt: skip
def test_what_cannot_be_is_refused(settings):
    with pytest.raises(InvalidRequest) as raised:
        Settings(**settings)
    assert next(iter(settings)) in raised.value.details["fields"]


def test_settings_that_are_the_defaults_leave_records_as_they_were():
    assert not {"windows", "best_of"} & Settings().to_json().keys()
    assert Settings.of(Settings(windows="plan", best_of=3).to_json()) == Settings(windows="plan", best_of=3)
