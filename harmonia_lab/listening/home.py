"""The listening tests that a home's servers serve, and the answers that they collect.

Owns the folder `listening` in the home folder: one folder for each test, named by its id, for this system's user alone.

    key.json      what each sound is; never sent
    test.json     what a listener's page may know
    sounds/       one file for each stimulus
    answers/      one file for each answer set, named by listener and attempt; written once, never changed

Any number of processes may serve and collect at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harmonia_lab import locks, storage
from harmonia_lab.errors import ErrorCode, InvalidRequest, Refused
from harmonia_lab.listening.answers import AnswerSet, parse_answers
from harmonia_lab.listening.files import ListeningTest, MadeTest, write_key
from harmonia_lab.protocol.models import utc_now
from harmonia_lab.storage import make_folder, storage_errors, write_bytes

__all__ = ["MAX_ATTEMPTS", "MAX_SETS", "ListedTest", "ListeningHome", "ServedTest", "invitation", "listener_role"]

MAX_SETS, MAX_ATTEMPTS = 10_000, 20
"""Answer sets of one test, and of one listener of it: at most 2.5 GB, and 5 MB."""

_ID = re.compile(r"[0-9a-f]{12}")
_SOUND = re.compile(r"s[0-9]{3,4}")


class IssuesTokens(Protocol):
    """The part of a running server that invites listeners."""

    url: str

    def token(self, user: str, roles: tuple[str, ...], ttl: float) -> str: ...


def listener_role(test_id: str) -> str:
    """Return the role with which a token opens one test, and nothing else."""
    return f"listener:{test_id}"


def invitation(url: str, test_id: str, token: str) -> str:
    """Return the link for a listener. What stands after # isn't sent to the server when the page is loaded."""
    return f"{url.rstrip('/')}/listen/{test_id}#token={token}"


@dataclass(frozen=True)
class ListedTest:
    """A test of a home. answers: how many sets there are."""

    id: str
    title: str
    kind: str
    answers: int

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "title": self.title, "kind": self.kind, "answers": self.answers}


class ListeningHome:
    """Every method may be called from any thread. For an unknown id, they raise Refused (NOT_FOUND)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, made: MadeTest) -> None:
        """Write a test, so that servers of this home serve it. It appears whole. Raises StorageError."""
        with storage_errors(self._folder):
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
        part = self._folder / f".{made.design.id}.partial-{secrets.token_hex(4)}"
        try:
            make_folder(part, private=True)
            for folder in (part / "sounds", part / "answers"):
                make_folder(folder, private=True)
            for name, data in made.sounds.items():
                write_bytes(part / "sounds" / name, data)
            write_bytes(part / "test.json", json.dumps(made.design.for_listeners(), ensure_ascii=False).encode())
            write_key(part / "key.json", made.design)
            storage.move(part, self._folder / made.design.id)
        except BaseException:
            storage.remove_tree(part)
            raise

    def listed(self) -> list[ListedTest]:
        """Return the tests of this home, by title."""
        found = []
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if _ID.fullmatch(path.name):
                    with contextlib.suppress(OSError, ValueError, KeyError):
                        plain = json.loads((path / "test.json").read_bytes())
                        answers = sum(1 for _ in self._sets(path))
                        found.append(ListedTest(path.name, str(plain["title"]), str(plain["kind"]), answers))
        return sorted(found, key=lambda each: (each.title, each.id))

    def folder(self, test_id: str) -> Path:
        """Return a test's folder."""
        path = self._folder / test_id
        if not _ID.fullmatch(test_id) or not path.is_dir():
            raise Refused(
                "There is no such listening test here.",
                code=ErrorCode.NOT_FOUND,
                hint="`harmonia listen --list` lists them.",
            )
        return path

    def answers(self, test_id: str) -> Path:
        """Return the folder of a test's answers, for `answers.read_answers`."""
        return self.folder(test_id) / "answers"

    def public(self, test_id: str) -> dict[str, Any]:
        """Return what a listener's page may know."""
        path = self.folder(test_id) / "test.json"
        with storage_errors(path):
            plain: dict[str, Any] = json.loads(path.read_bytes())
        return plain

    def sound(self, test_id: str, stimulus: str) -> bytes:
        """Return a sound, MP3 or FLAC."""
        path = self.folder(test_id) / "sounds" / stimulus
        if not _SOUND.fullmatch(stimulus) or not path.is_file():
            raise Refused("There is no such sound in this test.", code=ErrorCode.NOT_FOUND)
        with storage_errors(path):
            return path.read_bytes()

    def keep(self, test_id: str, listener: str, plain: Any) -> bool:
        """Keep an answer set as one of `listener`'s; return False if this attempt's answers are here already, which
        stay as they are.

        Raises InvalidRequest for what is no answer set of this test, Refused (QUOTA_EXCEEDED), StorageError.
        """
        answers = parse_answers(plain, "The body")
        self._check_fits(test_id, answers)
        folder = self.answers(test_id)
        who = hashlib.sha256(listener.encode()).hexdigest()[:16]
        path = folder / f"{who}-{answers.attempt}.json"
        told = {**answers.to_json(), "listener": listener, "receivedAt": utc_now().isoformat(timespec="seconds")}
        with storage_errors(folder), locks.held(folder / ".lock"):
            if path.exists():
                return False
            names = [each.name for each in self._sets(folder.parent)]
            if len(names) >= MAX_SETS or sum(name.startswith(who) for name in names) >= MAX_ATTEMPTS:
                raise Refused(
                    f"This test has as many answers as it may: {MAX_SETS}, or {MAX_ATTEMPTS} of one listener.",
                    code=ErrorCode.QUOTA_EXCEEDED,
                )
            part = folder / f".{path.name}.partial"
            write_bytes(part, json.dumps(told, ensure_ascii=False).encode())
            storage.move(part, path)
        return True

    def _check_fits(self, test_id: str, answers: AnswerSet) -> None:
        test = self.public(test_id)
        trials = {trial["id"]: sorted(trial["stimuli"]) for trial in test["trials"]}
        fits = answers.test == test["id"] and answers.kind == test["kind"]
        if not fits or any(trials.get(each.trial) != sorted(each.order) for each in answers.answers):
            raise InvalidRequest(
                "These are answers of another test.", hint="Open the link again.", details={"fields": ["test"]}
            )

    def _sets(self, test: Path) -> Iterator[Path]:
        return (path for path in (test / "answers").iterdir() if path.suffix == ".json" and path.name[0] != ".")


class ServedTest:
    """A test in a home, which its servers serve at /listen/ID."""

    def __init__(self, home: ListeningHome, test: ListeningTest) -> None:
        self._home, self.test = home, test

    @property
    def id(self) -> str:
        return self.test.id

    def invite(self, server: IssuesTokens, listener: str, ttl: float = 30 * 86400.0) -> str:
        """Return the link with which a listener takes this test, and nothing else. ttl: seconds that it works."""
        return invitation(server.url, self.id, server.token(listener, (listener_role(self.id),), ttl))

    def result(self, **options: Any) -> Any:
        """Return what the answers so far say (`analysis.ListeningResult`). options: those of `analysis.analyse`."""
        return self.test.result(self._home.answers(self.id), **options)

    def __repr__(self) -> str:
        return f"{self.test}\n  served at /listen/{self.id}"
