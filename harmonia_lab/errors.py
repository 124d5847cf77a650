"""The error tree and the table of codes: what may fail, whether a retry can help, which recovery is automatic.

Owns every code that a user, a log row or a client can see. `cli/` shows errors to people.

    HarmoniaError
    ├── InvalidRequest       the caller can correct it: a value out of range, an unknown instrument, a taken folder
    ├── MetadataError        stage 1: no Ollama, no model, an answer that could not be repaired
    ├── AudioError           stage 2: a renderer is missing or failed
    ├── StorageError         a file could not be written or read
    ├── Refused              a server refuses the command: no right, no such id, too many songs or messages
    ├── Disconnected         a client can't reach its server
    └── Cancelled            a user or a time limit stopped the generation
"""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = [
    "CODES",
    "AudioError",
    "Cancelled",
    "Code",
    "Disconnected",
    "ErrorCode",
    "HarmoniaError",
    "InvalidRequest",
    "MetadataError",
    "Refused",
    "StorageError",
    "error_of",
]


class ErrorCode(StrEnum):
    """Stable names, used on the wire, in rows of the run log, and in the command line's `--json` output."""

    OLLAMA_UNAVAILABLE = "OLLAMA_UNAVAILABLE"
    OLLAMA_TIMEOUT = "OLLAMA_TIMEOUT"
    OLLAMA_MODEL_MISSING = "OLLAMA_MODEL_MISSING"
    OLLAMA_BUSY = "OLLAMA_BUSY"
    OLLAMA_SLOW = "OLLAMA_SLOW"
    OLLAMA_UNAUTHORIZED = "OLLAMA_UNAUTHORIZED"
    OLLAMA_SETTINGS = "OLLAMA_SETTINGS"
    METADATA_INVALID = "METADATA_INVALID"
    AUDIO_UNAVAILABLE = "AUDIO_UNAVAILABLE"
    AUDIO_ERROR = "AUDIO_ERROR"
    AUDIO_TIMEOUT = "AUDIO_TIMEOUT"
    MUSICGEN_UNAVAILABLE = "MUSICGEN_UNAVAILABLE"
    MUSICGEN_ERROR = "MUSICGEN_ERROR"
    MUSICGEN_MEMORY = "MUSICGEN_MEMORY"
    STORAGE_FULL = "STORAGE_FULL"
    STORAGE_UNWRITABLE = "STORAGE_UNWRITABLE"
    STORAGE_LOCKED = "STORAGE_LOCKED"
    RECORD_DAMAGED = "RECORD_DAMAGED"
    INVALID_PAYLOAD = "INVALID_PAYLOAD"
    NOT_FOUND = "NOT_FOUND"
    UNAUTHORIZED = "UNAUTHORIZED"
    QUEUE_FULL = "QUEUE_FULL"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    CANCEL_FAILED = "CANCEL_FAILED"
    NOT_RECOVERABLE = "NOT_RECOVERABLE"
    INTERRUPTED = "INTERRUPTED"
    QUARANTINED = "QUARANTINED"
    NETWORK_TEMPORARY = "NETWORK_TEMPORARY"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True)
class Code:
    """One row of the table.

    meaning: what happened, in words for researchers.
    recoverable: whether the same request can succeed later, unchanged.
    recovery: what is tried automatically before the error is final; empty if nothing is. `recovery_plans.py` in
    `generation/` does it, and the engines.
    """

    meaning: str
    recoverable: bool
    recovery: str = ""


CODES: dict[ErrorCode, Code] = {
    ErrorCode.OLLAMA_UNAVAILABLE: Code(
        "The language model's server does not answer, or went away.",
        True,
        "up to three reconnects; the embedded server, and a service with a command for it, is restarted",
    ),
    ErrorCode.OLLAMA_TIMEOUT: Code(
        "The language model's server stopped answering in time.",
        True,
        "up to three reconnects; the embedded server, and a service with a command for it, is restarted",
    ),
    ErrorCode.OLLAMA_MODEL_MISSING: Code("The language model is not installed on that server.", False),
    ErrorCode.OLLAMA_BUSY: Code(
        "The language model's server has too much to do.", True, "asked again when the server says, within a limit"
    ),
    ErrorCode.OLLAMA_SLOW: Code(
        "The language model did not begin its answer in time, though its server works.", True, "asked once more"
    ),
    ErrorCode.OLLAMA_UNAUTHORIZED: Code("The language model's server wants a sign-in, a key or other rights.", False),
    ErrorCode.OLLAMA_SETTINGS: Code(
        "The address, proxy, certificate or headers of the language model's server cannot be used.", False
    ),
    ErrorCode.METADATA_INVALID: Code(
        "The language model's answers do not make valid song metadata.", True, "two repair rounds"
    ),
    ErrorCode.AUDIO_UNAVAILABLE: Code("The audio engine, or a file that it needs, is not installed.", False),
    ErrorCode.AUDIO_ERROR: Code(
        "The audio engine failed while it rendered.",
        True,
        "what isn't finished is rendered once more, by a renderer that is started again",
    ),
    ErrorCode.AUDIO_TIMEOUT: Code(
        "The audio engine took longer than its time limit, and is not tried again by itself.", True
    ),
    ErrorCode.MUSICGEN_UNAVAILABLE: Code(
        "MusicGen, its checkpoint or the device asked for is not there, or cannot be used.", False
    ),
    ErrorCode.MUSICGEN_ERROR: Code(
        "MusicGen failed while it generated.", True, "once in a precision with more room, if its numbers overflowed"
    ),
    ErrorCode.MUSICGEN_MEMORY: Code(
        "There is not enough memory for MusicGen.",
        True,
        "memory is freed; then a smaller batch, a shorter window, the CPU instead of a GPU, and a smaller model where a"
        " setting allows it are tried",
    ),
    ErrorCode.STORAGE_FULL: Code(
        "The disk is full.",
        True,
        "events and log rows are written when there is space; a song is tried once more after a second, if there is by"
        " then",
    ),
    ErrorCode.STORAGE_UNWRITABLE: Code("A file or folder cannot be written.", False),
    ErrorCode.STORAGE_LOCKED: Code(
        "Another program holds a lock on the journal.", True, "events and log rows are written when it lets go"
    ),
    ErrorCode.RECORD_DAMAGED: Code("A song's record, run.json, cannot be read, or holds wrong types.", False),
    ErrorCode.INVALID_PAYLOAD: Code("The request has a value that cannot be used.", False),
    ErrorCode.NOT_FOUND: Code("There is no such file, song or record.", False),
    ErrorCode.UNAUTHORIZED: Code("The token is missing, bad or expired, or its user has no right to do this.", False),
    ErrorCode.QUEUE_FULL: Code("The server has as many songs waiting as it takes.", True),
    ErrorCode.RATE_LIMITED: Code("Too many messages in too short a time.", True),
    ErrorCode.QUOTA_EXCEEDED: Code("The user has as many sounds on the server as it keeps for one user.", True),
    ErrorCode.CANCEL_FAILED: Code("The generation cannot be cancelled: it has ended, or does not exist.", False),
    ErrorCode.NOT_RECOVERABLE: Code(
        "The generation cannot be tried again: it has not failed, or would fail again.", False
    ),
    ErrorCode.INTERRUPTED: Code(
        "The process that made the song ended before the song was done; a retry goes on with what was finished.", True
    ),
    ErrorCode.QUARANTINED: Code(
        "The process that made the song died twice while it did: the song is tried again only when a person says so.",
        False,
    ),
    ErrorCode.NETWORK_TEMPORARY: Code(
        "A server, another machine's Ollama or a model hub cannot be reached.",
        True,
        "tried again after about 5 s, waiting longer each time",
    ),
    ErrorCode.CANCELLED: Code("The generation was stopped before it was done.", True),
    ErrorCode.INTERNAL: Code("A defect in Harmonia Lab itself.", False),
}


class HarmoniaError(Exception):
    """An error that tells what happened (`message`) and what to do next (`hint`).

    code: a key of `CODES`.
    details: JSON values for programs (the field at fault, the names that would work, …).
    """

    default_code = ErrorCode.INTERNAL

    def __init__(
        self, message: str, *, code: ErrorCode | None = None, hint: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.details = details or {}
        self._shown: TracebackType | None = None

    @property
    def recoverable(self) -> bool:
        """Whether the same request can succeed later, unchanged."""
        return CODES[self.code].recoverable

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: what happened, what to do, where in the user's code.

        The whole traceback is shown when the error is shown again (`%tb`), with HARMONIA_DEBUG, and of a defect.
        """
        again = self._shown is not None and self._shown is self.__traceback__  # raised anew, it has another one
        self._shown = self.__traceback__
        if again or self.code == ErrorCode.INTERNAL or os.environ.get("HARMONIA_DEBUG"):
            return "".join(traceback.format_exception(self)).splitlines()
        lines = [f"{type(self).__name__} [{self.code}]: {self.message}", self.hint, _line_of_the_user(self)]
        return [line for line in lines if line]


class InvalidRequest(HarmoniaError):
    default_code = ErrorCode.INVALID_PAYLOAD


class MetadataError(HarmoniaError):
    default_code = ErrorCode.METADATA_INVALID


class AudioError(HarmoniaError):
    default_code = ErrorCode.AUDIO_ERROR


class StorageError(HarmoniaError):
    default_code = ErrorCode.STORAGE_UNWRITABLE


class Refused(HarmoniaError):
    default_code = ErrorCode.UNAUTHORIZED


class Disconnected(HarmoniaError):
    default_code = ErrorCode.NETWORK_TEMPORARY


class Cancelled(HarmoniaError):
    """Raised by `CancelToken.raise_if_cancelled`. reason: user_cancelled, timeout or system_error, as in the guide."""

    default_code = ErrorCode.CANCELLED

    def __init__(self, reason: str = "user_cancelled") -> None:
        super().__init__(
            "The generation was cancelled." if reason == "user_cancelled" else f"The generation was stopped: {reason}."
        )
        self.reason = reason


_PACKAGE = str(Path(__file__).parent)


def _line_of_the_user(error: BaseException) -> str:
    """Return the line outside this package that led to `error`, and how to see more."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_PACKAGE)]
    if not frames:
        return ""
    return f"In line {frames[-1].lineno}: {frames[-1].line}    (%tb shows the traceback)"


_CODE_PREFIXES: dict[type[HarmoniaError], tuple[str, ...]] = {
    InvalidRequest: ("INVALID_PAYLOAD",),
    MetadataError: ("OLLAMA_", "METADATA_"),
    AudioError: ("AUDIO_", "MUSICGEN_"),
    StorageError: ("STORAGE_",),
    Refused: (
        "UNAUTHORIZED",
        "NOT_FOUND",
        "RATE_LIMITED",
        "QUOTA_EXCEEDED",
        "QUEUE_FULL",
        "CANCEL_FAILED",
        "NOT_RECOVERABLE",
        "QUARANTINED",
    ),
}


def error_of(code: str, message: str, *, hint: str = "", details: dict[str, Any] | None = None) -> HarmoniaError:
    """Return the error of another process as an instance of its class here. An unknown code becomes INTERNAL."""
    known = ErrorCode(code) if code in CODES else ErrorCode.INTERNAL
    kind = next((kind for kind, prefixes in _CODE_PREFIXES.items() if known.startswith(prefixes)), HarmoniaError)
    return kind(message, code=known, hint=hint, details=details)
