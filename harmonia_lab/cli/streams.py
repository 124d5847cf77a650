"""The command's standard streams, which may be closed, full, or lead to a reader that has gone.

Owns what becomes of errors when something is written to them. Standard output is for the result: an error is told once,
and makes the exit status 1 after the command has done its work. Standard error is for progress and messages, for which
no command fails. With `--json`, standard output gets JSON objects, each on a line, and nothing else: what a library
prints there goes to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Output", "flush", "protect"]


class Output(io.RawIOBase):
    """A file descriptor to write to. Writing never raises: after the first error, `failed` is set, and data is dropped.

    closed_before: whether the descriptor was closed when the process started. name: of the stream, for a message on
    standard error about the first error; "" for no message.
    """

    def __init__(self, number: int, name: str = "", *, closed_before: bool = False) -> None:
        super().__init__()
        self._number, self._name, self._closed_before = number, name, closed_before
        self.failed = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data)
        if not self.failed:
            try:
                return self._write(view)
            except OSError as error:
                self.failed = True
                if self._name and error.errno != errno.EPIPE:  # a reader that has gone (`harmonia … | head`) is no news
                    reason = "it is closed" if error.errno == errno.EBADF else os.strerror(error.errno or 0)
                    print(f"harmonia: {self._name} cannot be written: {reason}.", file=sys.stderr)
        return view.nbytes

    def _write(self, data: memoryview) -> int:
        if self._closed_before:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        while True:
            try:
                return os.write(self._number, data)
            except BlockingIOError:  # another program made the pipe or the terminal non-blocking
                select.select([], [self._number], [])


class _ObjectsOnly(Output):
    """Standard output with `--json`: what is no JSON object on a line goes to standard error."""

    _begun = b""

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data)
        *lines, self._begun = (self._begun + view.tobytes()).split(b"\n")
        for line in lines:
            begin = line.find(b'{"') if line.endswith(b"}") else -1
            other, found = (line[:begin], line[begin:] + b"\n") if begin >= 0 else (line, b"")
            if other:
                print(other.decode(errors="replace"), file=sys.stderr)
            while found:
                found = found[super().write(found) :]
        return view.nbytes


def protect(*, objects_only: bool = False) -> None:
    """Make the standard streams such that writing to them never raises. objects_only: for `--json`.

    Streams that lead elsewhere already, as in a notebook, stay as they are. A closed descriptor leads to the null
    device from now on: otherwise the next file that the process opens, a database for instance, would get its number,
    and with it all that a library prints.
    """
    closed = [number for number in range(3) if _fill(number)]
    if 0 in closed:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process's life
    if 2 in closed or _leads_to(sys.stderr, 2):
        sys.stderr = _text(Output(2, closed_before=2 in closed), sys.stderr, "backslashreplace", at_once=True)
    if 1 in closed or _leads_to(sys.stdout, 1):
        number = 1
        if objects_only:
            number = os.dup(1)
            os.dup2(2, 1)  # for what a library in C prints, or a child process
        kind = _ObjectsOnly if objects_only else Output
        output = kind(number, "standard output", closed_before=1 in closed)
        # A terminal that lacks letters gets question marks.
        sys.stdout = _text(output, sys.stdout, "replace", at_once=output.isatty())
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def flush() -> bool:
    """Write what is buffered. Return whether all that was printed to standard output could be written."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return not (isinstance(raw, Output) and raw.failed)


def _fill(number: int) -> bool:
    """Open the null device in place of a descriptor that is closed, and return whether it was."""
    try:
        os.fstat(number)
    except OSError:
        # It gets the lowest free number, which is this one. Child processes inherit it.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        return True
    return False


def _leads_to(stream: TextIO, number: int) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return stream.fileno() == number
    return False


def _text(output: Output, former: TextIO | None, errors: str, *, at_once: bool) -> TextIO:
    """Return a text stream with the encoding of `former`, which is None for one that was closed."""
    encoding = former.encoding if former is not None else "utf-8"
    at_once |= bool(getattr(former, "write_through", False))  # python -u
    return io.TextIOWrapper(io.BufferedWriter(output), encoding=encoding, errors=errors, line_buffering=at_once)
