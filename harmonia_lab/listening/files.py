"""A listening test's files: the listener's page, and the key that says what each sound is.

Owns the key's name and form on the disk, and `ListeningTest`, which is both. The key stays with whoever makes the test;
without it, answers can't be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.listening.design import ListeningDesign
from harmonia_lab.storage import absolute, replace_bytes

if TYPE_CHECKING:
    from harmonia_lab.listening.analysis import ListeningResult

__all__ = ["ListeningTest", "MadeTest", "beside_key", "key_path", "open_test", "read_key", "write_key"]


class MadeTest(NamedTuple):
    """A test with its sounds by stimulus, encoded."""

    design: ListeningDesign
    sounds: dict[str, bytes]


class ListeningTest:
    """A test that was made. page: the listener's file, None if only its key is here. key: the file that says what each
    sound is: not for listeners."""

    def __init__(self, design: ListeningDesign, key: Path, page: Path | None = None) -> None:
        self.design, self.key, self.page = design, key, page

    @property
    def id(self) -> str:
        return self.design.id

    def result(self, answers: Path | str | Iterable[Path | str], **options: Any) -> ListeningResult:
        """Return what the answers say. answers: files that listeners sent, or their folder. options: those of
        `listening.analysis.analyse`. Raises InvalidRequest if there are none."""
        from harmonia_lab.listening.analysis import analyse  # noqa: PLC0415 - pandas takes a third of a second
        from harmonia_lab.listening.answers import read_answers  # noqa: PLC0415 - as above

        sets, unread = read_answers(answers)
        return analyse(self.design, sets, unread=unread, **options)

    def simulate(self, share: float = 0.7, listeners: int = 30, seed: int = 0) -> ListeningResult:
        """Return what so many listeners would show who prefer the later of two conditions with probability `share`.

        Raises InvalidRequest for scales.
        """
        import numpy as np  # noqa: PLC0415 - as above

        from harmonia_lab.listening.analysis import analyse  # noqa: PLC0415 - as above
        from harmonia_lab.listening.simulation import simulated_answers  # noqa: PLC0415 - as above

        rng = np.random.default_rng(seed)
        return analyse(self.design, [simulated_answers(self.design, share, n, rng) for n in range(listeners)])

    def __str__(self) -> str:
        design = self.design
        compared = len(design.trials) - design.checks
        what = "pairs" if design.kind == "pairs" else "sets on scales"
        left = f" ({design.left_out} more were left out, drawn by seed {design.seed})" if design.left_out else ""
        of = ", ".join(design.conditions)
        lines = [f"{design.title}: {compared} {what}{left} and {design.checks} attention checks of {of}."]
        lines += [f"  page  {self.page}  (for listeners)"] if self.page else []
        return "\n".join([*lines, f"  key   {self.key}  (not for listeners: it says what each sound is)"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def key_path(page: Path) -> Path:
    """Return where the key of a page is."""
    return page.with_name(f"{page.stem}.key.json")


def write_key(path: Path, design: ListeningDesign) -> None:
    """Write a test's key. Folders of songs that lie beside it are named relative to it. Raises StorageError."""
    text = json.dumps(beside_key(design, path.parent).key(), ensure_ascii=False, indent=1)
    replace_bytes(path, f"{text}\n".encode())


def beside_key(design: ListeningDesign, base: Path) -> ListeningDesign:
    """Return the design with the folders below `base` relative to it."""
    stimuli = tuple(replace(each, folder=_relative(each.folder, base)) for each in design.stimuli)
    return replace(design, stimuli=stimuli)


def _relative(folder: str, base: Path) -> str:
    path = Path(folder)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def read_key(path: Path | str) -> ListeningDesign:
    """Return the test that a key describes. Raises HarmoniaError (NOT_FOUND) if it is missing or damaged."""
    file = absolute(path)
    try:
        return ListeningDesign.from_key(json.loads(file.read_bytes()))
    except FileNotFoundError:
        why = "it is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"it can't be read ({type(error).__name__}: {error})"
    raise HarmoniaError(
        f"{file} is no key of a listening test: {why}.",
        code=ErrorCode.NOT_FOUND,
        hint="Name the .key.json file that was written beside the test's page.",
    )


def open_test(key: Path | str) -> ListeningTest:
    """Return a test that was made before, by its key. Raises HarmoniaError (NOT_FOUND)."""
    file = absolute(key)
    page = file.with_name(file.name.removesuffix(".key.json") + ".html")
    return ListeningTest(read_key(file), file, page if page.exists() else None)
