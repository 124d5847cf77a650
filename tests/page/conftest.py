"""A real Chromium in front of a real server's page; engines that write a draft, wait at a gate, and play at once."""

import threading
from dataclasses import replace

import pytest

from tests.server.conftest import serving
from tests.server.engines import METADATA, Player, Writer
from tests.waiting import PATIENCE_S
from tests.widgets.lab import chromium

WATCH = """
globalThis.faults = [];
addEventListener("securitypolicyviolation", (event) => faults.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""


class Poet(Writer):
    """Stage 1: shows a draft, then waits at the gate before it goes on."""

    def write(self, request, seed, report, cancel):
        partial = {"title": METADATA.title, "lyrics": "The tide comes"}
        return super().write(request, seed, lambda news: report(replace(news, partial=partial)), cancel)


@pytest.fixture(scope="package")
def browser():
    with chromium() as browser:
        yield browser


class Site:
    """A server with its page. gate: stage 1 waits until it is set; it is set."""

    def __init__(self, server, gate, browser):
        self.server, self.gate, self.browser, self.lab = server, gate, browser, server.lab
        self.audio = server.lab.audio_engine
        self._contexts = []

    def open(self, link=None, *, context=None, **options):
        """A page at the link, in a browser of its own, connected unless `link` is given. Its faults are in
        `page.faults`."""
        if context is None:
            context = self.browser.new_context(**{"viewport": {"width": 1000, "height": 800}} | options)
            context.add_init_script(WATCH)
            self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)  # against hangs alone
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("dialog", lambda dialog: (page.faults.append("dialog"), dialog.dismiss()))
        page.goto(link or self.server.link("ann"))
        if link is None:
            connected(page)
        return page

    def close(self):
        for context in self._contexts:
            for page in context.pages:
                assert page.faults == []
                assert page.evaluate("faults") == []
            context.close()


def connected(page, user="ann"):
    page.get_by_text(f"Connected as {user}.").wait_for()


def song(page, status=None, **data):
    """The article of the one song with this status."""
    data |= {} if status is None else {"status": status}
    found = page.locator("article" + "".join(f"[data-{name}='{value}']" for name, value in data.items()))
    found.first.wait_for()
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    gate = threading.Event()
    with serving(tmp_path_factory.mktemp("page"), metadata=Poet(gate=gate), audio=Player()) as server:
        server.gate = gate
        yield server


@pytest.fixture
def site(served, browser):
    served.gate.set()
    site = Site(served, served.gate, browser)
    yield site
    served.gate.set()
    site.close()
