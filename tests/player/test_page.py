"""`listen.html` in a browser: the player by mouse and keyboard, wherever the page is shown, whatever a song lacks."""

import re
import shutil

import pytest

from harmonia_lab.player import page as page_module
from harmonia_lab.player.page import listening_page, write_listening_page
from tests.player.songs import group, make_song
from tests.widgets.lab import wait_for

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028\"'`${1}"
ARABIC = "ضوء المرفأ القديم"
LONG = "Wanderlust" * 12

DECK = "globalThis[Symbol.for('harmonia.player')].sounding"
"""The deck that sounds; null while none does."""


def listen(page, tmp_path, *folders, groups=None, heading=""):
    write_listening_page(tmp_path / "listen.html", groups or [group(*folders, heading=heading)])
    page.goto((tmp_path / "listen.html").as_uri())
    page.wait_for_selector(".hp")
    return page.locator(".hp")


def playing(page):
    wait_for(page, f"() => {DECK}?.playing")


def position(page):
    return page.evaluate(f"() => {DECK}.position")


def at(page):
    """Seconds as a screen reader hears them."""
    return int(page.get_by_role("slider", name="Position").first.get_attribute("aria-valuenow"))


def test_keys_play_move_go_to_sections_and_loop_and_the_sung_line_is_lit(page, tmp_path):
    player = listen(page, tmp_path, make_song(tmp_path / "a"))
    assert player.get_by_role("heading", name="A Small Boat").count() == 1
    page.keyboard.press("3")
    assert at(page) == 8
    page.keyboard.press("ArrowLeft")
    assert at(page) == 3
    assert "intro" in page.get_by_role("slider", name="Position").get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    page.keyboard.press("2")
    page.keyboard.press("Space")
    playing(page)
    wait_for(page, "() => document.querySelector('[aria-current]')?.textContent === 'Hold the light'")
    assert 4.5 < position(page) < 7
    page.keyboard.press("l")
    assert page.evaluate(f"() => {DECK}.region.name") == "verse"
    page.keyboard.press("9")  # there is no ninth section
    page.keyboard.press("1")  # outside of the loop, which ends it
    assert page.evaluate(f"() => {DECK}.region") is None
    page.keyboard.press("Space")
    wait_for(page, f"() => {DECK} === null")
    assert page.get_by_role("button", name="Play").count() == 1


@pytest.mark.stress
def test_the_waveform_is_the_seek_bar_and_has_the_sections_colours(page, tmp_path):
    listen(page, tmp_path, make_song(tmp_path / "a"))
    box = page.locator(".hp-wave").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + 30)
    assert at(page) == 9
    colours = page.evaluate(
        """() => [0.1, 0.5, 0.9].map((part) => {
            const canvas = document.querySelectorAll('.hp-canvas')[1];
            const pixel = [...canvas.getContext('2d').getImageData(part * canvas.width, canvas.height / 2, 1, 1).data];
            return pixel.join();
        })"""
    )
    assert len(set(colours)) == 3
    page.get_by_role("button", name="2: verse, at 0:04").click()
    assert at(page) == 4


def test_songs_are_compared_at_the_same_moment_and_at_equal_loudness(page, tmp_path):
    songs = [
        make_song(tmp_path / name, lufs=lufs, title=name)
        for name, lufs in (("one", -14), ("two", -20), ("three", None))
    ]
    player = listen(page, tmp_path, *songs, heading="A story.")
    page.keyboard.press("Space")
    playing(page)
    page.keyboard.press("2")
    before = position(page)
    page.keyboard.press("b")
    wait_for(page, f"() => {DECK}.take === 1")
    assert before <= position(page) < before + 5
    gains = f"() => {DECK}.tracks.filter((t) => !t.stem).map((t) => t.match)"
    assert page.evaluate(gains) == pytest.approx([10 ** (-6 / 20), 1, 10 ** (-6 / 20)], abs=1e-4)
    assert player.get_by_role("button", name="B two").get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowDown")
    wait_for(page, f"() => {DECK}.take === 2")
    page.keyboard.press("ArrowDown")  # there is no fourth
    page.keyboard.press("a")
    wait_for(page, f"() => {DECK}.take === 0")
    assert page.locator("h2").inner_text() == "A story."


def test_stems_have_solo_mute_and_level_and_one_that_is_missing_says_what_to_do(page, tmp_path):
    folder = make_song(tmp_path / "a", stems=("piano", "double bass", "strings"))
    (folder / "stems" / "3-strings.flac").unlink()
    player = listen(page, tmp_path, folder)
    player.get_by_role("button", name="Play").click()
    playing(page)
    player.get_by_role("button", name="Stems").click()
    wait_for(page, f"() => {DECK}.stems")
    levels = f"() => {DECK}.tracks.map((t) => t.fader ? Math.round(100 * t.fader.gain.value) / 100 : null)"
    wait_for(page, f"() => ({levels})().join() === '0,2,1,'")  # +6 dB, 0 dB as in the mix, none
    player.get_by_role("button", name="Solo double bass").click()
    wait_for(page, f"() => ({levels})().join() === '0,0,1,'")
    player.get_by_label("Level of double bass").fill("0.5")
    wait_for(page, f"() => ({levels})().join() === '0,0,0.5,'")
    player.get_by_role("button", name="Mute double bass").click()
    wait_for(page, f"() => ({levels})().join() === '0,0,0,'")
    assert "Make the page again" in player.locator(".hp-missing").nth(2).inner_text()
    player.get_by_role("button", name="Mix").click()
    wait_for(page, f"() => ({levels})()[0] === 1")


@pytest.mark.stress
def test_a_download_is_named_after_its_song(page, tmp_path):
    player = listen(page, tmp_path, make_song(tmp_path / "a", title=ARABIC))
    player.get_by_role("button", name="Stems").click()
    for button, name in (
        ("Download", "ضوء-المرفأ-القديم-seed-7-01234567.mp3"),
        ("Download piano", "ضوء-المرفأ-القديم-seed-7-01234567-1-piano.mp3"),
    ):
        with page.expect_download() as download:
            player.get_by_role("button", name=button, exact=True).click()
        assert download.value.suggested_filename == name


@pytest.mark.stress
def test_only_one_song_sounds_and_a_song_ends_at_its_end(page, tmp_path):
    songs = [make_song(tmp_path / name, seconds=3, title=name) for name in ("one", "two")]
    listen(page, tmp_path, groups=[group(song, heading=song.name) for song in songs])
    page.get_by_role("button", name="Play").first.click()
    playing(page)
    page.evaluate("() => { globalThis.first = globalThis[Symbol.for('harmonia.player')].sounding }")
    page.get_by_role("button", name="Play").last.click()
    wait_for(page, f"() => {DECK} && {DECK} !== first && {DECK}.playing && !first.playing")
    plain = "document.querySelector('audio')"
    page.evaluate(f"async () => {{ {plain}.muted = true; await {plain}.play(); }}")
    wait_for(page, f"() => {DECK} === null")
    page.get_by_role("button", name="Play").first.click()
    wait_for(page, f"() => {plain}.paused && first.playing")
    page.keyboard.press("End")
    wait_for(page, f"() => {DECK} === null && first.at === first.seconds")
    assert page.get_by_role("button", name="Play").count() == 2


@pytest.mark.parametrize(
    "shape",
    [pytest.param((560, 700, 1), id="560 px"), pytest.param((640, 350, 2), id="200 %", marks=pytest.mark.stress)],
)
def test_words_are_never_cut_and_nothing_is_wider_than_the_page(browser, tmp_path, shape):
    sections = ("intro", "verse", "chorus", "bridge", "an instrumental interlude", "chorus", "outro")
    songs = [
        make_song(tmp_path / "a", title=LONG, seconds=28, sections=sections, stems=(LONG, "double bass")),
        make_song(tmp_path / "b", title=ARABIC, seconds=3, sections=(), stems=(), lyrics=""),
    ]
    write_listening_page(tmp_path / "listen.html", [group(*songs, heading=LONG), group(songs[1])])
    width, height, scale = shape
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
    page.goto((tmp_path / "listen.html").as_uri())
    page.wait_for_selector(".hp")
    page.get_by_role("button", name="Stems").first.click()
    assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    cut = """() => [...document.querySelectorAll('.hp button, .hp h3, .hp li, .hp p, .hp dd')]
        .filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.outerHTML)"""
    assert page.evaluate(cut) == []
    names = page.evaluate("() => [...document.querySelectorAll('.hp-section')].map((n) => n.textContent)")
    assert set(names) - set(sections) <= set("1234567") | {""}
    assert {"intro", "5"} <= set(names)
    second = page.locator(".hp").nth(1)
    for name in ("Mix", "Stems", "Loop section"):
        assert second.get_by_role("button", name=name).count() == 0
    page.close()


@pytest.mark.stress
def test_without_scripts_title_sound_and_words_are_there(browser, tmp_path):
    write_listening_page(tmp_path / "listen.html", [group(make_song(tmp_path / "a"))])
    page = browser.new_context(java_script_enabled=False, offline=True).new_page()
    page.goto((tmp_path / "listen.html").as_uri())
    assert page.get_by_role("heading", name="A Small Boat").is_visible()
    assert page.locator("audio").is_visible()
    assert page.get_by_text("The tide comes in").is_visible()
    page.close()


def test_it_plays_in_a_frame_that_may_run_scripts_alone(page, tmp_path):
    text = listening_page([group(make_song(tmp_path / "a"))])
    page.set_content('<iframe sandbox="allow-scripts" style="width: 900px; height: 600px"></iframe>')
    page.evaluate("(text) => { document.querySelector('iframe').srcdoc = text }", text)
    frame = page.frame_locator("iframe")
    frame.get_by_role("button", name="Play").click()
    frame.get_by_role("button", name="Pause").click()
    frame.get_by_text("About this song").click()
    frame.get_by_role("button", name="Copy Seed").click()
    frame.get_by_text(re.compile("Copied|Selected")).wait_for()


@pytest.mark.stress
def test_no_word_ends_the_script_or_becomes_markup(page, tmp_path):
    player = listen(
        page, tmp_path, make_song(tmp_path / "a", title=EVIL, lyrics=EVIL, stems=(EVIL.replace("/", ""),)), heading=EVIL
    )
    assert player.locator(".hp-title").inner_text() == EVIL
    text = (tmp_path / "listen.html").read_text()
    assert "alert(1)</script>" not in text
    assert "<!--" not in text
    assert not re.search(r"https?://(?!www\.w3\.org)|innerHTML|insertAdjacentHTML|document\.write", text)


@pytest.mark.stress
def test_above_its_limit_the_page_says_that_its_sounds_are_beside_it_and_which_are_gone(page, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "ONE_FILE_BYTES", 150_000)
    player = listen(page, tmp_path, make_song(tmp_path / "a"))
    assert "in the folder beside this page" in page.locator("main > p").inner_text()
    assert (tmp_path / "listen.html").stat().st_size < 60_000
    player.get_by_role("button", name="Play").click()
    playing(page)
    shutil.rmtree(tmp_path / "listen-sounds")
    player.get_by_role("button", name="Stems").click()
    player.locator(".hp-status", has_text="Copy the whole folder").wait_for()
    assert page.evaluate(f"() => {DECK}.stems") is False  # the mix plays on


def test_a_page_of_the_same_songs_is_left_as_it_is(tmp_path):
    path, songs = tmp_path / "listen.html", [group(make_song(tmp_path / "a"))]
    write_listening_page(path, songs)
    before = path.stat().st_mtime_ns
    write_listening_page(path, songs)
    assert path.stat().st_mtime_ns == before
    write_listening_page(path, [*songs, group(make_song(tmp_path / "b", title="Another"))])
    assert "Another" in path.read_text()


def test_stems_are_left_out_of_a_page_of_many_songs_which_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "STEMS_S", 20)
    write_listening_page(tmp_path / "listen.html", [group(make_song(tmp_path / "a"))])
    text = (tmp_path / "listen.html").read_text()
    assert "stems of so many songs are left out" in text
    assert text.count("sound-0-") == text.count("sound-0-mix")


def test_a_song_whose_sound_is_missing_says_what_to_do(page, tmp_path):
    folder = make_song(tmp_path / "a", stems=())
    (folder / "song.flac").write_bytes(b"no sound")
    player = listen(page, tmp_path, folder)
    player.get_by_role("button", name="Play").click()
    player.locator(".hp-status", has_text="missing or damaged").wait_for()
    assert page.evaluate(f"() => {DECK}?.playing ?? false") is False


def test_a_batch_without_songs_has_a_page_that_says_so(tmp_path):
    write_listening_page(tmp_path / "listen.html", [])
    assert "<p>No song has been made yet.</p>" in (tmp_path / "listen.html").read_text()
