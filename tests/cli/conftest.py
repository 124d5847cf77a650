"""The `harmonia` command: a folder and a home of its own, no Ollama unless a test has one.

`harmonia(...)` runs it in this process, which is much quicker. `harmonia.process(...)` and `harmonia.start(...)` run it
as a user does, for what only a process shows: signals, pipes, the locale, and how it ends.
"""

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.cli import main
from harmonia_lab.cli.interrupts import STOPS

STORY = "An old lighthouse keeper spends his last night at the tower and waits for a ship."


class CommandLine:
    def __init__(self, folder: Path):
        self.folder = folder
        self.home = folder / "home"
        self.songs = folder / "songs"
        self.environment = {
            **os.environ,
            "HARMONIA_HOME": str(self.home),
            "OLLAMA_HOST": "127.0.0.1:9",  # the discard port: nothing listens
            "PYTHONWARNINGS": "error",
        }

    def command(self, *args):
        return [sys.executable, "-m", "harmonia_lab", *args]

    def __call__(self, *args, stdin=b""):
        """Run it in this process, and return what `process` does."""
        streams = [io.TextIOWrapper(io.BytesIO(content), encoding="utf-8") for content in (stdin, b"", b"")]
        before = sys.stdin, sys.stdout, sys.stderr
        with self._surroundings():
            sys.stdin, sys.stdout, sys.stderr = streams
            try:
                status = main([os.fsdecode(arg) for arg in args])
            except SystemExit as ended:  # --help
                status = ended.code
            finally:
                sys.stdin, sys.stdout, sys.stderr = before
        for stream in streams[1:]:
            stream.flush()
        return subprocess.CompletedProcess(args, status, *(stream.buffer.getvalue() for stream in streams[1:]))

    @contextlib.contextmanager
    def _surroundings(self):
        """The command's working folder and environment, and afterwards everything as it was."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *STOPS)}
        ours = logging.getLogger("harmonia_lab")
        logged, level = list(ours.handlers), ours.level
        with pytest.MonkeyPatch.context() as patched, contextlib.chdir(self.folder):
            for name in os.environ.keys() - self.environment.keys():
                patched.delenv(name)
            for name, value in self.environment.items():
                patched.setenv(name, value)
            try:
                yield
            finally:
                ours.handlers[:] = logged
                ours.setLevel(level)
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    def process(self, *args, stdin=b"", **environment):
        return subprocess.run(
            self.command(*args),
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self.environment | environment,
            timeout=600,
            check=False,
        )

    def start(self, *args, **options):
        return subprocess.Popen(
            self.command(*args),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
            **options,
        )

    @property
    def rows(self):
        return BenchmarkLog(self.home / "runs.jsonl").rows()


@pytest.fixture
def harmonia(tmp_path):
    return CommandLine(tmp_path)
