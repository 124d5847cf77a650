"""The panel's front end in a browser, without a kernel: what moves, what keeps the focus, and what folds away."""

import base64
from pathlib import Path

import pytest

import harmonia_lab.widgets
from harmonia_lab.client.store import State, reduce
from harmonia_lab.player.song import song_in_folder
from harmonia_lab.widgets.view_model import view
from tests.events.stories import told_live
from tests.player.songs import make_song
from tests.player.test_axe import axe, violations  # noqa: F401 - a fixture
from tests.widgets.lab import wait_for

FOLDER = Path(harmonia_lab.widgets.__file__).parent

MODEL = """() => {
    class Model {
        constructor() {
            this.values = { view: {}, song: {}, audio: null, picture: null, files: [] };
            [this.heard, this.sent] = [{}, []];
        }
        get(name) { return this.values[name]; }
        on(name, hear) { this.heard[name] = hear; }
        off(name) { delete this.heard[name]; }
        send(message) { this.sent.push(message); }
        tell(message, ...buffers) { this.heard['msg:custom'](message, buffers); }
        set(values) {
            Object.assign(this.values, values);
            for (const name of Object.keys(values)) this.heard[`change:${name}`]?.();
        }
    }
    globalThis.model = new Model();
    globalThis.end = hp.render({ model, el: document.querySelector('main') });
}"""

FINISH = """async () => {
    const bytes = new DataView(Uint8Array.from(atob(given.sound), (letter) => letter.charCodeAt(0)).buffer);
    model.set({ view: given.done });
    model.set({ song: given.song, audio: bytes, files: given.files });
}"""


def shown(ending, **changes):
    state = State()
    for event in told_live(ending=ending):
        state = reduce(state, event)
    return view(state.generations["g"]) | changes


@pytest.fixture
def panel(serve, tmp_path):
    """panel(width, **of the song): a page with a panel whose song is being made; `finish()` ends it."""

    def panel(width=1000, body="<main></main>", title="A Small Boat", **song):
        folder = make_song(tmp_path / "a", title=title, **song)
        facts = song_in_folder(folder)
        words = "\n".join(line["text"] for line in facts["lines"])
        page = serve(
            FOLDER / "panel.js",
            names="render",
            css=(FOLDER / "panel.css").read_text(),
            body=body,
            running=shown("in stage 2", title=title, lyrics=words, canCancel=True),
            done=shown("completed", title=title, lyrics=words, heard=facts["note"]),
            song=facts,
            sound=base64.b64encode((folder / "song.flac").read_bytes()).decode(),
            files=["song.flac", "stems/1-piano.flac", "song.mid"],
        )
        page.set_viewport_size({"width": width, "height": 700})
        page.evaluate(MODEL)
        page.evaluate("() => model.set({ view: given.running })")
        page.wait_for_selector(".hl-panel[data-status=processing]")
        return page

    return panel


def height(page):
    return page.locator(".hl-panel").bounding_box()["height"]


@pytest.mark.parametrize("width", [1000, pytest.param(560, marks=pytest.mark.stress)])
def test_title_and_player_come_on_top_without_a_jump_and_the_bars_fold_away(panel, width):
    page = panel(width)
    bars = page.get_by_role("progressbar", name="Song")
    assert bars.is_visible()
    before = height(page)
    page.evaluate(FINISH)
    assert height(page) == pytest.approx(before, abs=1)
    assert not bars.is_visible()
    assert page.get_by_role("heading", name="A Small Boat").count() == 1
    play = page.get_by_role("button", name="Play").bounding_box()
    assert play["y"] + play["height"] < 700
    files = page.get_by_role("button", name="Download song.mid")
    assert not files.is_visible()
    page.get_by_text("How it was made").click()
    assert files.is_visible()
    assert bars.is_visible()
    assert page.get_by_text("0123456789abcdef").is_visible()


def test_the_focus_stays_or_goes_from_a_button_that_is_gone_to_play(panel):
    page = panel()
    page.get_by_role("group", name="Words").focus()
    page.evaluate(FINISH)
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Words"
    page.evaluate("() => model.set({ song: {}, view: given.running })")
    page.get_by_role("button", name="Cancel").focus()
    page.evaluate(FINISH)
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Play"
    page.keyboard.press("3")
    assert page.get_by_role("slider", name="Position").get_attribute("aria-valuenow") == "8"


def test_an_older_panel_that_has_freed_its_sound_stays_folded_and_leaves_the_words_to_the_summary(panel):
    page = panel(body="<div class=jp-OutputArea><main></main></div>")
    page.evaluate(FINISH)
    page.evaluate("() => model.set({ song: {}, audio: null, picture: null })")
    assert page.get_by_role("heading", name="A Small Boat").is_visible()
    assert not page.get_by_role("progressbar", name="Song").is_visible()
    assert not page.get_by_role("group", name="Words").is_visible()
    page.get_by_text("How it was made").click()
    assert page.get_by_role("progressbar", name="Song").is_visible()


def test_the_mix_is_here_and_stems_come_from_the_kernel_when_they_are_asked_for(panel):
    page = panel()
    page.evaluate(FINISH)
    page.get_by_role("button", name="Play").click()
    wait_for(page, "() => globalThis[Symbol.for('harmonia.player')].sounding?.playing")
    assert page.evaluate("() => model.sent") == []
    page.get_by_role("button", name="Stems").click()
    wait_for(page, "() => model.sent.length === 2")
    asked = ["stems/1-piano.flac", "stems/2-double-bass.flac"]
    assert page.evaluate("() => model.sent.map(({ ask, name }) => [ask, name])") == [["sound", name] for name in asked]
    page.evaluate(
        """([first, second]) => {
            model.tell({ sound: first, missing: '' }, model.get('audio'));
            model.tell({ sound: second, missing: 'It is gone. Take a copy.' }, new DataView(new ArrayBuffer(0)));
        }""",
        asked,
    )
    page.get_by_text("It is gone. Take a copy.").wait_for()
    wait_for(page, "() => globalThis[Symbol.for('harmonia.player')].sounding.stems")
    page.get_by_role("button", name="Download piano").click()
    assert page.evaluate("() => model.sent.at(-1)") == {"ask": "file", "name": "stems/1-piano.flac"}
    with page.expect_download() as download:
        page.evaluate("() => model.tell({ file: 'stems/1-piano.flac' }, model.get('audio'))")
    assert download.value.suggested_filename == "A-Small-Boat-seed-7-01234567-1-piano.flac"
    page.evaluate("() => end()")
    wait_for(page, "() => globalThis[Symbol.for('harmonia.player')].sounding === null")


@pytest.mark.stress
def test_words_that_nobody_sings_are_not_lit_and_the_panel_says_so(panel):
    page = panel(follows=("prompt",))
    page.evaluate(FINISH)
    assert page.get_by_text("no words are sung").count() > 0
    assert page.locator("[data-sung]").count() == 0
    assert page.get_by_role("group", name="Sections").count() == 0


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.stress)])
def test_a_panel_has_no_violations_while_it_runs_and_when_it_is_done(panel, axe, scheme):  # noqa: F811 - the fixture
    page = panel(560, body="<main><h1>Notebook</h1><h2>Cell</h2></main>")
    page.emulate_media(color_scheme=scheme)
    page.evaluate("() => { document.documentElement.style.colorScheme = 'light dark' }")
    assert violations(page, axe) == {}
    page.evaluate(FINISH)
    page.get_by_text("How it was made").click()
    assert violations(page, axe) == {}
