"""Labs whose songs are made by worker processes of this machine, with an engine that is as slow as a test wants."""

import os
import sys

import pytest

from harmonia_lab import Lab, engine_registry
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.testing import SONG_METADATA

PLUGIN = '''
import os
import time

from harmonia_lab.engines.spec import AudioEngineSpec, EngineOption
from harmonia_lab.testing import FakeAudioEngine

class Tones(FakeAudioEngine):
    """Fake tones. Each part that is rendered, and each engine that is made, is a line of the file `log`. It kills its
    process after a part while the file `die` is there. Both stand behind an @: workers compare no path of theirs. For
    `deaf_s` seconds, it hears no cancel."""

    name = "tones"

    def __init__(self, step_s, log, die, deaf_s):
        super().__init__(step_s=step_s)
        self.own = {"step_s": step_s, "log": log, "die": die, "deaf_s": deaf_s}
        self.note("made", "")

    def note(self, what, of):
        if self.own["log"]:
            with open(self.own["log"][1:], "a") as file:
                file.write(f"{what} {os.getpid()} {of}\\n")

    def render(self, parts, plan, seeds, progress, cancel, finished):
        def told(report):
            if report.finished is not None:
                self.note("rendered", report.finished.name.replace(" ", "-"))
            progress(report)
            if report.finished is not None and self.own["die"] and os.path.exists(self.own["die"][1:]):
                time.sleep(0.2)  # what is finished is on its way home
                os.kill(os.getpid(), 9)
        self.note("begun", len(finished))
        time.sleep(self.own["deaf_s"])
        return super().render(parts, plan, seeds, told, cancel, finished)

    def identity(self):
        return super().identity() | {"model": "tones"}

def make(model, settings):
    from harmonia_lab.backends.cluster import worker

    worker._draw_overview = lambda path, **picture: path.write_bytes(b"picture") and ""
    return Tones(**{"step_s": 0.0, "log": "", "die": "", "deaf_s": 0.0} | settings)

AUDIO = AudioEngineSpec(
    name="tones",
    help="tones",
    make=make,
    options=(
        EngineOption("step_s", "seconds of a part", type=float),
        EngineOption("log", "a file", type=str),
        EngineOption("die", "a file", type=str),
        EngineOption("deaf_s", "seconds", type=float),
    ),
)
'''
SONG = {"metadata": SONG_METADATA, "seconds": 1, "seed": 7}


@pytest.fixture(scope="package")
def tones(tmp_path_factory):
    """The engine "tones", installed for this process and those that it starts."""
    site = tmp_path_factory.mktemp("site")
    (site / "tones_plugin.py").write_text(PLUGIN)
    info = site / "harmonia_tones-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harmonia-tones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harmonia_lab.audio_engines]\ntones = tones_plugin:AUDIO\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(site)
        patched.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
        patched.setenv("OLLAMA_HOST", "127.0.0.1:9")  # the discard port: nothing listens
        engine_registry._search.cache_clear()
        yield site
    engine_registry._search.cache_clear()
    sys.modules.pop("tones_plugin", None)


@pytest.fixture(scope="package")
def workers(tones):
    """A cluster of two worker processes, for labs of several tests."""
    import dask
    from distributed import LocalCluster

    patient = {"distributed.scheduler.worker-ttl": "1 hour"}  # what is mended is the lab's to mend
    with (
        dask.config.set(patient),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            resources={"song": 1},
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def new_lab(tmp_path, workers):
    """new_lab(folder, **parameters): a lab on the cluster, closed after the test."""
    labs = []

    def make(name="lab", *, cluster=workers, **parameters):
        settings = {"log": f"@{tmp_path / 'log'}", **parameters.pop("audio_settings", {})}
        given = {"songs": tmp_path / name / "songs", "home": tmp_path / name / "home", "audio": "tones"}
        given |= {"audio_settings": settings, "limits": TimeLimits(no_worker_s=2.0, unheard_s=5.0)}
        labs.append(Lab(**given | {"cluster": cluster} | parameters))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture
def noted(tmp_path):
    """noted(what): the lines that engines have written, each split into words."""

    def read(what):
        path = tmp_path / "log"
        lines = path.read_text().split("\n") if path.exists() else []
        return [line.split() for line in lines if line.startswith(what)]

    return read
