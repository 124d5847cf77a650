"""`make chaos` and `make soak`, shortened: some faults in one world, a second of mixed load, some crash points."""

import asyncio
import os
from types import SimpleNamespace

import pytest

from harmonia_lab import Lab
from harmonia_lab.backends import local
from harmonia_lab.server.settings import ServerSettings
from tests.chaos.crash_run import points
from tests.chaos.engines import FAULT_FILE, Player, Writer, quick_picture
from tests.chaos.kinds import ITSELF, KINDS, NOT
from tests.chaos.run import run, warm_up
from tests.chaos.victim import SERVER, state
from tests.chaos.world import USERS, World
from tests.soak.measure import measure_in
from tests.soak.page import verdicts


class NearWorld(World):
    """A world whose victim is this process: starting one takes seconds, and most faults need none of their own."""

    async def start_victim(self):
        os.environ[FAULT_FILE] = str(self.fault_file)
        self._lab = Lab(metadata=Writer(), audio=Player(), songs=self.songs, home=self.home)
        server = await asyncio.to_thread(self._lab.serve, ServerSettings(port=0, **SERVER))
        tokens = {user: server.token(user) for user in USERS}
        self.victims.append(SimpleNamespace(url=server.url, tokens=tokens, pid=os.getpid()))
        return self.victim

    async def ask(self, **_command):
        return state(self._lab) | {"pss": 0}

    def _end_all(self):
        os.environ.pop(FAULT_FILE)
        self._lab.close()


@pytest.fixture(scope="module")
def world():
    """One serving process for all of this file's faults, and the loop that its clients live in."""
    with asyncio.Runner() as runner:
        draw, world = local._draw_overview, NearWorld(KINDS["engine raises"])
        quick_picture()
        runner.run(world.__aenter__())
        try:
            runner.run(warm_up(world, songs=1))
            world.runner = runner
            yield world
        finally:
            runner.run(world.__aexit__(None, None, None))
            local._draw_overview = draw


@pytest.mark.parametrize("name", ["engine raises", "journal locked", "client vanishes", "cancelled"])
def test_a_fault_breaks_no_invariant(world, name):
    world.kind = KINDS[name]
    row = world.runner.run(run(world, 0, seed=3))
    assert row["broken"] == []
    assert row["outcome"] in {ITSELF, KINDS[name].recovers} or KINDS[name].recovers == NOT


def test_a_second_of_mixed_load_leaves_nothing_behind(world):
    world.base = world.runner.run(world.ask())
    figures = world.runner.run(measure_in(world, 1 / 60, seed=1))
    assert figures["counts"]["songs"] >= 3
    assert verdicts(figures) == []


def test_whatever_a_crash_leaves_the_next_process_agrees_with(monkeypatch):
    monkeypatch.setattr(local, "_draw_overview", local._draw_overview)
    rows = []
    points(40, "test", rows.append)
    assert sum(row["points"] for row in rows) == 40
    assert [fault for row in rows for fault in row["broken"]] == []
