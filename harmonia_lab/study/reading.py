"""Designs of studies as people write them: a `.toml` or `.json` file, or a mapping that a notebook builds.

Owns the fields and their checks. All that is wrong with a design is said at once, each fault with its field and code.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from harmonia_lab.audio_options import with_paths_from
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.parameters import as_list, as_numbers, as_value
from harmonia_lab.protocol.models import SongMetadata, SongRequest, check_contradictions, parse_request
from harmonia_lab.storage import expanded
from harmonia_lab.store.run_log import COLUMNS
from harmonia_lab.study.configurations import PARAMETERS, combined, restored
from harmonia_lab.study.design import CLAIMS, StudyDesign

__all__ = ["FIELDS", "Faults", "design_of", "from_record", "read_design"]

SWEEP = "sweep"
"""Field in place of `configurations`: settings of the audio engine, each with its values. Every combination is one."""

FIELDS = (*(each.name for each in fields(StudyDesign)), SWEEP)
"""Fields of a design. Beside them may stand parameters of `Lab`, which all configurations have in common."""

STORY_FIELDS = ("narrative", "metadata", "bpm", "key", "genre", "instruments", "language", "wishes", "audio_options")
"""Fields of a story that is more than a text; a study sets the others of a request. metadata: an object, or a file."""

_A_SWEEP = "{cfg_coef = [1.5, 3, 6]}"
MAX_SONGS = 100_000
_DEFAULTS = {each.name: each.default for each in fields(StudyDesign) if each.default is not MISSING}
_WORK_COLUMNS = ("metadata_work_s", "audio_work_s", "total_work_s", "audio_work_real_time_factor")
_NAME = re.compile(r"[^\s\x00-\x1f\x7f/\\][^\x00-\x1f\x7f/\\]{0,39}")


class Faults:
    """Faults, each with its field, code and message, that are raised as one error."""

    def __init__(self) -> None:
        self._found: list[dict[str, str]] = []

    def add(self, field: str, message: str, code: ErrorCode = ErrorCode.INVALID_PAYLOAD) -> None:
        self._found.append({"field": field, "code": str(code), "message": message})

    @contextmanager
    def gathered(self, field: str) -> Iterator[None]:
        """Add the HarmoniaError of the block, if it raises one, and go on."""
        try:
            yield
        except HarmoniaError as error:
            inner = error.details.get("fields") or []
            where = ".".join([field, *map(str, inner[:1])]) if inner else field
            self.add(where, " ".join(filter(None, [error.message, error.hint])), error.code)

    def raise_any(self, where: str) -> None:
        """Raise InvalidRequest if something was found. where: what has the faults, such as a file's name."""
        if not self._found:
            return
        lines = [f"  {each['field']} [{each['code']}]: {each['message']}" for each in self._found]
        faults = "a fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise InvalidRequest(
            "\n".join([f"{where} has {faults}:", *lines]),
            hint='See docs/batches.md, "Studies", for the fields of a design.',
            details={"fields": [each["field"] for each in self._found], "errors": self._found},
        )


def read_design(path: Path, common: Mapping[str, Any]) -> StudyDesign:
    """Return the design in a `.toml` or `.json` file, UTF-8. common: parameters of `Lab` for all configurations.

    Raises InvalidRequest that names the file, and every fault in it.
    """
    parse = {".toml": tomllib.loads, ".json": json.loads}.get(path.suffix.lower())
    if parse is None:
        raise InvalidRequest(
            f"{path} is no .toml and no .json file.", hint="Name a design, or a mapping in a notebook."
        )
    try:
        given = parse(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is no UTF-8 text (byte {error.start}).", hint="Save it as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is no {path.suffix[1:].upper()}: {error}.") from None
    if not isinstance(given, dict):
        raise InvalidRequest(f"{path} holds no object.", hint='Such as {"stories": […], "configurations": {…}}.')
    return design_of(given, common, path.parent, str(path), path.stem)


def design_of(
    given: Mapping[str, Any],
    common: Mapping[str, Any],
    folder: Path = Path(),
    where: str = "The design",
    name: str = "study",
) -> StudyDesign:
    """Return the design that a mapping describes. folder: what its paths are relative to. name: if it has none.

    Raises InvalidRequest that names every fault.
    """
    faults = Faults()
    for unknown in given.keys() - {*FIELDS, *PARAMETERS}:
        faults.add(str(unknown)[:40], _unknown("There is no such field", unknown, (*FIELDS, *PARAMETERS)))
    reader = _Reader(given, faults, folder)
    values = {
        "name": reader.name("name", name),
        "configurations": reader.configurations(common),
        "stories": reader.stories(),
        "seeds": reader.seeds(),
        "lengths": reader.lengths(),
        "primary": reader.primary(),
        "claim": reader.choice("claim", CLAIMS),
        "smallest_ratio": reader.number("smallest_ratio", 1.001, 100),
        "warm_up": reader.number("warm_up", 0, 100, whole=True),
        "order_seed": reader.number("order_seed", 0, 2**32 - 1, whole=True),
        "keep_loaded": reader.switch("keep_loaded"),
        "keep_songs": reader.switch("keep_songs"),
    }
    songs = len(values["stories"]) * len(values["seeds"]) * len(values["lengths"]) * len(values["configurations"])
    if songs > MAX_SONGS:
        faults.add("seeds", f"{songs:,} songs are more than {MAX_SONGS:,}.")
    faults.raise_any(where)
    return StudyDesign(**values)


def from_record(plain: Mapping[str, Any], common: Mapping[str, Any]) -> StudyDesign:
    """Return the design that `StudyDesign.to_json` wrote. common: parameters of the lab at hand, for secrets alone.

    Raises InvalidRequest for engines that were objects, headers whose values aren't here, and damaged values.
    """
    configurations = {name: restored(name, given, common) for name, given in plain["configurations"].items()}
    return design_of({**plain, "configurations": configurations}, {}, where="The study's record")


class _Reader:
    """Reads the fields of a design. What can't be used is a finding, and gives the default, so that reading goes on."""

    def __init__(self, given: Mapping[str, Any], faults: Faults, folder: Path) -> None:
        self._given, self._faults, self._folder = given, faults, folder

    def name(self, field: str, default: str) -> str:
        value = self._given.get(field, default)
        if isinstance(value, str) and _NAME.fullmatch(value):
            return value
        self._faults.add(field, f"{_shown(value)} is no name: 1 to 40 characters without / and line breaks.")
        return default

    def number(self, field: str, low: float, high: float, *, whole: bool = False) -> Any:
        value = self._given.get(field, _DEFAULTS[field])
        if _is_number(value, whole=whole) and low <= value <= high:
            return value
        kind = "whole number" if whole else "number"
        self._faults.add(field, f"{_shown(value)} is no {kind} from {low:g} to {high:g}.")
        return _DEFAULTS[field]

    def switch(self, field: str) -> bool:
        value = self._given.get(field, _DEFAULTS[field])
        if not isinstance(value, bool):
            self._faults.add(field, f"{_shown(value)} is neither true nor false.")
        return bool(value)

    def choice(self, field: str, known: tuple[str, ...]) -> Any:
        value = self._given.get(field, _DEFAULTS[field])
        if value not in known:
            self._faults.add(field, f"{_shown(value)} is none of {', '.join(known)}.")
        return value

    def primary(self) -> str:
        known = [*_WORK_COLUMNS, *(name for name, column in COLUMNS.items() if column.dtype in ("Int64", "Float64"))]
        value = self._given.get("primary")
        if value is None:
            self._faults.add(
                "primary",
                "Name the column that the study is about, before it runs: cpu_s or audio_cpu_s on a machine that"
                " others use too, total_work_s where a GPU or another machine does the work.",
            )
        elif value not in known:
            self._faults.add("primary", _unknown("The run log has no such column of numbers", value, known))
        return str(value)

    def seeds(self) -> tuple[int, ...]:
        """A list, or how many: 0, 1, 2 …"""
        value = as_value(self._given.get("seeds", list(_DEFAULTS["seeds"])))
        if _is_number(value, whole=True) and not 1 <= value <= MAX_SONGS:
            self._faults.add("seeds", f"{_shown(value)} is not how many: 1 to {MAX_SONGS:,}, or a list.")
            return ()
        if _is_number(value, whole=True):
            return tuple(range(value))
        return self._list("seeds", value, lambda each: _is_number(each, whole=True) and 0 <= each < 2**32,
                          "how many (1, 2, …), or a list of whole numbers from 0 to 4294967295")  # fmt: skip

    def lengths(self) -> tuple[float, ...]:
        value = self._given.get("lengths", list(_DEFAULTS["lengths"]))
        found = self._list("lengths", value, lambda each: _is_number(each) and 1 <= each <= 600,
                           "seconds from 1 to 600, one number or a list")  # fmt: skip
        return tuple(map(float, found))

    def _list(self, field: str, value: Any, fits: Any, what: str) -> tuple[Any, ...]:
        found = as_numbers(value)
        if not found or not all(map(fits, found)):
            self._faults.add(field, f"{_shown(value)} is not {what}.")
        elif len(set(found)) < len(found):
            self._faults.add(field, "One value stands there twice.")
        else:
            return tuple(found)
        return ()

    def configurations(self, common: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        own = self._parameters("", {name: self._given[name] for name in PARAMETERS if name in self._given})
        for_all = combined(common, own)
        given = self._swept() if SWEEP in self._given else self._given.get("configurations")
        if not isinstance(given, Mapping) or len(given) < 2:
            self._faults.add("configurations", "A study compares two configurations or more, each with its name.")
            return {}
        found = {}
        for name, own in given.items():
            field = f"configurations.{name}"
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                self._faults.add(field[:60], "is no name: 1 to 40 characters without / and line breaks.")
            elif not isinstance(own, Mapping):
                self._faults.add(field, f'{_shown(own)} is no set of parameters, such as {{audio = "sketch"}}.')
            else:
                found[name] = combined(for_all, self._parameters(f"{field}.", own))
        return found

    def _swept(self) -> dict[str, Any]:
        """Return the configurations that the sweep stands for, by names such as "cfg_coef 3"."""
        given = self._given[SWEEP]
        if "configurations" in self._given:
            self._faults.add(SWEEP, "stands in place of configurations: name one of the two.")
        if not isinstance(given, Mapping) or not given:
            self._faults.add(SWEEP, f"{_shown(given)} is no set of settings with their values, such as {_A_SWEEP}.")
            return {}
        for name, values in given.items():
            if not isinstance(values, list | tuple) or not values:
                self._faults.add(f"{SWEEP}.{str(name)[:40]}", f"{_shown(values)} is no list of values.")
                return {}
        combinations = [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]
        named = {", ".join(f"{name} {value}" for name, value in each.items())[:40]: each for each in combinations}
        if len(named) < len(combinations):
            self._faults.add(SWEEP, "One value stands there twice, or the names are alike: write configurations.")
        return {name: {"audio_settings": settings} for name, settings in named.items()}

    def _parameters(self, prefix: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return those parameters of `Lab` that can be used."""
        found = {}
        for name, value in given.items():
            if name not in PARAMETERS:
                self._faults.add(f"{prefix}{str(name)[:40]}", _unknown("There is no such parameter", name, PARAMETERS))
            elif name.endswith("_settings") and not isinstance(value, Mapping):
                self._faults.add(prefix + name, f"{_shown(value)} is no set of settings by name.")
            elif name in ("model", "audio_model") and not isinstance(value, str | Path):
                self._faults.add(prefix + name, f"{_shown(value)} is no name of a model.")
            elif name in ("metadata", "audio") and isinstance(value, int | float | list | Mapping):
                self._faults.add(prefix + name, f"{_shown(value)} is no engine.")
            else:
                found[name] = value
        return found

    def stories(self) -> tuple[SongRequest, ...]:
        given = self._given.get("stories")
        given = [given] if isinstance(given, SongMetadata) else as_list(given)
        if not given:
            self._faults.add("stories", "Name one story or more: a list of texts.")
            return ()
        found = []
        for number, story in enumerate(given, 1):
            with self._faults.gathered(f"stories.{number}"):
                found.append(self._story(story))
        return tuple(found)

    def _story(self, story: Any) -> SongRequest:
        if isinstance(story, SongMetadata):
            story = {"metadata": story}
        asked = {"narrative": story} if isinstance(story, str) else story
        if not isinstance(asked, Mapping):
            raise InvalidRequest(f"{_shown(story)} is no text.")
        for unknown in asked.keys() - set(STORY_FIELDS):
            message = _unknown("There is no such field of a story", unknown, STORY_FIELDS)
            raise InvalidRequest(message, details={"fields": [str(unknown)[:40]]})
        if isinstance(options := asked.get("audio_options"), Mapping):
            asked = {**asked, "audio_options": with_paths_from(self._folder, options)}
        if isinstance(file := asked.get("metadata"), str):
            asked = {**asked, "metadata": _metadata(self._folder / expanded(file))}
        return check_contradictions(parse_request(**asked))


def _metadata(path: Path) -> SongMetadata:
    try:
        return SongMetadata.model_validate_json(path.read_bytes())
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    except ValueError:  # pydantic's, too, which would quote private text
        why = "holds no song metadata"
    raise InvalidRequest(f"{path} {why}.", details={"fields": ["metadata"]})


def _is_number(value: Any, *, whole: bool = False) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _unknown(message: str, name: Any, known: Any) -> str:
    near = difflib.get_close_matches(str(name), known, 1)
    return f"{message}. Did you mean {near[0]}?" if near else f"{message}. Known: {', '.join(known)}."
