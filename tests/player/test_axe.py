"""Accessibility of the player by axe-core, light and dark, wide and narrow."""

import pytest

from benchmarks.server.javascript import installed_packages
from harmonia_lab.player.page import write_listening_page
from tests.player.songs import group, make_song

AXE = {"axe-core": "4.14.1"}
"""MPL-2.0; for tests alone."""


@pytest.fixture(scope="module")
def axe():
    return (installed_packages(AXE) / "node_modules" / "axe-core" / "axe.min.js").read_text()


def violations(page, axe, where="document"):
    """What axe finds: each rule with the elements that break it."""
    page.evaluate(axe)
    found = page.evaluate(
        f"async () => (await axe.run({where})).violations.map((v) => [v.id, v.nodes.map((n) => n.html)])"
    )
    return dict(found)


@pytest.mark.stress
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 560])
def test_the_page_has_no_violations(browser, axe, tmp_path, scheme, width):
    songs = [make_song(tmp_path / name, title=name) for name in ("one", "two")]
    write_listening_page(tmp_path / "listen.html", [group(songs[0]), group(*songs, heading="A story.")])
    page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    page.goto((tmp_path / "listen.html").as_uri())
    page.wait_for_selector(".hp")
    for summary in page.get_by_text("About this song").all():
        summary.click()
    for stems in page.get_by_role("button", name="Stems").all():
        stems.click()
    page.locator("li[data-sung]").first.click()
    assert violations(page, axe) == {}
    page.close()
