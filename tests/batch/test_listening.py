"""The listening page: matched in loudness, harmless whatever the words are, and playable without a network."""

import json
import re
import shutil

import pytest

from harmonia_lab.audio_engines.audiofile import write_flac
from harmonia_lab.batch.listening import write_page
from harmonia_lab.batch.report import BatchReport, Outcome
from harmonia_lab.batch.rows import Row
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.protocol.models import SongRequest

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028\"'`${1}"


def song(number, loudness=-14.0, title=EVIL):
    return {
        "directory": f"a folder #{number}",
        "title": title,
        "genre": "folk",
        "mood": ["calm"],
        "bpm": 96,
        "key": "A minor",
        "seed": number,
        "engines": {"metadata": "given", "audio": "sketch"},
        "loudness": loudness,
    }


def report(folder, *songs, narrative=EVIL):
    rows = [Row(n, request=SongRequest(narrative=narrative)) for n in range(len(songs))]
    return BatchReport(folder, [Outcome(row, "made", song=s) for row, s in zip(rows, songs, strict=True)], None)


def groups(folder):
    (data,) = re.findall(r"const groups = (.*);\n", (folder / "listen.html").read_text())
    return json.loads(data)


def test_louder_variants_are_turned_down_to_the_softest(tmp_path):
    write_page(report(tmp_path, song(1, -14.0), song(2, -20.0), song(3, None)))
    (group,) = groups(tmp_path)
    assert [variant["volume"] for variant in group["variants"]] == pytest.approx(
        [10 ** (-6 / 20), 1.0, 10 ** (-6 / 20)], abs=1e-4
    )


def test_a_song_that_two_rows_ask_for_is_one_variant_and_failures_are_none(tmp_path):
    made = report(tmp_path, song(1), song(2))
    made.outcomes[1] = Outcome(made.outcomes[1].row, "made", same_as=0, song=made.outcomes[0].song)
    made.outcomes.append(Outcome(Row(3, request=SongRequest(narrative="Another.")), "failed"))
    made.outcomes.append(Outcome(Row(4), "failed"))
    write_page(made)
    (group,) = groups(tmp_path)
    assert len(group["variants"]) == 1


def test_no_word_ends_the_script_or_becomes_markup(tmp_path):
    write_page(report(tmp_path, song(1)))
    page = (tmp_path / "listen.html").read_text()
    assert page.count("</script>") == page.count("<script>") == 1
    assert "<!--" not in page
    assert groups(tmp_path)[0]["narrative"] == EVIL
    assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|document\.write", page)


@pytest.fixture
def page():
    """A page in Debian's Chromium that may play without a click."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        page = browser.new_page(offline=True)
        page.heard = []
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("dialog", lambda dialog: (page.heard.append("dialog"), dialog.dismiss()))
        yield page
        browser.close()


def test_keys_play_and_switch_between_variants_at_the_same_moment(page, tmp_path):
    import numpy as np

    songs = [song(1), song(2, -17.0), song(3)]
    for one in songs:
        (tmp_path / one["directory"]).mkdir()
        tone = np.sin(np.arange(60 * 8000) / 8).astype(np.float32)[None] * np.float32(0.1)
        write_flac(tmp_path / one["directory"] / "song.flac", tone, 8000, {}, CancelToken())
    write_page(report(tmp_path, *songs))
    page.goto((tmp_path / "listen.html").as_uri())

    def players():
        return page.evaluate("() => [...document.querySelectorAll('audio')].map((a) => [a.paused, a.currentTime])")

    playing = "(index) => [...document.querySelectorAll('audio')].every((a, i) => a.paused === (i !== index))"
    page.wait_for_function("() => [...document.querySelectorAll('audio')].every((a) => a.duration === 60)")
    page.keyboard.press("1")
    page.wait_for_function(playing, arg=0)
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("3")
    page.wait_for_function(playing, arg=2)
    assert players()[2][1] >= 20
    page.keyboard.press("ArrowUp")
    page.wait_for_function(playing, arg=1)
    assert players()[1][1] >= 20
    assert page.evaluate("() => document.querySelectorAll('audio')[0].volume") == pytest.approx(
        10 ** (-3 / 20), abs=1e-3
    )
    page.keyboard.press("Space")
    page.wait_for_function(playing, arg=-1)
    assert page.locator("[aria-pressed=true]").inner_text() == "2"
    assert page.locator("h2").inner_text().startswith("</script>")
    assert page.heard == []
