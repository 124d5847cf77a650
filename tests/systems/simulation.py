"""A process that is macOS or Windows to our code: `python -m tests.systems.simulation darwin win32`, a line for each.

Owns what is taken away (`missing.json`) and what is put in its place. Our modules alone see it, through their own
imports: the standard library and other packages go on with the system that there is, which they must. On Windows a file
that is open can't be moved, replaced or deleted, and nothing moves onto a folder.

Then every module is imported, and songs are made with the fakes: by a batch, over the server, cancelled, journalled and
logged. What this can't show: the real calls of another system (sharing a socket, its locks, its signals).
"""

import builtins
import contextlib
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import types
from pathlib import Path

MISSING = json.loads(Path(__file__).with_name("missing.json").read_text(encoding="utf-8"))

STAND_INS = {"win32": {"os": {"O_BINARY": 0, "O_TEMPORARY": 0}, "subprocess": {"CREATE_NEW_PROCESS_GROUP": 0}}}
"""What a system has and Linux hasn't, by module: values that Linux's own calls take."""

NOT_INSTALLED = {"darwin": {"triton"}, "win32": {"triton", "uvloop"}}
"""Packages that have no wheels there (pyproject.toml knows it)."""

ONLY_WITH_TRITON = {f"harmonia_lab.audio_engines.musicgen.triton_{each}" for each in ("kernels", "sources")}


class Elsewhere(types.ModuleType):
    """A module of the standard library as another system has it."""

    def __init__(self, real, missing, added):
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _missing=frozenset(missing), **added)

    def __getattr__(self, name):
        if name in self._missing:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on {sys.platform}'s stand-in")
        return getattr(self._real, name)

    def __setattr__(self, name, value):
        setattr(self._real, name, value)


class System:
    """Inside the block, our modules' imports find another system."""

    def __init__(self, platform):
        self._platform, self._import = platform, builtins.__import__
        lacking, added = MISSING[platform], STAND_INS.get(platform, {}) | {"sys": {"platform": platform}}
        self._gone = {*lacking["modules"], *NOT_INSTALLED[platform]}
        self._changed = {
            name: Elsewhere(importlib.import_module(name), lacking["names"].get(name, ()), added.get(name, {}))
            for name in {*added, *lacking["names"]} - {"posix", "asyncore"}
            if "." not in name
        }

    def __enter__(self):
        builtins.__import__ = self._find
        self._restore = dict(vars(Path))
        if self._platform == "win32":
            for name in ("rename", "replace", "unlink"):
                setattr(Path, name, refusing_open_files(getattr(Path, name), takes_target=name != "unlink"))
        for name in [each for each in sys.modules if each.split(".")[0] == "harmonia_lab"]:
            del sys.modules[name]

    def __exit__(self, *error):
        builtins.__import__ = self._import
        for name in ("rename", "replace", "unlink"):
            setattr(Path, name, self._restore[name])

    def _find(self, name, globals=None, locals=None, fromlist=(), level=0):  # noqa: A002 - as `__import__`
        if level == 0 and str((globals or {}).get("__name__")).split(".")[0] == "harmonia_lab":
            if name.split(".")[0] in self._gone or name in self._gone:
                raise ModuleNotFoundError(f"No module named {name!r} on {self._platform}", name=name)
            if (changed := self._changed.get(name)) is not None:
                return changed
        return self._import(name, globals, locals, fromlist, level)


def refusing_open_files(real, *, takes_target):
    def call(path, *arguments, **options):
        target = Path(arguments[0]) if takes_target else None
        for each in filter(None, (path, target)):
            if any(held == str(each) or held.startswith(f"{each}/") for held in open_files()):
                error = PermissionError(13, "The process cannot access the file", str(each))
                error.winerror = 32
                raise error
        if target is not None and target.exists() and (real.__name__ == "rename" or target.is_dir()):
            raise FileExistsError(17, "Cannot create a file when that file already exists", str(target))
        return real(path, *arguments, **options)

    return call


def open_files():
    found = []
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(number.readlink()))
    return found


def import_all():
    """Import every module of the package, and return how many there are."""
    package = importlib.import_module("harmonia_lab")
    count = 1
    for found in pkgutil.walk_packages(package.__path__, "harmonia_lab."):
        if found.name.endswith("__main__") or found.name in ONLY_WITH_TRITON:
            continue
        importlib.import_module(found.name)
        count += 1
    return count


def make_songs(folder):
    """Make songs in every way, and return what is known of them afterwards."""
    from harmonia_lab import Lab
    from harmonia_lab.client import BlockingClient
    from harmonia_lab.errors import Cancelled
    from harmonia_lab.metadata_engines.embedded.launch import EmbeddedServer
    from harmonia_lab.server.keys import rotate_key
    from harmonia_lab.store.run_log import PURPOSES
    from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine

    audio = FakeAudioEngine(sample_rate=8000)
    with Lab(metadata=FakeMetadataEngine(), audio=audio, songs=folder / "songs", home=folder / "home") as lab:
        (folder / "own").mkdir()
        song = lab.compose("A story.", seconds=1, seed=7, progress=False, out=folder / "own")  # onto an empty folder
        report = lab.batch([{"narrative": "Another.", "seconds": 1, "name": "first"}], folder / "batch", say=len)
        server = lab.serve(port=0)
        with BlockingClient(server.local_url) as client:
            client.connect(server.token())
            served = client.start("A third.", seconds=1, seed=1)
            heard = [event.name for event in client.events(served.generation_id)]
        audio.step_s = 60.0
        job = lab.submit("One that is cancelled.", seconds=1)
        job.cancel()
        with contextlib.suppress(Cancelled):
            job.result(60)
        server.revoke("somebody")
        server.stop()
        rotate_key(folder / "home" / "token.key")
        record = json.loads((folder / "own" / "run.json").read_text(encoding="utf-8"))
        return {
            "threads": EmbeddedServer().threads,  # its launch alone asks for cores
            "heard": heard[-1],
            "verified": lab.verify(folder / "own").ok,
            "checksum": song.checksum,
            "files": sorted(record["files"]),
            "batch": [outcome.status for outcome in report.outcomes],
            "log": lab.log.frame(purposes=PURPOSES)["status"].tolist(),
            "journal": sorted(job.status for job in lab.journal.jobs("local")),
        }


def run(platform):
    with tempfile.TemporaryDirectory() as folder, System(platform):
        os.environ["HARMONIA_HOME"] = f"{folder}/home"
        found = {"platform": platform, "modules": import_all(), **make_songs(Path(folder))}
        left = sorted(path.name for path in Path(folder, "home", "journal.sqlite3.processes").iterdir())
        return found | {"left": left}


if __name__ == "__main__":
    for each in sys.argv[1:]:
        print(json.dumps(run(each)), flush=True)
