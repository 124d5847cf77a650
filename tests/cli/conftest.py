"""The `harmonia` command as a user starts it: a process and a home of its own, no Ollama unless a test has one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harmonia_lab.analysis.frames import BenchmarkLog

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

    def __call__(self, *args, stdin=b"", **environment):
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
