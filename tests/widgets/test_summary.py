"""The plain summary: nothing a model wrote becomes markup, and the picture is an output of its own."""

import base64
import json
from html.parser import HTMLParser

from harmonia_lab.client.store import State, reduce
from harmonia_lab.widgets.finished import FinishedSong
from harmonia_lab.widgets.summary import EMPTY, bundles
from harmonia_lab.widgets.view_model import view
from tests.events.stories import told_live

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">'


def shown(ending="completed", **changes):
    state = State()
    for event in told_live(ending=ending):
        state = reduce(state, event)
    return view(state.generations["g"]) | changes


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_words_from_a_model_stay_words():
    words, _ = bundles(shown(title=HOSTILE, lyrics=HOSTILE, error=HOSTILE, facts=HOSTILE), FinishedSong())
    tags = {tag for tag, _ in Tags(words["text/html"]).found}
    assert tags == {"div", "h3", "table", "tr", "th", "td", "pre"}


def test_wishes_are_summed_up():
    words, _ = bundles(shown(wishes="D minor", warnings="7/8 can't be had."), FinishedSong())
    for text in words.values():
        assert "D minor" in text
        assert "7/8 can" in text


def test_the_sound_plays_without_a_script_and_the_picture_is_an_image():
    song = FinishedSong(picture=b"large", small_picture=b"\x89PNG", audio=b"sound")
    words, picture = bundles(shown(), song)
    ((_, audio),) = [tag for tag in Tags(words["text/html"]).found if tag[0] == "audio"]
    assert "controls" in audio
    assert base64.b64decode(audio["src"].partition("base64,")[2]) == b"sound"
    assert base64.b64decode(picture["image/png"]) == b"\x89PNG"
    assert "20 s of music" in words["text/plain"]


def test_a_page_that_runs_scripts_gets_the_player_with_the_mix_alone_and_words_stay_words():
    song = FinishedSong(
        audio=b"sound",
        player={"title": HOSTILE, "seconds": 2, "stems": [{"name": "piano"}], "lines": [{"text": HOSTILE}]},
    )
    html = bundles(shown(title=HOSTILE), song)[0]["text/html"]
    tags = Tags(html).found
    (facts,) = [json.loads(attrs["data-song"]) for _, attrs in tags if "data-song" in attrs]
    assert (facts["title"], facts["stems"]) == (HOSTILE, [])
    assert [attrs for tag, attrs in tags if tag == "script"] == [{}]  # a page would never forget a module
    assert "img" not in {tag for tag, _ in tags}


def test_ten_songs_of_30_s_fit_into_a_notebook_of_6_mb():
    """90 kbit/s of MP3 is what libsndfile's 0.8 gives music (80 to 118); 76 kB is the usual small picture."""
    facts = {"title": "T" * 120, "seconds": 30, "stems": [], "peaks": "A" * 1068, "lines": [
        {"text": "A line of the song that is sung twice", "spans": [[1.234, 5.678]] * 2} for _ in range(40)
    ]}  # fmt: skip
    song = FinishedSong(small_picture=b"p" * 76_000, audio=b"s" * (30 * 90_000 // 8), player=facts)
    cell = sum(len(json.dumps(bundle)) for bundle in bundles(shown(lyrics="A line of the song\n" * 40), song))
    assert 10 * cell < 6_000_000


def test_a_failure_is_summed_up_with_its_reason_and_without_a_picture():
    words, picture = bundles(shown("failed"), FinishedSong())
    assert picture == EMPTY
    assert "It broke." in words["text/html"]
    assert "AUDIO_ERROR" in words["text/html"]
