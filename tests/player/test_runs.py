"""The chart of runs in a browser, and a study's page: values by mouse and keys, songs of a block at the same moment."""

import json
import re

import pytest

from harmonia_lab.backends import local
from harmonia_lab.player import page as page_module
from harmonia_lab.player.modules import PLAYER_JS, runs_style
from harmonia_lab.testing import SONG_METADATA
from tests.player.test_axe import axe, violations  # noqa: F401 - a fixture
from tests.server.engines import make_lab
from tests.widgets.lab import picture, wait_for

DECK = "globalThis[Symbol.for('harmonia.player')].sounding"
NAMES = ["fast", "reference <b>&"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of two blocks and two configurations, by engines that make tones; its report has no page yet."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local, "_draw_overview", lambda path, **picture: "")
        with make_lab(folder) as lab:
            design = {
                "stories": [{"metadata": SONG_METADATA}],
                "seeds": 2,
                "lengths": [8],
                "primary": "audio_s",
                "warm_up": 0,
                "configurations": {name: {} for name in NAMES},
            }
            return lab.study(design, folder / "out", say=lambda _: None, page=False)


def opened(page, study):
    page.goto(study.write_page().as_uri())
    page.wait_for_selector(".hr-point")
    return page


def point(page, name):
    return page.locator(".hr-plot").get_by_role("button", name=name)


def chart(serve, runs, *, groups=("one", "two"), columns=(("total_s", "s"), ("tokens", ""))):
    """A chart of runs without songs on a page of its own."""
    data = {
        "columns": [{"name": name, "unit": unit} for name, unit in columns],
        "groups": list(groups),
        "runs": [{"block": None, "label": "", "song": None, "why": "It was deleted.", **run} for run in runs],
        "note": "",
    }
    module = PLAYER_JS.with_name("runs.js")
    page = serve(module, names="mountRuns", css=runs_style(), data=data)
    page.evaluate("() => hp.mountRuns(document.querySelector('main'), given.data, {})")
    return page


def test_a_studys_page_plays_the_songs_of_a_block_by_a_click_and_tells_a_run_on_hover(page, study, tmp_path):
    opened(page, study)
    assert page.locator("figure:visible").count() >= 2
    assert page.locator(".hr-point").count() == 4
    first = point(page, re.compile(r"fast, audio_s .*, block 1 · seed 0 · 8 s"))
    first.hover()
    assert page.locator(".hr-tip").inner_text().startswith("fast\naudio_s ")
    assert page.locator(".hr-block[data-lit]").count() == 1
    first.click()
    wait_for(page, f"() => {DECK}?.playing && {DECK}.position > 0.1")
    assert page.evaluate(f"() => {DECK}.take") == 0
    assert page.locator(".hp-take").all_inner_texts()[1].startswith("reference <b>&: Harbour Light")
    point(page, re.compile(r"reference.*block 1 ·")).click()
    wait_for(page, f"() => {DECK}?.take === 1 && {DECK}.playing")
    assert page.locator(".hp").count() == 1  # the same player, at the same moment
    point(page, re.compile(r"reference.*block 2 ·")).click()
    wait_for(page, f"() => {DECK}?.playing && document.querySelectorAll('.hp').length === 1")
    point(page, re.compile(r"reference.*block 2 ·")).click()
    wait_for(page, f"() => !{DECK}?.playing")
    picture(page, "study.png", tmp_path)


def test_it_is_played_by_keys_alone_and_the_focus_stays(page, study):
    opened(page, study)
    page.get_by_role("combobox", name="Column").focus()
    page.keyboard.press("Tab")
    focused = "() => document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused).startswith("fast")
    assert page.locator(".hr-tip").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator(".hr-tip").is_visible()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused).startswith("reference")
    block = re.search(r"block \d", page.evaluate(focused))[0]
    page.keyboard.press("ArrowLeft")
    assert block in page.evaluate(focused)
    page.keyboard.press("End")
    assert page.evaluate(focused).startswith("reference")
    page.keyboard.press("Enter")
    wait_for(page, f"() => {DECK}?.playing")
    assert page.evaluate(focused).startswith("reference")
    page.get_by_role("combobox", name="Column").select_option(label="cpu_s, s")
    assert "cpu_s" in page.locator(".hr-point").first.get_attribute("aria-label")


def test_above_its_size_the_songs_are_beside_the_page_and_it_says_so(page, study, monkeypatch):
    here = study.write_page()
    assert 'content="here"' in here.read_text()
    before = here.stat().st_mtime_ns
    assert study.write_page().stat().st_mtime_ns == before  # nothing has changed
    monkeypatch.setattr(page_module, "ONE_FILE_BYTES", 20_000)
    here.unlink()
    opened(page, study)
    folder = study.folder.path / "study-sounds"
    assert len(list(folder.iterdir())) == 4
    assert "in the folder study-sounds beside this page" in page.locator("body").inner_text()
    point(page, re.compile("fast.*block 1")).click()
    wait_for(page, f"() => {DECK}?.playing")
    for script in folder.glob("*.js"):
        script.unlink()
    page.reload()
    page.wait_for_selector(".hr-point")
    point(page, re.compile("fast.*block 1")).click()
    page.get_by_text("isn't beside this page").wait_for()
    here.unlink()


def test_no_script_but_its_own_runs_on_a_studys_page(page, study):
    faults = []
    page.on("console", lambda message: faults.append(message.text) if "Content Security Policy" in message.text else 0)
    opened(page, study)
    assert faults == []
    page.evaluate("() => document.body.setAttribute('onclick', 'globalThis.bad = 1')")
    page.locator("h1").click()
    assert page.evaluate("() => globalThis.bad") is None


def test_values_of_every_kind_and_many_long_names_stay_legible(page, serve):
    longest = "facebook/musicgen-stereo-melody-large-with-a-long-suffix"
    groups = [f"{longest}-{number}" for number in range(9)]
    runs = [{"group": g, "values": [0 if g == 3 else 10.0**g, None if g else 5]} for g in range(9) for _ in range(12)]
    chart(serve, runs, groups=groups)
    assert page.locator(".hr-names").inner_text().split() == [str(number) for number in range(1, 10)]
    assert page.locator(".hr-key li").all_inner_texts() == groups
    assert page.locator(".hr-point").count() == 108
    assert page.get_by_text("bars: means").is_visible()  # one is zero: no logarithmic axis
    page.get_by_role("combobox", name="Column").select_option(label="tokens")
    assert page.locator(".hr-point").count() == 12
    assert page.get_by_text("logarithmic axis").is_visible()
    page.locator(".hr-point").first.click()
    page.get_by_text("It was deleted.").wait_for()
    places = page.locator(".hr-point").evaluate_all("(nodes) => nodes.map((node) => node.getBoundingClientRect().x)")
    assert len(set(places)) == 12  # equal values don't hide one another


@pytest.mark.parametrize(("runs", "points"), [([], 0), ([{"group": 0, "values": [2.5, None]}], 1)])
def test_one_run_and_none_are_drawn(page, serve, runs, points):
    chart(serve, runs)
    wait_for(page, f"() => document.querySelectorAll('.hr-point').length === {points}")
    page.get_by_role("combobox", name="Column").select_option(label="tokens")
    page.get_by_text("No run has this column.").wait_for()


@pytest.mark.stress
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "zoom"), [(1000, 1), (560, 1), (1120, 2)])
def test_a_studys_page_has_no_violations_and_is_as_wide_as_the_window(
    browser,
    axe,  # noqa: F811 - the fixture
    study,
    tmp_path,
    scheme,
    width,
    zoom,
):
    page = browser.new_page(
        viewport={"width": width // zoom, "height": 800}, device_scale_factor=zoom, color_scheme=scheme
    )
    opened(page, study)
    point(page, re.compile("fast.*block 1")).click()
    wait_for(page, f"() => {DECK}?.playing")
    assert violations(page, axe) == {}
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page.locator(".hr").scroll_into_view_if_needed()
    picture(page, f"study-{scheme}-{width}.png", tmp_path)
    page.close()


def test_the_pages_values_name_no_folder_of_this_machine(study):
    text = study.write_page().read_text()
    assert str(study.folder.path.parent) not in text
    runs = json.loads(text.partition('id="runs">')[2].partition("</script>")[0])
    assert [song["stems"] for song in runs["songs"]] == [[]] * 4
