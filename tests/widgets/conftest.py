"""A real JupyterLab with a real Chromium in front of it, once a file, and a page for each test."""

import pytest

from tests.widgets.lab import chromium, find_browser, jupyter_lab


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    yield page
    page.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def address(tmp_path_factory, folder):
    find_browser()
    with jupyter_lab(tmp_path_factory.mktemp("jupyter"), folder) as address:
        yield address
