"""`harmonia listen`: make a blind listening test of songs, invite its listeners, and say what they answered."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harmonia_lab.backends.serve_settings import ServeSettings, read_settings
from harmonia_lab.cli.quoting import quoted
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.files import ListeningTest, open_test
from harmonia_lab.listening.home import ListeningHome, invitation, listener_role
from harmonia_lab.listening.make import make_test, serve_test, served_test
from harmonia_lab.listening.sources import Songs
from harmonia_lab.protocol.text import printable, printable_lines
from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.storage import expanded, home_folder

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    chosen = [name for name in ("songs", "key", "test", "list") if getattr(options, name)]
    if len(chosen) != 1:
        raise InvalidRequest(
            "Name songs to make a test of, or else one of --key, --test and --list.", hint="harmonia listen --help"
        )
    if options.songs:
        return _make(options)
    return _list(options) if options.list else _read(options)


def _make(options: argparse.Namespace) -> int:
    if (options.out is None) != options.serve:
        raise InvalidRequest("Where to? --out FILE writes a page; --serve has a server serve it.")
    given: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("kind", "by", "start", "sound", "trials", "checks", "reference", "title", "question", "intro",
                     "listen_s", "seed")
    }  # fmt: skip
    given["seconds"] = options.seconds or None
    songs = _songs(options.songs)
    test = (
        serve_test(_home(options)[0], songs, **given).test if options.serve else make_test(songs, options.out, **given)
    )
    if options.json:
        print(json.dumps(_told(test), ensure_ascii=False))
        return 0
    print(printable_lines(str(test)))
    if options.serve:
        print(f"  test  {test.id}\n\nInvite listeners: harmonia listen --test {test.id} --invite NAME …")
    else:
        print(f"\nWhat they send: harmonia listen --key {quoted(test.key)} --answers FILE …")
    return 0


def _songs(given: list[str]) -> Songs:
    """Return one folder, or the folders of each condition."""
    if len(given) == 1 and ("=" not in given[0] or Path(given[0]).exists()):
        return given[0]
    found: dict[str, list[Path | str]] = {}
    for each in given:
        name, equals, folder = each.partition("=")
        if not equals or Path(each).exists():
            name, folder = Path(each).name, each
        found.setdefault(name, []).append(folder)
    return found


def _told(test: ListeningTest) -> dict[str, Any]:
    design = test.design
    return {
        "id": test.id, "kind": design.kind, "conditions": list(design.conditions), "trials": len(design.trials),
        "checks": design.checks, "leftOut": design.left_out, "seed": design.seed,
        "page": str(test.page) if test.page else None, "key": str(test.key),
    }  # fmt: skip


def _list(options: argparse.Namespace) -> int:
    tests = _home(options)[0].listed()
    if options.json:
        print(json.dumps({"tests": [each.to_json() for each in tests]}, ensure_ascii=False))
    else:
        lines = [f"{each.id}  {each.answers:>5} answers  {each.kind:<6}  {printable(each.title)}" for each in tests]
        print("\n".join(lines) or "No listening test is served from this home.")
    return 0


def _read(options: argparse.Namespace) -> int:
    if options.invite:
        return _invite(options)
    if options.key:
        test, answers = open_test(options.key), options.answers
    else:
        home = _home(options)[0]
        test, answers = served_test(home, options.test).test, options.answers or [home.answers(options.test)]
    if answers is None:
        raise InvalidRequest("Where are the answers? --answers names the files that listeners sent, or their folder.")
    result = test.result(answers, allow_failed=options.allow_failed, keep_incomplete=options.keep_incomplete)
    if options.webmushra:
        from harmonia_lab.listening.webmushra import export_webmushra  # noqa: PLC0415 - for this alone

        written = export_webmushra(result, test.key.parent, options.webmushra)
        if not options.json:
            print(
                "\n".join([*(quoted(path) for path in written.files), *(f"  Note: {n}" for n in written.notes)]),
                end="\n\n",
            )
    print(json.dumps(result.to_json(), ensure_ascii=False) if options.json else printable_lines(str(result)))
    return 0


def _invite(options: argparse.Namespace) -> int:
    if not options.test:
        raise InvalidRequest("To which test? --test ID; `harmonia listen --list` lists them.")
    home, tokens = _home(options)
    home.folder(options.test)  # raises Refused for an unknown one
    links = {}
    for name in options.invite:
        token = tokens.issue(name, (listener_role(options.test),), options.ttl * 86400).token
        links[name] = invitation(options.url, options.test, token)
    print(
        json.dumps(links) if options.json else "\n".join(f"{printable(name)}  {link}" for name, link in links.items())
    )
    return 0


def _home(options: argparse.Namespace) -> tuple[ListeningHome, Any]:
    """Return the home's tests, and what issues its tokens."""
    given = (
        ServeSettings(server=ServerSettings(origins=()))
        if options.settings is None
        else read_settings(options.settings)
    )
    home = home_folder() if given.lab.home is None else expanded(given.lab.home)
    return ListeningHome(home / "listening"), new_tokens(given.server, home)
