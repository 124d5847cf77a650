"""An invited listener takes a served test in a browser, and the answers arrive."""

import json

import pytest

from harmonia_lab.listening.home import listener_role
from tests.listening.songs import make_study
from tests.listening.test_page import hear
from tests.server.conftest import serving


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listening")
    with serving(folder, audit=True) as server:
        server.test = server.lab.listening_test(make_study(folder / "study", blocks=2), checks=1, listen_s=0.05, seed=1)
        yield server


def test_an_invited_listener_takes_the_test_in_a_browser_and_the_answers_arrive(served, page):
    page.goto(served.test.invite(served, "carla"))
    page.get_by_role("button", name="Start").click()
    for number in range(3):
        page.get_by_role("heading", name=f"{number + 1} of 3").wait_for()
        hear(page, "a")
        hear(page, "b")
        page.get_by_role("radio", name="A").check()
        page.locator("button.main").click()
    page.get_by_text("The answers have arrived").wait_for()
    kept = [json.loads(e.read_text()) for e in served.lab.listening.answers(served.test.id).glob("*.json")]
    (carla,) = [each for each in kept if each["listener"] == "carla"]
    assert carla["complete"]
    assert len(carla["answers"]) == 3
    log = (served.lab.home / "audit.jsonl").read_text()
    assert "token=" not in log
    assert served.token("carla", (listener_role(served.test.id),))[-20:] not in log


def test_a_link_without_its_token_says_what_to_do(served, page):
    page.goto(f"{served.url}/listen/{served.test.id}")
    page.get_by_role("alert").wait_for()
    assert "No token" in page.get_by_role("alert").inner_text()
    page.faults[:] = [fault for fault in page.faults if "401" not in fault]
