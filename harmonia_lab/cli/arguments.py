"""The arguments of every command of `harmonia`.

Owns names, help texts and defaults, but for those of the engines and their settings (`engine_arguments.py`). Imports
nothing heavy, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn

from harmonia_lab._version import __version__
from harmonia_lab.cli.clean_arguments import add_clean_arguments
from harmonia_lab.cli.engine_arguments import add_cluster, add_engines, add_settings
from harmonia_lab.cli.examples import EXAMPLES
from harmonia_lab.cli.listen_arguments import add_listen_arguments

__all__ = ["Parser", "UsageError", "make_full_parser", "make_parser", "make_song_parser"]


class UsageError(Exception):
    """Arguments that `parser` can't read."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError, where argparse's own prints a message and ends the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(self, message)


class _HelpFormatter(argparse.HelpFormatter):
    """Argparse's own, which keeps the lines of examples, indented by two spaces, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n")
        return "\n".join(
            line if line.startswith("  ") else textwrap.fill(line, width, initial_indent=indent) for line in paragraphs
        )


def make_parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the arguments `given`. Its `parse_args` raises UsageError."""
    parser = Parser(
        prog="harmonia",
        description="Songs from stories, and the study of how they are made.",
        epilog="`harmonia COMMAND --help` ends with examples.",
    )
    parser.add_argument("--version", action="version", version=f"harmonia {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (add_arguments, summary) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", formatter_class=_HelpFormatter
        )
        if name in given:  # other commands' arguments need not be looked up
            add_arguments(command)
            examples = "\n".join(f"  {line}" for line in EXAMPLES.get(name, ()))
            command.epilog = "\n\n".join(filter(None, [command.epilog, examples and f"Examples:\n{examples}"]))
    return parser


def make_full_parser() -> argparse.ArgumentParser:
    """Return the parser with the arguments of every command."""
    return make_parser(list(_COMMANDS))


def make_song_parser(prog: str) -> argparse.ArgumentParser:
    """Return a parser of `song`'s arguments alone, for the notebook's magic. Its `parse_args` raises UsageError."""
    parser = Parser(prog=prog, description="Make a song from the story in this cell.", formatter_class=_HelpFormatter)
    _song(parser)
    return parser


def _song(command: Parser) -> None:
    command.add_argument("narrative", nargs="?", metavar="NARRATIVE", help="the story; - reads it from standard input")
    command.add_argument(
        "--seconds", type=float, help="length of the song, 1 to 600 (default: as the story wishes, else 20)"
    )
    command.add_argument("--seed", type=int, help="0 to 4294967295; the same seed makes the same song (default: drawn)")
    command.add_argument(
        "--bpm", type=int, help="quarter notes a minute, 40 to 220 (default: chosen to suit the story)"
    )
    command.add_argument("--key", help="such as 'A minor' or 'F# major'")
    command.add_argument("--genre", help="such as folk, jazz or ambient")
    command.add_argument("--instruments", type=_names, metavar="NAME,NAME", help="such as 'piano,cello,drums'")
    command.add_argument("--language", help="of the lyrics, such as de or German (default: the story's)")
    command.add_argument(
        "--no-wishes",
        dest="wishes",
        action="store_false",
        help="take the story as story: don't follow what it says about tempo, key, genre or instruments",
    )
    command.add_argument("--from", dest="source", metavar="FILE", help="a metadata.json: skips the language model")
    command.add_argument("--out", metavar="DIR", help="the song's own folder (default: songs/<title>-<id>)")
    _add_server(command)
    _add_song_options(command)


def _batch(command: Parser) -> None:
    command.add_argument("table", metavar="FILE", help="a .csv or .tsv with a header, a .jsonl, or a .json list")
    command.add_argument("--out", metavar="DIR", help="the folder of songs, report.json and listen.html")
    command.add_argument(
        "--check", action="store_true", help="make nothing: tell which rows can't be made (exit status 1 or 2)"
    )
    command.add_argument(
        "--remake",
        action="store_true",
        help="make again what is damaged, or whose words another engine wrote than 'auto' means now; the old song is "
        "moved to DIR/replaced when the new one is whole",
    )
    command.add_argument(
        "--require", metavar="ENGINE", help="neither begin nor go on without this engine for the words, such as ollama"
    )
    command.add_argument(
        "--stop-after",
        type=int,
        default=5,
        metavar="N",
        help="stop after so many songs in a row that fail with one error code (default 5; 0: never)",
    )
    command.add_argument(
        "--encoding", metavar="NAME", help="of FILE, such as cp1252 (default: UTF-8, or what its byte-order mark says)"
    )
    command.epilog = (
        "Run again, it goes on where it was stopped: songs that are made are kept. Columns: narrative, seconds, seed, "
        "bpm, key, genre, instruments, language, wishes, model, metadata (a file), audio, audio_model, audio_options "
        "(JSON), name (of the song's folder), and the audio engine's settings by name, such as prompt or cfg_coef; "
        "other columns go into report.json."
    )
    _add_server(command)
    add_cluster(command)
    _add_song_options(command)


def _study(command: Parser) -> None:
    command.add_argument("design", nargs="?", metavar="FILE", help="a .toml or .json: what is compared, and how")
    command.add_argument("--out", metavar="DIR", help="the study's folder: rows, songs, study.html")
    command.add_argument("--again", metavar="DIR", help="a study's folder: make that study again, and compare")
    command.add_argument("--check", action="store_true", help="read the design, and make nothing")
    command.epilog = (
        "Run again, it goes on where it was stopped. Fields: configurations (by name: metadata, model, "
        "metadata_settings, audio, audio_model, audio_settings), stories, seeds, lengths, primary, claim, "
        "smallest_ratio, warm_up, order_seed, keep_loaded, keep_songs, name. The options below hold for all "
        "configurations that have no others."
    )
    _add_server(command)
    _add_song_options(command)


def _serve(command: Parser) -> None:
    command.add_argument("--host", help="where it listens (default 127.0.0.1: this machine alone)")
    command.add_argument("--port", type=int, help="0 lets the system choose (default 3333)")
    command.add_argument("--public-url", metavar="URL", help="how clients reach it, where that is another address")
    command.add_argument("--certificate", metavar="FILE", help="PEM; with --private-key, it speaks TLS")
    command.add_argument("--private-key", metavar="FILE", help="PEM")
    command.add_argument("--public-keys", metavar="FILE", help="PEM or JWKS: tokens are RS256, and come from elsewhere")
    command.add_argument(
        "--trusted-proxy",
        dest="trusted_proxies",
        action="append",
        metavar="ADDRESS",
        help="of the proxy that speaks TLS in front of it: an address, or a network such as 172.16.0.0/12",
    )
    command.add_argument(
        "--insecure", action="store_true", default=None, help="let other machines reach it without TLS"
    )
    command.add_argument(
        "--redis",
        metavar="URL",
        help="share songs, limits and tokens with the other servers of this Redis (default: HARMONIA_REDIS, which no "
        "list of processes shows)",
    )
    audit = command.add_mutually_exclusive_group()
    audit.add_argument("--audit", metavar="FILE", help="where it logs who did what (default: audit.jsonl in the home)")
    audit.add_argument("--no-audit", dest="audit", action="store_false", help="log nothing")
    command.set_defaults(audit=None)
    command.add_argument(
        "--no-page", dest="page", action="store_false", default=None, help="answer / with no page for a browser"
    )
    command.add_argument("--songs", metavar="DIR", help="the folder that songs go to (default songs)")
    add_engines(command, default=None)
    add_cluster(command)
    command.add_argument(
        "--settings", metavar="FILE", help='JSON, {"lab": …, "server": …}: all else that can be set; - reads a line'
    )
    command.add_argument("--log-format", choices=["text", "json"], help="of its log on standard error (default text)")
    command.add_argument("--attached", action="store_true", help="end when standard input closes")
    _add_json(command, "print one JSON object with its URL")


def _token(command: Parser) -> None:
    command.add_argument("user", nargs="?", metavar="USER", help="whose songs the client makes and sees")
    command.add_argument("--role", action="append", default=[], help="admin sees everybody's jobs")
    command.add_argument(
        "--ttl", type=float, default=3600.0, metavar="SECONDS", help="how long it works (default 3600)"
    )
    command.add_argument(
        "--link",
        nargs="?",
        const="",
        metavar="URL",
        help="print the link of the server's page with the token in it; URL: where the page is, if elsewhere",
    )
    other = command.add_mutually_exclusive_group()
    other.add_argument("--revoke", action="store_true", help="print no token: revoke all that USER got before now")
    other.add_argument("--revoke-id", metavar="ID", help="revoke one token, by its id (see --json)")
    other.add_argument(
        "--rotate",
        action="store_true",
        help="make a new key; tokens and links of the present one work until the next --rotate",
    )
    command.add_argument("--settings", metavar="FILE", help="those of the server, where it was started with --settings")
    command.add_argument(
        "--redis", metavar="URL", help="revoke on all servers that share this Redis (default: HARMONIA_REDIS)"
    )
    _add_json(command, "print one JSON object: the token, its id and its end")


def _verify(command: Parser) -> None:
    command.add_argument(
        "folders",
        nargs="+",
        metavar="DIR",
        help="a song's folder, one with songs below it such as a batch's, or an export",
    )
    command.add_argument("--rerun", action="store_true", help="make the songs again, and compare byte by byte")
    command.add_argument("--trust", metavar="FILE", help="of exports: certificates (PEM) whose signatures you trust")
    _add_json(command, "print a JSON object for each song, a line each")
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = """examples:
  harmonia verify songs/the-lamp-1a2b3c4d --rerun
  harmonia verify night                       every song of a batch
  harmonia verify exports/the-lamp-1a2b3c4d.wav --trust root.pem    the content credentials of an export

Digests find accidents, not forgery: who changes a song can write its record anew. The content credentials of a signed
export stop that."""


def _export(command: Parser) -> None:
    command.add_argument(
        "folders", nargs="+", metavar="DIR", help="a song's folder, or one with songs below it, such as a batch's"
    )
    command.add_argument(
        "--format",
        dest="formats",
        action="append",
        choices=("mp3", "ogg", "wav", "flac", "audiofolder"),
        help="of the sound, also more than once (default mp3); audiofolder: all songs as a data set for Hugging Face",
    )
    command.add_argument("--out", metavar="DIR", default="exports", help="where the files go (default exports)")
    command.add_argument(
        "--stems",
        action="append",
        default=[],
        choices=("mixed", "rendered"),
        help="the stems too: mixed, as they sound in the song, whose sum is the song before mastering; or as rendered",
    )
    command.add_argument("--midi", action="store_true", help="the notes too, with the lyrics as events")
    command.add_argument("--cover", metavar="FILE", help="a .png or .jpg (default: the song's picture; none: no cover)")
    command.add_argument("--artist", help="for the tags")
    command.add_argument("--album", help="for the tags")
    command.add_argument(
        "--sign",
        nargs=2,
        metavar=("CERTIFICATES", "KEY"),
        help="add content credentials (C2PA), signed with your key: two PEM files, the chain and its key",
    )
    command.add_argument("--overwrite", action="store_true", help="replace files that are there")
    _add_json(command)
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = """examples:
  harmonia export songs/the-lamp-1a2b3c4d --format flac --stems mixed --midi --out for-the-daw
  harmonia export night --format mp3 --artist "Ann Author" --album "Sea songs"
  harmonia export night --format audiofolder --out dataset
  harmonia export songs/the-lamp-1a2b3c4d --format wav --sign chain.pem key.pem; harmonia verify exports/*.wav"""


def _doctor(command: Parser) -> None:
    _add_song_options(command)
    command.add_argument("--url", help="look at a running server instead: connect as a client, and time it")
    command.add_argument("--token", help="for --url (default: HARMONIA_TOKEN, which no list of processes shows)")
    command.add_argument(
        "--redis",
        metavar="URL",
        help="look at a Redis that servers share (alone: the address in HARMONIA_REDIS)",
        nargs="?",
        const="",
    )
    add_cluster(command, "look at a Dask cluster instead")


def _models(command: Parser) -> None:
    command.add_argument("folders", nargs="*", metavar="DIR", help="look there too (default: here, and models)")
    command.add_argument("--fetch", metavar="NAME", help="download a MusicGen model, with all that it needs")
    _add_json(command)


def _bench(command: Parser) -> None:
    subjects = command.add_subparsers(dest="what", required=True, metavar="WHAT")
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
    decode.add_argument(
        "--positions",
        type=_numbers,
        default=[50, 1450],
        metavar="N,N",
        help="frames to start from (default 50,1450); from the second on with the first batch only",
    )
    decode.add_argument("--batches", type=_numbers, default=[1, 4], metavar="N,N", help="prompts at once (default 1,4)")
    decode.add_argument("--steps", type=int, help="steps that count in each run (default 8; on a GPU 192)")
    decode.add_argument(
        "--minutes", type=float, default=4.5, help="for each model; rounds that don't fit are left out (default 4.5)"
    )
    cancel = subjects.add_parser(
        "cancel", help="the time from a client's cancel to the event that ends the song, in both stages"
    )
    cancel.add_argument("--runs", type=int, default=50, help="cancels in each stage (default 50)")
    cancel.add_argument("--seconds", type=float, default=60.0, help="length of each song (default 60)")
    for subject in (pipeline, decode, cancel):
        subject.add_argument("--json", metavar="FILE", help="also write the figures, with the machine and the versions")


def _protocol(command: Parser) -> None:
    command.add_argument(
        "what", choices=("asyncapi", "typescript", "markdown"), help="AsyncAPI 3 (JSON), types, a page"
    )


def _setup(command: Parser) -> None:
    from harmonia_lab.engine_registry import installations  # noqa: PLC0415 - as in `_add_engines`

    found = installations()
    helps = "; ".join(f"{name}: {each.help}" for name, each in found.items())
    command.add_argument("what", choices=tuple(found), help=helps.replace("%", "%%"))
    random = "; ".join(name for name, each in found.items() if each.random_model)
    command.add_argument(
        "--random",
        nargs=2,
        metavar=("SIZE", "DIR"),
        help=f"{random}: make a model with random weights instead, to try it",
    )


def _completion(command: Parser) -> None:
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell that reads it")


def _add_song_options(command: Parser) -> None:
    _add_json(command)
    add_engines(command, default="auto")
    add_settings(command)


def _add_server(command: Parser) -> None:
    command.add_argument(
        "--server",
        metavar="URL",
        help="have the songs made by this server's engines (default: HARMONIA_SERVER; '' for this machine)",
    )
    command.add_argument("--token", help="for --server (default: HARMONIA_TOKEN, which no list of processes shows)")
    command.add_argument("--ca", metavar="FILE", help="for --server: certificates to trust (default: HARMONIA_CA)")


def _add_json(command: Parser, what: str = "print one JSON object") -> None:
    command.add_argument("--json", action="store_true", help=what)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


_COMMANDS: dict[str, tuple[Callable[[Parser], None], str]] = {
    "song": (_song, "make a song from a story, and print where it is"),
    "batch": (_batch, "make the songs of a table"),
    "study": (_study, "compare engines, models or settings by songs in drawn blocks"),
    "listen": (add_listen_arguments, "make a blind listening test of songs, and say what its listeners answered"),
    "serve": (_serve, "let clients make songs over Socket.IO and HTTP, until it is stopped"),
    "token": (_token, "print a token with which a client connects as USER, or revoke tokens"),
    "verify": (_verify, "check a song's files against its record"),
    "clean": (add_clean_arguments, "delete songs beyond the limits given, and what killed processes left"),
    "export": (_export, "write songs for other programs, with tags, stems, or as a data set"),
    "doctor": (_doctor, "list what is installed, how to install the rest, and whether a song can be made as asked"),
    "models": (_models, "list the models that are here, what they can do and need, and how to get others"),
    "bench": (_bench, "measure this machine"),
    "protocol": (_protocol, "print the wire protocol, for other people's tools"),
    "setup": (_setup, "install what package metadata can't express"),
    "completion": (_completion, "print a script with which a shell completes commands, options and files"),
}
"""Name → the function that adds its arguments, and what it does."""
