"""A real Chromium, once for all these files, and pages that run the player without a server of ours."""

import json

import pytest

from harmonia_lab.player.modules import PLAYER_JS, joined, style
from tests.widgets.lab import chromium

SITE = "http://localhost/"
"""No server: the test answers itself. A page there may do what a server's page may, and one made of text may not."""


@pytest.fixture(scope="package")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1000, "height": 700}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(120_000)  # against hangs alone
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: (page.faults.append("dialog"), dialog.dismiss()))
    yield page
    assert page.faults == []
    context.close()


@pytest.fixture
def serve(page):
    """serve(module, **values): opens a page with the module's functions on `hp`, and the values on `given`."""

    def serve(module=PLAYER_JS, body="<main></main>", names="mount, Deck", css="", **values):
        given = json.dumps(values).replace("<", "\\u003c")
        html = (
            f"<!doctype html><html lang=en><title>Player</title><style>{style()}{css}</style><body>{body}"
            f'<script type="module">{joined(module)}\n'
            f"globalThis.given = {given}; globalThis.hp = {{ {names} }};</script>"
        )
        page.route(f"{SITE}**", lambda route: route.fulfill(body=html, content_type="text/html; charset=utf-8"))
        page.goto(SITE)
        page.wait_for_function("() => globalThis.hp")
        return page

    return serve
