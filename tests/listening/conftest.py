"""A real Chromium for a file of tests, in which asyncio has no loop of its own meanwhile; a page that says what went
wrong in it."""

import pytest

from tests.widgets.lab import chromium


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 900, "height": 700}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(120_000)  # against hangs alone
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda told: page.faults.append(told.text) if told.type == "error" else None)
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    assert page.faults == []
    context.close()
