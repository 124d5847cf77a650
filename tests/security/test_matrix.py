"""The table of users: nobody is let in who may not be, every message is answered, and the page says what was found."""

import pytest

from harmonia_lab.protocol.commands import COMMANDS
from tests.security.matrix import ALLOWED, ROUTES, SOUND, TEST_ID, USERS, cells, prepare
from tests.security.page import PAGE, cells_of, committed, page
from tests.server.conftest import serving


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("matrix")) as server:
        prepare(server)
        yield cells(server), server


def test_no_cell_lets_anybody_in_or_leaves_a_message_unanswered(found):
    assert [cell for cell in found[0] if cell.broken] == []
    assert {(cell.what, cell.user) for cell in found[0]} == {(what, user) for what in ALLOWED for user in USERS}


def test_the_table_has_every_command_and_every_route(found):
    assert {*COMMANDS, *ROUTES} == ALLOWED.keys()
    served = {
        f"{route.method} {route.resource.canonical}"
        for route in found[1]._app._runner.app.router.routes()
        if route.method not in ("HEAD", "OPTIONS") and "socket.io" not in route.resource.canonical
    }
    asked = {
        route.replace("generations/song", "generations/{id}")
        .replace("1-piano.flac", "{name}")
        .replace(SOUND, "/api/sounds/{sound}")
        .replace(TEST_ID, "{test}")
        .replace("/sounds/s001", "/sounds/{sound}")
        for route in ROUTES
    }
    files = {route for route in asked if route.rsplit("/", 1)[-1] in ("audio", "midi", "overview")}
    assert served == (asked - files) | {"GET /api/generations/{id}/{file}"}


def test_the_page_is_that_of_the_committed_cells():
    assert PAGE.read_text() == page(committed())


def test_the_committed_cells_are_those_that_are_found_now(found):
    assert set(cells_of(committed())) == set(found[0])
