"""The command line: `harmonia song | batch | serve | token | verify | doctor | setup | bench | protocol`.

Owns arguments, exit statuses and what a person or a script gets to read. Results go to standard output, everything
else to standard error. Exit status: 0 done, 1 failed, 2 bad usage, 130 cancelled.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from harmonia_lab.errors import HarmoniaError

    _Commands = argparse._SubParsersAction["_Parser"]  # noqa: SLF001 - argparse names it no other way

__all__ = ["EXIT_CANCELLED", "EXIT_DONE", "EXIT_FAILED", "EXIT_USAGE", "main"]

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_CANCELLED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    try:
        # What stops a service or a batch stops a song: the same clean end as an interrupt.
        signal.signal(signal.SIGTERM, _interrupt)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without the title's letters still gets the rest
        status = _run_given(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        _leave_cancelled()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # a reader that went away (`harmonia … | head`) is no news
            print(f"harmonia: standard output cannot be written: {error.strerror}.", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        return EXIT_FAILED
    return status


def _run_given(given: list[str]) -> int:
    try:
        options = _parser().parse_args(given)
    except _UsageError as error:
        # `bench … --json FILE` asks for a file, every other `--json` for one object, whatever happens.
        if "--json" not in given or given[0] == "bench":
            error.parser.print_usage(sys.stderr)
            print(f"{error.parser.prog}: error: {error}", file=sys.stderr)
        else:
            from harmonia_lab.errors import InvalidRequest  # noqa: PLC0415 - as in `_run`

            _show_error(InvalidRequest(f"{error}.", hint=f"See {error.parser.prog} --help."), as_json=True)
        return EXIT_USAGE
    _log_where_asked()
    return _run(options)


class _UsageError(Exception):
    """What `parser` can't make sense of."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class _Parser(argparse.ArgumentParser):
    """Raises where argparse's own ends the process."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(self, message)


def _run(options: argparse.Namespace) -> int:
    # Commands load when they are chosen: `harmonia --help` waits for nothing.
    from harmonia_lab.errors import Cancelled, HarmoniaError, InvalidRequest  # noqa: PLC0415

    as_json = getattr(options, "json", None) is True  # a benchmark's is a file
    room = "harmonia_lab.bench" if options.command == "bench" else f"harmonia_lab.cli.{options.command}"
    try:
        run: Callable[[argparse.Namespace], int] = importlib.import_module(room).run
        return run(options)
    except (Cancelled, KeyboardInterrupt):
        if as_json:
            _show_error(Cancelled(), as_json=True)
        _leave_cancelled()
    except HarmoniaError as error:
        _show_error(error, as_json=as_json)
        return EXIT_USAGE if isinstance(error, InvalidRequest) else EXIT_FAILED
    except BrokenPipeError:
        raise
    except Exception as error:
        # No traceback for a user; HARMONIA_DEBUG shows it to who reports the defect.
        import logging  # noqa: PLC0415 - as above

        logging.getLogger("harmonia_lab").debug("A defect.", exc_info=True)
        defect = HarmoniaError(
            f"A defect in Harmonia Lab: {type(error).__name__}: {error}",
            hint=f"Please report it, with what `HARMONIA_DEBUG=1 harmonia {options.command} …` prints.",
        )
        _show_error(defect, as_json=as_json)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    from harmonia_lab._version import __version__  # noqa: PLC0415

    parser = _Parser(prog="harmonia", description="Songs from stories, and the study of how they are made.")
    parser.add_argument("--version", action="version", version=f"harmonia {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    _add_song(commands)
    _add_server(commands)
    _add_checks(commands)
    _add_bench(commands)
    _add_installation(commands)
    return parser


def _add_song(commands: _Commands) -> None:
    song = commands.add_parser(
        "song", help="make a song from a story", description="Makes a song from a story, and prints where it is."
    )
    song.add_argument("narrative", nargs="?", metavar="NARRATIVE", help="the story; - reads it from standard input")
    song.add_argument("--seconds", type=float, default=20.0, help="length of the song, 1 to 600 (default 20)")
    song.add_argument("--seed", type=int, help="0 to 4294967295; the same seed makes the same song (default: drawn)")
    song.add_argument("--bpm", type=int, help="quarter notes a minute, 40 to 220 (default: chosen to suit the story)")
    song.add_argument("--key", help="such as 'A minor' or 'F# major'")
    song.add_argument("--genre", help="such as folk, jazz or ambient")
    song.add_argument("--instruments", type=_names, metavar="NAME,NAME", help="such as 'piano,cello,drums'")
    song.add_argument("--from", dest="source", metavar="FILE", help="a metadata.json: skips the language model")
    song.add_argument("--out", metavar="DIR", help="the song's own folder (default: songs/<title>-<id>)")
    _add_engines(song)

    batch = commands.add_parser(
        "batch",
        help="make the songs of a table",
        description="Makes the songs of a table. Run again, it goes on where it was stopped: what is made is kept. "
        "Columns: narrative, seconds, seed, bpm, key, genre, instruments, model, metadata (a file), audio, audio_model",
    )
    batch.add_argument("table", metavar="FILE", help="a .csv with a header, or a .jsonl")
    batch.add_argument("--out", metavar="DIR", required=True, help="the folder of songs, report.json and listen.html")
    _add_engines(batch)


def _add_engines(command: argparse.ArgumentParser) -> None:
    """How `song` and `batch` choose who makes the songs, and how they answer."""
    command.add_argument(
        "--metadata", choices=("auto", "ollama", "embedded"), default="auto", help="who writes the lyrics"
    )
    command.add_argument("--metadata-model", metavar="NAME", help="the language model, as its server names it")
    command.add_argument(
        "--audio", choices=("auto", "sketch", "musicgen"), default="auto", help="who renders the music"
    )
    command.add_argument(
        "--audio-model", metavar="NAME|FOLDER", help="MusicGen's: small, medium, large, melody, stereo, or a folder"
    )
    command.add_argument(
        "--arrangement", choices=("full", "stems"), help="MusicGen's: the mix at once (default), or each instrument"
    )
    command.add_argument("--device", help="MusicGen's: auto (default), cpu, cuda or cuda:N")
    command.add_argument(
        "--decoder", choices=("auto", "reference", "fast", "int8"), help="MusicGen's decode loop (default auto)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _add_server(commands: _Commands) -> None:
    serve = commands.add_parser(
        "serve", help="let clients make songs", description="Serves Socket.IO and HTTP, until it is stopped."
    )
    serve.add_argument("--host", help="where it listens (default 127.0.0.1: this machine alone)")
    serve.add_argument("--port", type=int, help="0 lets the system choose (default 3333)")
    serve.add_argument("--public-url", metavar="URL", help="how clients reach it, where that is another address")
    serve.add_argument("--certificate", metavar="FILE", help="PEM; with --private-key, it speaks TLS")
    serve.add_argument("--private-key", metavar="FILE", help="PEM")
    serve.add_argument("--public-keys", metavar="FILE", help="PEM or JWKS: tokens are RS256, and come from elsewhere")
    serve.add_argument("--songs", metavar="DIR", help="the folder that songs go to (default songs)")
    serve.add_argument("--metadata", choices=("auto", "ollama", "embedded"), help="who writes lyrics (default auto)")
    serve.add_argument("--metadata-model", metavar="NAME", help="the language model, as its server names it")
    serve.add_argument("--audio", choices=("auto", "sketch", "musicgen"), help="who renders the music (default auto)")
    serve.add_argument("--audio-model", metavar="NAME|FOLDER", help="MusicGen's, as for `harmonia song`")
    serve.add_argument(
        "--settings", metavar="FILE", help='JSON, {"lab": …, "server": …}: all else that can be set; - reads a line'
    )
    serve.add_argument("--attached", action="store_true", help="end when standard input closes")
    serve.add_argument("--json", action="store_true", help="print one JSON object with its URL")

    token = commands.add_parser(
        "token", help="let somebody connect", description="Prints a token with which a client connects as USER."
    )
    token.add_argument("user", metavar="USER", help="whose songs the client makes and sees")
    token.add_argument("--role", action="append", default=[], help="admin sees everybody's jobs")
    token.add_argument("--ttl", type=float, default=3600.0, metavar="SECONDS", help="how long it works (default 3600)")


def _add_checks(commands: _Commands) -> None:
    verify = commands.add_parser(
        "verify",
        help="check a song's files against its record",
        description="Checks a song's files against its record.",
    )
    verify.add_argument("folder", metavar="DIR", help="a song's folder")
    verify.add_argument("--rerun", action="store_true", help="make the song again, and compare byte by byte")
    verify.add_argument("--json", action="store_true", help="print one JSON object")

    doctor = commands.add_parser(
        "doctor",
        help="say what is there and what is missing",
        description="Says what is there, and what mends the rest.",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")


def _add_bench(commands: _Commands) -> None:
    bench = commands.add_parser("bench", help="measure this machine", description="Measures this machine.")
    subjects = bench.add_subparsers(dest="what", required=True, metavar="WHAT")
    pipeline = subjects.add_parser("pipeline", help="both stages, with the embedded model and the sketch engine")
    pipeline.add_argument("--runs", type=int, default=5, help="songs that count, after one that does not (default 5)")
    pipeline.add_argument("--seconds", type=float, default=30.0, help="length of each song (default 30)")
    decode = subjects.add_parser(
        "decode",
        help="MusicGen's decode loops: audiocraft's, transformers', ours",
        description="MusicGen's decode loops side by side. On a GPU (float16, CUDA graphs): "
        "harmonia bench decode --device cuda --size small,medium,large --json FILE",
    )
    decode.add_argument("--runs", type=int, default=5, help="rounds that count, after one that does not (default 5)")
    decode.add_argument(
        "--size", default="small", metavar="NAME,NAME", help="shapes of models with random weights (default small)"
    )
    decode.add_argument("--model", metavar="FOLDER", help="a checkpoint folder instead")
    decode.add_argument("--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda or cuda:N")
    decode.add_argument("--positions", type=_numbers, default=[0, 1000], metavar="N,N", help="frames (default 0,1000)")
    decode.add_argument("--batches", type=_numbers, default=[1, 4], metavar="N,N", help="prompts at once (default 1,4)")
    decode.add_argument("--steps", type=int, help="steps that count in each run (default 12; on a GPU 192)")
    cancel = subjects.add_parser("cancel", help="from a client's cancel to the end that it hears of, in both stages")
    cancel.add_argument("--runs", type=int, default=50, help="cancels in each stage (default 50)")
    cancel.add_argument("--seconds", type=float, default=60.0, help="length of each song (default 60)")
    for subject in (pipeline, decode, cancel):
        subject.add_argument("--json", metavar="FILE", help="also write the figures, with the machine and the versions")


def _add_installation(commands: _Commands) -> None:
    protocol = commands.add_parser(
        "protocol", help="print the wire protocol", description="Prints the wire protocol, for other people's tools."
    )
    protocol.add_argument(
        "what", choices=("asyncapi", "typescript", "markdown"), help="AsyncAPI 3 (JSON), types, a page"
    )

    setup = commands.add_parser(
        "setup", help="install what package metadata can't express", description="Installs what pip can't be told to."
    )
    setup.add_argument(
        "what",
        choices=("embedded", "musicgen"),
        help="embedded: the small language model for offline songs; musicgen: audiocraft and its needs",
    )
    setup.add_argument(
        "--random",
        nargs=2,
        metavar=("SIZE", "DIR"),
        help="musicgen: make a model with random weights instead, to try it",
    )


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _show_error(error: HarmoniaError, *, as_json: bool) -> None:
    if as_json:
        import json  # noqa: PLC0415

        body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        print(json.dumps({"error": body | {"recoverable": error.recoverable, "details": error.details}}))
    else:
        hint = f"\n{error.hint}" if error.hint else ""
        print(f"harmonia: {error.message} [{error.code}]{hint}", file=sys.stderr)


def _log_where_asked() -> None:
    """Our own log. Other packages' warnings keep their own way to standard error, or some would speak twice."""
    import logging  # noqa: PLC0415 - an interrupt that comes while this file loads ends in a traceback

    ours = logging.getLogger("harmonia_lab")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("harmonia: %(message)s"))
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG if os.environ.get("HARMONIA_DEBUG") else logging.WARNING)


def _interrupt(signum: int, frame: object) -> NoReturn:
    del signum, frame
    raise KeyboardInterrupt


def _leave_cancelled() -> NoReturn:
    """Ends at once: a library's threads, joined at a normal exit, must not keep an interrupted user waiting."""
    print("harmonia: cancelled.", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CANCELLED)
