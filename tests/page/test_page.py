"""The page in a browser: a song is started, followed, cancelled, tried again and played; a cut loses nothing; what a
token may not do is said. After each test: no fault of a script, and no violation of the content security policy."""

import random
import re
import time

import pytest

from benchmarks.server.javascript import installed_packages
from harmonia_lab.errors import AudioError, ErrorCode
from harmonia_lab.protocol.models import SongRequest
from tests.page.conftest import Poet, Site, connected, song
from tests.page.prefix_proxy import PREFIX, PrefixProxy
from tests.player.test_axe import AXE, violations
from tests.server.conftest import GENERATION, serving
from tests.server.engines import Player
from tests.waiting import PATIENCE_S, until

PLAYING = "() => globalThis[Symbol.for('harmonia.player')].sounding?.position > 0"


def start(page, story, **fields):
    for name, value in ({"Story": story, "Seconds": "2"} | fields).items():
        page.get_by_label(name, exact=True).fill(value)
    page.get_by_role("button", name="Make a song").click()


def begin(site, generation_id, user="ann", **options):
    request = SongRequest(narrative="A small boat goes home.", seconds=2, generation_id=generation_id, **options)
    return site.lab.submit_request(request, user=user)


def test_a_song_is_started_watched_and_played_by_the_keyboard_alone(site):
    site.gate.clear()
    page = site.open()
    assert "#" not in page.url
    assert page.evaluate("history.length") <= 2  # the token is in no entry that is left
    assert page.evaluate("document.cookie") == ""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "narrative"
    page.keyboard.type("A story of <b>two</b> boats")
    page.keyboard.press("Tab")
    page.keyboard.type("1000")
    page.keyboard.press("Enter")
    refused = page.locator("#error-seconds")
    refused.wait_for()
    assert re.search(r"600.*\(INVALID_PAYLOAD\)", refused.text_content())
    assert page.locator(":focus").get_attribute("name") == "seconds"
    assert page.locator(":focus").get_attribute("aria-invalid") == "true"
    page.keyboard.press("Control+A")
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    card = song(page, "processing")
    card.get_by_text("The tide comes").wait_for()
    assert card.get_by_text("A draft, as it is written:").is_visible()
    bar = card.get_by_role("progressbar")
    page.wait_for_function("(bar) => bar.value > 0", arg=bar.element_handle())
    assert refused.is_hidden()
    site.gate.set()
    card = song(page, "completed")
    card.get_by_role("slider").wait_for()  # it was started here: the player opens by itself
    assert card.get_by_role("heading").text_content() == "A Small Boat"
    assert page.locator("p.unseen").text_content() == "A Small Boat: completed."
    assert page.evaluate("document.activeElement.name") == "seconds"  # and takes no focus
    card.get_by_role("button", name="Play").press("Enter")
    page.wait_for_function(PLAYING)
    card.get_by_role("button", name="Stems").press("Enter")
    card.get_by_role("button", name="Solo piano").press("Enter")
    with page.expect_download() as saved:
        card.get_by_role("button", name="Download", exact=True).press("Enter")
    assert saved.value.suggested_filename.endswith(".flac")
    assert page.evaluate("document.querySelectorAll('b').length") == 0  # the story is text
    card.get_by_role("button", name="Close: A Small Boat").press("Enter")
    card.get_by_role("slider").wait_for(state="detached")


def test_a_cancel_and_a_retry_are_the_servers_to_grant(site):
    site.gate.clear()
    page = site.open()
    begin(site, "ends")
    card = song(page, "processing", id="ends")
    card.get_by_role("button", name="Cancel").click()
    song(page, "cancelled", id="ends")
    assert card.get_by_role("button", name="Cancel").is_hidden()
    site.audio.errors.append(AudioError("The disk hums.", code=ErrorCode.AUDIO_ERROR))
    site.gate.set()
    begin(site, "fails")
    card = song(page, "failed", id="fails")
    card.get_by_text(re.compile(r"The disk hums\..*\(AUDIO_ERROR\)")).wait_for()
    card.get_by_role("button", name="Retry").click()
    song(page, "completed", id="fails")
    assert card.get_by_text("AUDIO_ERROR").is_hidden()


def test_behind_a_proxys_path_a_cut_loses_no_event(site):
    site.gate.clear()
    with PrefixProxy(site.server) as proxy:
        token = site.server.token("cut")
        page = site.open(f"{proxy.url}/#token={token}")
        connected(page, "cut")
        start(page, "A boat.")
        card = song(page, "processing")
        generation_id = card.get_attribute("data-id")
        proxy.cut(stay=True)
        page.get_by_text("Trying again…").wait_for()
        site.gate.set()  # all of it happens while nobody listens
        until(lambda: site.lab.journal.state(generation_id).over)
        assert card.get_attribute("data-status") == "processing"
        proxy.mend()
        card = song(page, "completed", id=generation_id)
        # Each event was applied: nothing else moves the number.
        assert card.get_attribute("data-seq") == str(GENERATION[-1][1])
        card.get_by_role("slider").wait_for()
        paths = {head.split()[1].partition("?")[0] for head in proxy.heads}
        assert paths >= {f"{PREFIX}/", f"{PREFIX}/page.js", f"{PREFIX}/socket.io/", f"{PREFIX}/api/shared"}
        assert not any(token in head for head in proxy.heads)
        page.close()


@pytest.mark.stress
def test_over_random_cuts_each_event_is_applied_once(browser, tmp_path):
    moments = random.Random(5)
    engines = {"metadata": Poet(steps=60, step_s=0.03), "audio": Player(step_s=0.5)}
    with serving(tmp_path, **engines) as server, PrefixProxy(server) as proxy:
        site, cuts = Site(server, None, browser), 0
        page = site.open(f"{proxy.url}/#{server.link('ann').partition('#')[2]}")
        connected(page)
        while cuts < 20:
            start(page, "A boat.")
            [job] = until(lambda: [job for job in server.lab.journal.jobs("ann", 1) if not job.result])
            while not server.lab.journal.state(job.id).over:
                time.sleep(moments.random())
                proxy.cut()
                cuts += 1
            card = song(page, "completed", id=job.id)
            assert card.get_attribute("data-seq") == str(GENERATION[-1][1])
        assert page.locator("article").count() == len(server.lab.journal.jobs("ann"))
        site.close()


def test_what_others_share_is_live_too_and_goes_when_it_is_taken_back(site):
    site.gate.clear()
    begin(site, "shared")
    site.lab.share("shared", "vic")
    first = site.open(site.server.link("vic"))
    second = site.open(site.server.link("vic"), context=first.context)
    for page in (first, second):
        connected(page, "vic")
        card = song(page, "processing", id="shared")
        card.get_by_text("The tide comes").wait_for()
        assert card.get_by_text("shared by ann").is_visible()
        assert card.get_by_role("button", name="Cancel").is_hidden()
    site.gate.set()
    for page in (first, second):
        card = song(page, "completed", id="shared")
    card.get_by_role("button", name="Listen").click()
    card.get_by_role("slider").wait_for()
    site.lab.unshare("shared", "vic")
    for page in (first, second):
        page.get_by_text("No song yet.").wait_for()


def test_what_is_shared_meanwhile_comes_by_the_servers_event(site):
    context = site.browser.new_context()
    context.add_init_script("globalThis.setInterval = () => 0")  # the page asks for nothing now and then
    page = site.open(site.server.link("new"), context=context)
    connected(page, "new")
    page.get_by_text("No song yet.").wait_for()
    site.gate.clear()
    begin(site, "meanwhile")
    site.lab.share("meanwhile", "new")
    assert song(page, "processing", id="meanwhile").get_by_text("shared by ann").is_visible()
    assert page.faults == []
    context.close()


def test_a_token_that_is_no_use_says_what_to_do_and_another_one_goes_on(site):
    page = site.open(f"{site.server.url}/")
    page.get_by_text("This page shows your songs once it has a token.").wait_for()
    page.get_by_label("Link or token").fill("nonsense")
    page.keyboard.press("Enter")
    page.get_by_text("The token is not valid: malformed.").wait_for()
    begin(site, "old", user="rev").result(PATIENCE_S)
    page.get_by_label("Link or token").fill(site.server.link("rev"))
    page.keyboard.press("Enter")
    song(page, "completed", id="old")
    assert page.get_by_label("Link or token").is_hidden()
    page.reload()
    song(page, "completed", id="old")  # the tab has kept the token
    site.server.revoke("rev")
    page.get_by_text("The token was revoked.").wait_for()
    assert page.get_by_text("harmonia token NAME --link").is_visible()
    time.sleep(1.1)  # a token of the same second was issued before the revocation
    page.goto(site.server.link("rev"))  # another fragment of the same page
    connected(page, "rev")
    assert song(page, "completed", id="old").count() == 1


def test_an_engines_own_settings_and_a_recording_go_with_the_song(site):
    page = site.open()
    page.get_by_text("Sound", exact=True).click()
    page.get_by_label("pitch").fill("5")
    start(page, "A boat.")
    page.get_by_text("pitch 5 is not in 20…2000").wait_for()
    page.get_by_label("pitch").fill("330")
    page.get_by_label("melody").set_input_files({"name": "tune.wav", "mimeType": "audio/wav", "buffer": b"no sound"})
    page.get_by_role("button", name="Make a song").click()
    page.locator("#error-melody").get_by_text("(INVALID_PAYLOAD)").wait_for()
    page.get_by_label("melody").set_input_files([])
    page.get_by_role("button", name="Make a song").click()
    journal = site.lab.journal
    done = lambda: [job.id for job in journal.jobs("ann", 9, None) if job.status == "completed"]  # noqa: E731
    until(lambda: any(journal.request(one).audio_options == {"pitch": 330} for one in done()))


def test_listening_tests_are_linked_for_those_who_may_see_which_there_are(site):
    page = site.open()
    assert page.get_by_text("Listening tests").is_hidden()
    tests = [{"id": "00ff", "title": "<i>Which?</i>", "kind": "pairs", "answers": 2}]
    page.route("**/api/listening", lambda route: route.fulfill(json={"ok": True, "tests": tests}))
    page.reload()
    link = page.get_by_role("link", name="<i>Which?</i>")
    assert link.get_attribute("href") == f"{site.server.url}/listen/00ff"


@pytest.mark.stress
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "zoom"), [(1000, 1), (560, 1), (1120, 2)])
def test_the_page_has_no_violations_and_nothing_is_cut_off(site, scheme, width, zoom):
    axe = (installed_packages(AXE) / "node_modules" / "axe-core" / "axe.min.js").read_text()
    site.gate.set()
    whole = f"whole-{scheme}-{width}"
    begin(site, whole).result(PATIENCE_S)
    site.gate.clear()
    size = {"width": width // zoom, "height": 700}  # at 200 %, a page has half of the pixels
    page = site.open(color_scheme=scheme, viewport=size, device_scale_factor=zoom, bypass_csp=True)
    song(page, "completed", id=whole).get_by_role("button", name="Listen").click()
    page.get_by_role("slider").first.wait_for()
    for closed in page.locator("form summary").all():
        closed.click()
    start(page, "A boat.", Seed="minus one")
    page.locator("#error-seed").wait_for()
    start(page, "A boat.", Seed="1")
    song(page, "processing").first.get_by_text("The tide comes").wait_for()
    assert violations(page, axe) == {}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    site.gate.set()
