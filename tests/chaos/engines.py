"""Engines of the process that faults happen to: quick, and they fail as a file tells them.

The faults of engines are raised here, since they can't be had otherwise in a second: there is no device whose memory
could run out. The child process of `process` is a real one.
"""

import json
import os
import time
from pathlib import Path

from harmonia_lab.backends import local
from harmonia_lab.child_process import ChildProcess, python_command
from harmonia_lab.engines.base import Remedy
from harmonia_lab.engines.spec import AudioEngineSpec, MetadataEngineSpec
from harmonia_lab.errors import AudioError, ErrorCode
from harmonia_lab.storage import write_bytes
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine

FAULT_FILE = "HARMONIA_CHAOS_FAULT"
"""The environment variable that names the file of the next fault. The engine that meets it takes the file away."""

BYSTANDER = "A Calm Sea"
"""The title of the song that no fault is meant for."""

LET_GO, HANG_S = ".let-go", 300.0
"""A call that hangs returns when there is a file with this suffix beside the fault's, or after so many seconds."""


def arm(file, **fault):
    """Have the next song, but for the bystander's, meet a fault after so many finished stems."""
    part = Path(file).with_suffix(".part")
    part.write_text(json.dumps(fault))
    part.replace(file)


def quick_picture():
    """Have this process draw no pictures: one takes longer than all else of such a song."""
    local._draw_overview = lambda path, **_picture: write_bytes(path, b"picture") or ""


def _taken(title):
    file = Path(os.environ.get(FAULT_FILE, "/nowhere"))
    if title == BYSTANDER or not file.exists():
        return {}
    fault = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    return fault


class Writer(FakeMetadataEngine):
    """Stage 1 in a tenth of a second."""

    name = "chaos"

    def __init__(self):
        super().__init__(steps=10, step_s=0.01)


class Player(FakeAudioEngine):
    """Stage 2 in a tenth of a second. with_child: it renders beside a child process, without which it can't."""

    def __init__(self, *, with_child=False):
        super().__init__(sample_rate=8000, step_s=0.02)
        self.name = "chaos-child" if with_child else "chaos"
        self._with_child, self._child = with_child, None

    def render(self, parts, plan, seeds, progress, cancel, finished):
        fault = _taken(plan.metadata.title)
        if self._with_child and (self._child is None or not self._child.running):
            self._child = ChildProcess(python_command("tests.chaos.engine_child"))

        def tell(news):
            if self._with_child and not self._child.running:
                raise AudioError(f"The renderer {self._child.exit_text()}")
            progress(news)
            if fault and news.finished is not None and news.completed > fault["after"]:
                _fail(fault.pop("kind"))
                fault.clear()

        return super().render(parts, plan, seeds, tell, cancel, finished)

    def recover(self, error, attempt, cancel):
        """As MusicGen, which takes a smaller model, and the sketch engine, which starts its renderer again."""
        if error.code == ErrorCode.MUSICGEN_MEMORY:
            return Remedy("smaller-model", "With a smaller model...")
        return Remedy("restart", "Starting the renderer again...") if attempt == 1 else None

    def fresh(self):
        return Player(with_child=self._with_child)

    def process_ids(self):
        return [self._child.pid] if self._child is not None and self._child.running else []

    def close(self):
        super().close()
        if self._child is not None:
            self._child.close()


def _fail(kind):
    if kind == "raise":
        raise AudioError("The renderer failed: a fault was asked for.", hint="Try again.")
    if kind == "memory":
        raise AudioError("There is not enough memory: a fault was asked for.", code=ErrorCode.MUSICGEN_MEMORY)
    if kind == "defect":
        raise RuntimeError("a fault was asked for")
    assert kind == "hang", kind
    let_go, deadline = Path(os.environ[FAULT_FILE]).with_suffix(LET_GO), time.monotonic() + HANG_S
    while not let_go.exists() and time.monotonic() < deadline:
        time.sleep(0.05)  # not `cancel.wait`: as a call into a library that listens to nobody
    let_go.unlink(missing_ok=True)


WRITER = MetadataEngineSpec(name="chaos", help="a writer that fails as it is told", make=lambda _model: Writer())
PLAYER = AudioEngineSpec(
    name="chaos", help="a player that fails as it is told", make=lambda _model, _settings: Player()
)
PLAYER_WITH_CHILD = AudioEngineSpec(
    name="chaos-child", help="the same beside a process", make=lambda _model, _settings: Player(with_child=True)
)

ENTRY_POINTS = """
[harmonia_lab.metadata_engines]
chaos = tests.chaos.engines:WRITER

[harmonia_lab.audio_engines]
chaos = tests.chaos.engines:PLAYER
chaos-child = tests.chaos.engines:PLAYER_WITH_CHILD
"""


def install(site):
    """Make the folder `site` a place where the engines are found, as an installed package's are."""
    info = site / "harmonia_chaos-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harmonia-chaos\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
