"""The command line: `harmonia song | batch | study | serve | token | verify | export | doctor | setup | bench | …`.

Owns exit statuses and how errors are printed. Arguments are in `arguments.py`, each command in a module of its name,
what becomes of output that can't be written in `streams.py`. Results go to standard output, everything else to standard
error. Exit status: 0 done, 1 failed, 2 bad usage, 130 cancelled.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from harmonia_lab.cli import streams
from harmonia_lab.cli.arguments import UsageError, make_parser
from harmonia_lab.cli.interrupts import STOPS, handle, swallowed_raised_again

if TYPE_CHECKING:
    import argparse

    from harmonia_lab.errors import HarmoniaError

__all__ = ["EXIT_CANCELLED", "EXIT_DONE", "EXIT_FAILED", "EXIT_USAGE", "exit_at_once", "main"]

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_CANCELLED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        streams.protect(objects_only=_wants_objects(given))
        handle(STOPS, signal.default_int_handler)  # they end a song as cleanly as an interrupt
        with swallowed_raised_again():
            status = _run_given(given)
    except KeyboardInterrupt:
        _exit_cancelled()
    except SystemExit as ended:  # argparse's, after --help or --version
        status = EXIT_DONE if ended.code is None else int(ended.code)
    return _final(status)


def _run_given(given: list[str]) -> int:
    _log_to_standard_error()
    try:
        options = make_parser(given).parse_args(given)
    except UsageError as error:
        if _wants_objects(given):
            from harmonia_lab.errors import InvalidRequest  # noqa: PLC0415 - as in `_run`

            _show_error(InvalidRequest(f"{error}.", hint=f"See {error.parser.prog} --help."), as_json=True)
        else:
            error.parser.print_usage(sys.stderr)
            print(f"{error.parser.prog}: error: {error}", file=sys.stderr)
        return EXIT_USAGE
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    # Only the chosen command is imported, so that `harmonia --help` is quick.
    from harmonia_lab.errors import Cancelled, HarmoniaError, InvalidRequest  # noqa: PLC0415

    as_json = getattr(options, "json", None) is True  # of `bench` it is a file's name
    module = "harmonia_lab.bench" if options.command == "bench" else f"harmonia_lab.cli.{options.command}"
    try:
        run: Callable[[argparse.Namespace], int] = importlib.import_module(module).run
        return run(options)
    except (Cancelled, KeyboardInterrupt):
        if as_json:
            _show_error(Cancelled(), as_json=True)
        _exit_cancelled()
    except HarmoniaError as error:
        _show_error(error, as_json=as_json)
        return EXIT_USAGE if isinstance(error, InvalidRequest) else EXIT_FAILED
    except Exception as error:
        # A user gets no traceback; with HARMONIA_DEBUG, the log has it for a report.
        import logging  # noqa: PLC0415 - as above

        logging.getLogger("harmonia_lab").debug("A defect.", exc_info=True)
        defect = HarmoniaError(
            f"A defect in Harmonia Lab: {type(error).__name__}: {error}",
            hint=f"Please report it, with what `HARMONIA_DEBUG=1 harmonia {options.command} …` prints.",
        )
        _show_error(defect, as_json=as_json)
        return EXIT_FAILED


def _show_error(error: HarmoniaError, *, as_json: bool) -> None:
    if as_json:
        import json  # noqa: PLC0415

        body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        print(json.dumps({"error": body | {"recoverable": error.recoverable, "details": error.details}}))
    else:
        from harmonia_lab.protocol.text import printable_lines  # noqa: PLC0415

        hint = f"\n{error.hint}" if error.hint else ""
        # A file's name, a model or another program may have words in it.
        print(printable_lines(f"harmonia: {error.message} [{error.code}]{hint}"), file=sys.stderr)


def _log_to_standard_error() -> None:
    """Send this package's log there. Other packages' loggers are left alone: some print warnings themselves."""
    import logging  # noqa: PLC0415 - an interrupt while this file is imported ends in a traceback: be quick

    from harmonia_lab.cli.log_format import log_as  # noqa: PLC0415 - as above

    log_as("text")
    ours = logging.getLogger("harmonia_lab")
    ours.setLevel(logging.DEBUG if os.environ.get("HARMONIA_DEBUG") else logging.WARNING)


def _exit_cancelled() -> NoReturn:
    print("harmonia: cancelled.", file=sys.stderr)
    exit_at_once(EXIT_CANCELLED)


def exit_at_once(status: int) -> NoReturn:
    """End the process. A normal exit would join the threads of libraries, and keep the user waiting."""
    if (liveness := sys.modules.get("harmonia_lab.store.process_liveness")) is not None:
        liveness.leave()  # a song that is left unfinished has not taken the process down
    os._exit(_final(status))


def _final(status: int) -> int:
    """Write what was printed, and return the exit status: a result that can't be written is a failure."""
    return EXIT_FAILED if not streams.flush() and status == EXIT_DONE else status


def _wants_objects(given: Sequence[str]) -> bool:
    """Return whether standard output is for one JSON object, also for an error. `bench … --json FILE` writes a file."""
    return "--json" in given and given[0] != "bench"
