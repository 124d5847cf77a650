"""An answer is read through thoughts, prose, fences and missing ends."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonia_lab.metadata_engines.prompting.answers import (
    find_object,
    find_record,
    parse_partial,
    plain_line,
    without_thoughts,
)

SONG = {"title": 'The "Lamp"', "lyrics": [{"section": "Verse 1", "lines": ["one, two", "three {four}"]}], "bpm": 90}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>Well, {a}…</think>\n\nHi", "Hi"),
        ("<think>It never ends", ""),
        ("It began before.</think>Hi", "Hi"),
        ("<Thinking>x</Thinking> Hi", "Hi"),
        (" a plain answer", " a plain answer"),
    ],
)
def test_thoughts_are_removed(text, answer):
    assert without_thoughts(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(SONG),
        f"Sure! Here is your song:\n```json\n{json.dumps(SONG, indent=2)}\n```\nI hope that {{you}} like it.",
        f'{{"note": "first"}} {json.dumps(SONG)}',
        "{broken " + json.dumps(SONG),
    ],
)
def test_an_object_is_found_in_the_text_around_it(text):
    assert find_object(text) == SONG


WHOLE = {
    "title": "It's late",
    "lyrics": [{"section": "Verse 1", "lines": ["one, two", "three"]}, {"section": "Chorus", "lines": ["four"]}],
    "bpm": 90,
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(WHOLE),
        json.dumps(WHOLE).replace("]", ",]").replace("}", ",}"),
        json.dumps(WHOLE, indent=1).replace('"bpm"', '// quick\n"bpm"').replace('"lyrics"', '/* sung */ "lyrics"'),
        str(WHOLE),
        json.dumps(WHOLE).replace("'", "\\u0027").replace('"', "'"),
        json.dumps(WHOLE).replace('"title"', "title").replace('"bpm"', "bpm"),
        json.dumps(WHOLE)[:-1],
        json.dumps(WHOLE).replace(', "bpm"', ' "bpm"'),
        json.dumps({"song": WHOLE}),
        json.dumps({"status": "ok", "result": [WHOLE]}),
        f"Here is {{your}} song:\n```json\n{json.dumps(WHOLE)[:-1]},}}\n```\nEnjoy {{it}}!",
        json.dumps({"note": "a long remark " * 40}) + json.dumps(WHOLE),
        "\ufeff" + json.dumps(WHOLE),
    ],
    ids=["strict", "commas", "comments", "python", "single", "bare", "open", "comma", "wrapped", "list", "prose",
         "after", "bom"],
)  # fmt: skip
def test_a_song_is_read_from_json_with_faults(text):
    assert find_record(text, WHOLE.keys()) == WHOLE


def test_raw_line_ends_and_quotes_inside_a_text_are_read():
    found = find_record('{"title": "A", "lyrics": "one\ntwo", "bpm": 90}', WHOLE.keys())
    assert found["lyrics"] == "one\ntwo"
    found = find_record('{"title": "A", "lyrics": ["He said "go" to me", "two"], "bpm": 90}', WHOLE.keys())
    assert found["lyrics"] == ['He said "go" to me', "two"]


@pytest.mark.parametrize("text", ["", "no song", "{}", '{"other": 1}', "{" * 3000, "[" * 50_000, "Use {curly} words."])
def test_what_holds_no_song_gives_none_and_ends(text):
    assert find_record(text, WHOLE.keys()) is None


@given(st.text(alphabet="{}[]\",:\\\n 'abtitle/*", max_size=200))
def test_any_text_is_read_without_an_error(text):
    found = find_record(text, WHOLE.keys())
    assert found is None or isinstance(found, dict)


@pytest.mark.parametrize("text", ["", "no object", "[1, 2]", "{half", "<html><body>{}</body"])
def test_no_song_is_found_where_there_is_none(text):
    assert not find_object(text)


def test_a_song_is_read_while_it_is_written():
    text = json.dumps(SONG)
    half = text[: text.index("three") + 3]
    assert parse_partial(half) == {
        "title": 'The "Lamp"',
        "lyrics": [{"section": "Verse 1", "lines": ["one, two", "thr"]}],
    }
    assert parse_partial(text) == SONG
    assert parse_partial("Sure! ") == {}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
        max_leaves=8,
    ),
    st.data(),
)
def test_half_of_any_object_never_fails_and_the_whole_is_exact(value, data):
    text = json.dumps({"value": value})
    cut = data.draw(st.integers(0, len(text)))
    assert isinstance(parse_partial(text[:cut]), dict)
    assert parse_partial(text) == {"value": value}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("**Hold** _on_", "Hold on"),
        ("- Hold on", "Hold on"),
        ("2. Hold on", "Hold on"),
        ('"Hold on"', "Hold on"),
        ("<b>Hold</b> on\x07", "Hold on"),
        ("Hold\u202e on\u200b", "Hold on"),
        ("Señor, it's 5 o'clock", "Señor, it's 5 o'clock"),
    ],
)
def test_no_markup_and_no_control_character_reaches_a_line(text, line):
    assert plain_line(text) == line
