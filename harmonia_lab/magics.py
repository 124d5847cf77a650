"""`%load_ext harmonia_lab`, then `%%song --seconds 20 --seed 7` over a story in its own cell; `%song` for one line.

Owns the magic: its words, the lab that makes its songs, completion. The options are those of `harmonia song`, read by
the same parser, and `--as NAME`, which binds the job to a variable.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from typing import Any

from harmonia_lab.cli.arguments import UsageError, make_song_parser
from harmonia_lab.cli.engine_arguments import song_parameters
from harmonia_lab.cli.song import request_of, summary
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.lab import Lab
from harmonia_lab.watching import wait_for
from harmonia_lab.widgets.frontend import in_kernel

__all__ = ["SongMagic", "register", "unregister"]

_EXAMPLES = """Examples, each in a cell of its own:

  %%song --seconds 20 --seed 7 --as job
  A lighthouse keeper's last night.

  %song --genre jazz --key "A minor" A ship that nobody sees.
"""

_WORD = re.compile(r"""(--[\w-]+=)?(?:"([^"]*)"|'([^']*)')(?=\s|$)|\S+""")
"""A word, or several in quotation marks. An apostrophe inside a word is one."""

_registered: dict[int, SongMagic] = {}
"""By the id of their shell."""


class SongMagic:
    """`%song` and `%%song` of one IPython shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._labs: dict[str, Lab] = {}
        """By their parameters, those that the magic has made."""
        self._parser = make_song_parser("%%song")
        self._parser.add_argument(
            "--as", dest="variable", metavar="NAME", type=_variable, help="bind the job to this variable"
        )

    def __call__(self, line: str, cell: str | None = None) -> JobHandle | None:
        """Start a song, and return its job, which shows itself where it is the cell's last value.

        Raises InvalidRequest for options or a story that can't be used.
        """
        options = self._options(line, cell)
        if options is None:
            return None
        parameters, own = song_parameters(options)
        request = request_of(options, options.narrative, own)
        lab = self._lab(parameters)
        job = lab.submit_request(
            request, audio=None if parameters["audio"] == "auto" else parameters["audio"], out=options.out
        )
        if options.variable:
            self._shell.user_ns[options.variable] = job
        if options.json:
            print(json.dumps(summary(job.result()), ensure_ascii=False))  # noqa: T201 - what the option asks for
            return None
        if not in_kernel():
            wait_for(job, lab.panel, progress=True)
        return job

    @property
    def help(self) -> str:
        """What `%%song?` shows."""
        return f"{self._parser.format_help()}\n{_EXAMPLES}"

    def complete(self, event: Any) -> list[str]:
        """Return the options, or the values of the option before the cursor, for IPython's completion."""
        before = event.text_until_cursor.split()
        if before and not event.text_until_cursor.endswith((" ", "\t")):
            before.pop()
        actions = self._parser._option_string_actions  # noqa: SLF001 - argparse lists its options nowhere else
        last = actions.get(before[-1]) if before else None
        if last is not None and last.choices:
            return [str(choice) for choice in last.choices]
        return sorted(name for name in actions if name.startswith("--"))

    def close(self) -> None:
        """Close the labs that the magic has made. Idempotent."""
        for lab in self._labs.values():
            lab.close()
        self._labs.clear()

    def _options(self, line: str, cell: str | None) -> argparse.Namespace | None:
        """Return the options with the story; None where the line asked for help, which then was printed."""
        try:
            options, words = self._parser.parse_known_args(_words(line))
        except UsageError as error:
            raise InvalidRequest(f"{error}.", hint="`%%song?` lists the options.") from None
        except SystemExit:  # argparse's, after --help
            return None
        unknown = [word for word in words if word.startswith("--")]
        if unknown:
            raise InvalidRequest(f"There is no option {unknown[0]}.", hint="`%%song?` lists the options.")
        written = " ".join([*([options.narrative] if options.narrative else []), *words])
        options.narrative = "\n".join(part for part in (written, (cell or "").strip()) if part)
        return options

    def _lab(self, parameters: Mapping[str, Any]) -> Lab:
        """Return the user's `lab`, unless the parameters choose other models or settings: then one that is made of
        them, and kept for the next song."""
        chosen = {name: value for name, value in parameters.items() if value and name != "audio" and value != "auto"}
        own = self._shell.user_ns.get("lab")
        if isinstance(own, Lab) and not chosen and not own.closed:
            return own
        key = json.dumps(parameters, sort_keys=True, default=str)
        if key not in self._labs or self._labs[key].closed:
            self._labs[key] = Lab(**parameters)
        return self._labs[key]


def register(shell: Any) -> SongMagic:
    """Register `%song` and `%%song` with an IPython shell."""
    magic = _registered[id(shell)] = SongMagic(shell)

    def song(line: str, cell: str | None = None) -> JobHandle | None:
        return magic(line, cell)

    song.__doc__ = magic.help
    shell.register_magic_function(song, "line_cell", "song")
    for name in ("%song", "%%song"):
        shell.set_hook("complete_command", lambda _shell, event: magic.complete(event), str_key=name)
    return magic


def unregister(shell: Any) -> None:
    """Close what the shell's magic has made."""
    magic = _registered.pop(id(shell), None)
    if magic is not None:
        magic.close()


def _words(line: str) -> list[str]:
    return [
        (found[1] or "") + (found[2] or found[3] or "") if found[2] is not None or found[3] is not None else found[0]
        for found in _WORD.finditer(line)
    ]


def _variable(name: str) -> str:
    if not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{name!r} is no name of a variable")
    return name
