"""A listener takes a test in a browser: by keys alone, in a file without a network, and the answers come back whole."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.listening.scripted import take_test
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.analysis import analyse
from harmonia_lab.listening.answers import parse_answers
from harmonia_lab.listening.files import open_test
from harmonia_lab.listening.make import make_test
from tests.listening.songs import make_batch, make_study
from tests.player.test_axe import AXE, axe, violations  # noqa: F401 - a fixture


@pytest.fixture
def pairs(tmp_path):
    songs = make_study(tmp_path / "study", blocks=2)
    return make_test(songs, tmp_path / "test.html", checks=1, listen_s=0.05, seed=1, title="Which <b>decoder</b>?")


def saved(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the answers").click()
    return json.loads(Path(download.value.path()).read_text("utf-8")), download.value.suggested_filename


def tab_to(page, selector):
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"no Tab leads to {selector}")


def hear(page, letter):
    page.keyboard.press(letter)
    page.wait_for_function(
        "(name) => document.querySelector('.play').textContent === 'Pause'"
        " && [...document.querySelectorAll('.sounds [aria-pressed=true]')].some((node) => node.textContent === name)",
        arg="Reference" if letter == "r" else letter.upper(),
    )
    page.wait_for_timeout(120)


def test_a_test_is_taken_by_keys_alone_and_its_answers_fit_the_key(page, pairs):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(pairs.page.as_uri())
    assert page.get_by_role("heading", level=1).inner_text() == "Which <b>decoder</b>?"
    tab_to(page, "#listener")
    page.keyboard.type("ann b")  # letters in a name switch no sound
    tab_to(page, "button.main")
    page.keyboard.press("Enter")
    for number in range(3):
        assert page.evaluate("document.activeElement.textContent") == f"{number + 1} of 3"
        if number == 0:
            tab_to(page, "button.main")
            page.keyboard.press("Enter")
            assert page.locator("p[role=status]").inner_text() == "Listen to A a little longer first."
            page.get_by_role("heading").focus()
        hear(page, "a")
        hear(page, "b")
        tab_to(page, "input[name=choice]")
        page.keyboard.press("Space")
        tab_to(page, "button.main")
        page.keyboard.press("Enter")
    answers, name = saved(page)
    assert name.startswith(f"answers-{pairs.id}-")
    assert {request.split(":")[0] for request in requests} <= {"file", "blob"}
    given = parse_answers(answers)
    assert (given.listener, given.complete) == ("ann b", True)
    assert given.in_drawn_order(pairs.design)
    assert all(answer.choice == answer.order[0] for answer in given.answers)
    assert all(min(answer.heard.values()) > 0.05 for answer in given.answers)
    assert pairs.id in page.locator("#answers").input_value()


def test_who_stops_early_saves_what_is_answered_and_what_lacks_is_said(page, pairs):
    page.goto(pairs.page.as_uri())
    page.get_by_role("button", name="Start").click()
    hear(page, "a")
    hear(page, "b")
    page.get_by_role("button", name="Next").click()
    assert page.locator("p[role=status]").inner_text() == "Choose one of the two."
    page.get_by_role("radio", name="B").check()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Stop here").click()
    answers, _ = saved(page)
    assert (answers["complete"], len(answers["answers"])) == (False, 1)
    assert parse_answers(answers).answers[0].choice == answers["answers"][0]["order"][1]


def test_scales_are_rated_by_keys_beside_a_named_reference(page, tmp_path):
    test = make_test(
        make_batch(tmp_path / "night", ("a", "b"), seeds=(1,)), tmp_path / "test.html", "scales", reference="a",
        checks=0, listen_s=0.05,
    )  # fmt: skip
    page.goto(test.page.as_uri())
    page.get_by_role("button", name="Start").click()
    for letter in "abcr":
        hear(page, letter)
    page.get_by_role("button", name="Finish").click()
    assert page.locator("p[role=status]").inner_text() == "Move the slider of each sound."
    for letter, key in zip("ABC", ("End", "Home", "ArrowRight"), strict=True):
        page.get_by_role("slider", name=letter, exact=True).press(key)
    assert page.locator("output").all_inner_texts() == ["100, excellent", "0, bad", "51, fair"]
    page.get_by_role("button", name="Finish").click()
    (answer,) = parse_answers(saved(page)[0]).answers
    assert [answer.ratings[each] for each in answer.order] == [100, 0, 51]


def test_nothing_in_the_page_says_what_a_sound_is(pairs):
    text = pairs.page.read_text()
    told = re.sub(r'<script type="text/plain"[^>]*>[^<]*</script>|<script type="module">.*', "", text, flags=re.DOTALL)
    assert not re.search(r"fast|int8|degraded|songs/|0001-", told)
    assert "decoder</b>" not in told.replace("\\u003cb>decoder\\u003c/b>", "")
    key = json.loads(pairs.key.read_text())
    assert {each["folder"].split("/")[0] for each in key["stimuli"]} == {"study"}


@pytest.mark.stress
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [900, 560])
@pytest.mark.parametrize("kind", ["pairs", "scales"])
def test_no_step_has_violations_of_accessibility(browser, axe, tmp_path, kind, scheme, width):  # noqa: F811
    options = {"reference": "fast"} if kind == "scales" else {}
    songs = make_study(tmp_path / "study", blocks=1)
    test = make_test(
        songs, tmp_path / "test.html", kind, checks=0, listen_s=0, intro="Read this.\n\nThen begin.", **options
    )
    context = browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(test.page.as_uri())
    page.get_by_role("button", name="Start").wait_for()
    assert violations(page, axe) == {}
    page.get_by_role("button", name="Start").click()
    page.locator(".play").wait_for()
    assert violations(page, axe) == {}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Stop here").click()
    page.locator("summary").click()
    assert violations(page, axe) == {}
    context.close()


@pytest.mark.stress
def test_thirty_scripted_listeners_recover_a_planted_preference(browser, tmp_path):
    test = make_test(
        make_study(tmp_path / "study", blocks=10), tmp_path / "test.html", seconds=0.6, listen_s=0.05, seed=1
    )
    sets = []
    for number in range(30):
        context = browser.new_context(accept_downloads=True)
        given = take_test(context.new_page(), test.page.as_uri(), test.design, f"listener {number}", 0.7, number)
        sets.append(parse_answers(given))
        context.close()
    result = analyse(test.design, sets)
    row = result.table.frame.iloc[0]
    assert len(result.kept) == 30
    assert row["n"] == 300
    assert row["low"] < 0.7 < row["high"]
    assert row["differs"]


def test_the_same_call_returns_the_test_and_another_one_never_takes_its_key(pairs, tmp_path):
    songs = tmp_path / "study"
    options = {"checks": 1, "listen_s": 0.05, "title": "Which <b>decoder</b>?"}
    again = make_test(songs, tmp_path / "test.html", **options)
    assert again.id == pairs.id
    pairs.page.unlink()  # as a full disk would leave it
    assert make_test(songs, tmp_path / "test.html", **options).page.exists()
    for other in ({"checks": 2}, {"seconds": 0.6}, {"seed": 9}):
        with pytest.raises(InvalidRequest, match="the key of another test"):
            make_test(songs, tmp_path / "test.html", **(options | other))
    assert open_test(pairs.key).id == pairs.id
