"""`listen.html`: songs with their stems on a page that needs no server and no network.

Owns that page: one file of at most `ONE_FILE_BYTES` that holds all sounds, or, above that, a page with a folder of
sounds beside it. Its script is `page.js`. Texts reach it as JSON or escaped, and it shows them as text, never as
markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import soundfile

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.player.modules import joined, style
from harmonia_lab.player.song import PlayerSong
from harmonia_lab.player.sound import AUDIO_TYPE, listening_copy
from harmonia_lab.storage import make_folder, replace_bytes

__all__ = [
    "ONE_FILE_BYTES",
    "ListeningGroup",
    "ListeningSong",
    "PageSounds",
    "has_digest",
    "json_in_page",
    "listening_page",
    "sounds_of_page",
    "write_listening_page",
]

ONE_FILE_BYTES = 50_000_000
"""The largest page that holds its sounds: a browser opens it at once, and a mail or a repository may take it."""

LEAST_BYTES_S = 8_000
"""Of a second of MP3 in base64: what a page has at least, so that one that must be too large isn't made."""

STEMS_S = 1800.0
"""Seconds of stems that a page holds, all songs together: to encode them takes about a minute of one core."""

_AT_ONCE = os.cpu_count() or 1

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline' 'self' file:; media-src data: 'self' file:">
<meta name="content-digest" content="{digest}">
<meta name="sounds" content="{where}">
<title>{heading}</title>
<style>
{style}
:root {{ color-scheme: light dark; }}
body {{ margin: 1.5rem auto; max-width: 64rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ font-size: 1.05rem; font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; }}
h2 {{ max-height: 9em; overflow: auto; }}
main > section {{ border-top: 1px solid color-mix(in srgb, CanvasText 25%, Canvas); padding: 0.5rem 0 1.2rem; }}
pre {{ white-space: pre-wrap; font: inherit; }}
kbd {{ border: 1px solid color-mix(in srgb, CanvasText 45%, Canvas); border-radius: 4px; padding: 0 0.35em; }}
</style>
<main>
<h1>{heading}</h1>
<p>{intro}</p>
{groups}
</main>
<script type="application/json" id="groups">{data}</script>
{sounds}
<script type="module">
{script}
</script>
</html>
"""

_KEYS = (
    "<kbd>space</kbd> plays and pauses, <kbd>←</kbd> <kbd>→</kbd> move by 5 s, <kbd>1</kbd>…<kbd>9</kbd> go to a "
    "section, <kbd>l</kbd> loops it."
)
_COMPARE = (
    " <kbd>A</kbd> <kbd>B</kbd>… or <kbd>↑</kbd> <kbd>↓</kbd> switch to another song at the same moment; the louder "
    "songs of a group are turned down to the softest."
)


@dataclass(frozen=True)
class ListeningSong:
    """facts: as `player.song` makes it. files: "mix" and each stem's file → function that reads the FLAC.
    checksum: of the song, for `write_listening_page` to see what changed."""

    facts: PlayerSong
    files: Mapping[str, Callable[[], bytes]]
    checksum: str = ""


@dataclass(frozen=True)
class ListeningGroup:
    """Songs to be compared. heading: the narrative, for one."""

    heading: str
    songs: Sequence[ListeningSong]


def write_listening_page(
    path: Path,
    groups: Sequence[ListeningGroup],
    heading: str = "Listening",
    tell: Callable[[int], object] = lambda _: None,
) -> None:
    """Write the page, and above `ONE_FILE_BYTES` a folder beside it for its sounds. Raises StorageError.

    A page that holds the same songs already stays as it is. tell: called with the number of sounds that are to be
    encoded, which takes some 0.2 s of a core each.
    """
    stems = sum(len(s.facts["stems"]) * s.facts["seconds"] for group in groups for s in group.songs) <= STEMS_S
    digest = _digest(groups, heading)
    if has_digest(path, digest):
        return
    wanted = _wanted(groups, stems=stems)
    tell(len(wanted))
    sounds, beside = _placed(path, wanted)
    page = _page(groups, heading, sounds, digest, beside=beside, stems=stems)
    replace_bytes(path, page.encode("utf-8", "replace"))


def listening_page(groups: Sequence[ListeningGroup], heading: str = "Listening", *, stems: bool = True) -> str:
    """Return the page as text that holds all its sounds, however large."""
    return _page(groups, heading, dict(_encoded(_wanted(groups, stems=stems))), "", beside=False, stems=stems)


@dataclass(frozen=True)
class PageSounds:
    """Mixes of songs in a page of another kind, whose script is joined from `page_sounds.js`.

    songs: as that script takes them. scripts: markup that holds the sounds. beside: the folder that has them instead;
    None where the page holds them.
    """

    songs: list[PlayerSong]
    scripts: str
    beside: Path | None


def sounds_of_page(path: Path, songs: Sequence[ListeningSong]) -> PageSounds:
    """Return what a page at `path` needs to play `songs`; above `ONE_FILE_BYTES`, write their sounds beside it.

    Raises StorageError.
    """
    sounds, beside = _placed(path, [(number, song, "mix") for number, song in enumerate(songs)])
    found = [
        _for_script(song.facts, {"mix": sounds[number, "mix"]}, number, stems=False)
        for number, song in enumerate(songs)
    ]
    scripts = "\n".join(
        f'<script type="application/json" id="{_key(*place)}">{sound.base64}</script>'
        for place, sound in sounds.items()
        if sound.base64
    )
    return PageSounds(found, scripts, _folder(path) if beside else None)


_SoundPlace = tuple[int, str]
"""A song's number on the page, and its file."""
_WantedSound = tuple[int, ListeningSong, str]
"""The same with the song."""


@dataclass(frozen=True)
class _Sound:
    """base64: MP3. address: of the file that has it, in its place. missing: why there is none."""

    base64: str = ""
    address: str = ""
    missing: str = ""


def _placed(path: Path, wanted: Sequence[_WantedSound]) -> tuple[dict[_SoundPlace, _Sound], bool]:
    """Return the sounds of a page, and whether they were written beside it."""
    sounds: dict[_SoundPlace, _Sound] = {}
    beside = sum(song.facts["seconds"] for _, song, _ in wanted) * LEAST_BYTES_S > ONE_FILE_BYTES
    if not beside:
        sounds = dict(_encoded(wanted))
        beside = sum(len(sound.base64) for sound in sounds.values()) > ONE_FILE_BYTES
    if beside:
        sounds = _written(_folder(path), sounds.items() if sounds else _encoded(wanted))
    return sounds, beside


def _wanted(groups: Sequence[ListeningGroup], *, stems: bool) -> list[_WantedSound]:
    """Return number, song and file of each sound that the page gets."""
    songs = enumerate(song for group in groups for song in group.songs)
    return [(number, song, file) for number, song in songs for file in song.files if stems or file == "mix"]


def _encoded(wanted: Sequence[_WantedSound]) -> Iterator[tuple[_SoundPlace, _Sound]]:
    """Yield each sound, encoded by all cores, in order."""
    coming: deque[tuple[_SoundPlace, Future[_Sound]]] = deque()
    with ThreadPoolExecutor(_AT_ONCE, "harmonia-listen") as pool:
        for number, song, file in wanted:
            coming.append(((number, file), pool.submit(_encode, (number, song, file))))
            if len(coming) == 4 * _AT_ONCE:  # a few at a time: not all sounds are in memory at once
                place, sound = coming.popleft()
                yield place, sound.result()
        for place, sound in coming:
            yield place, sound.result()


def _encode(wanted: _WantedSound) -> _Sound:
    _, song, file = wanted
    try:
        return _Sound(base64.b64encode(listening_copy(song.files[file]())).decode())
    except (HarmoniaError, OSError, soundfile.LibsndfileError) as error:
        return _Sound(missing=f"{file} was missing or damaged when this page was made: {error}. Make the page again.")


def _written(folder: Path, sounds: Iterable[tuple[_SoundPlace, _Sound]]) -> dict[_SoundPlace, _Sound]:
    """Write each sound as a script into `folder`, and return their addresses."""
    make_folder(folder, exist_ok=True)
    written = {}
    for place, sound in sounds:
        written[place] = sound
        if sound.base64:
            key = _key(*place)
            replace_bytes(folder / f"{key}.js", f'harmoniaSound("{key}", "{sound.base64}");\n'.encode())
            written[place] = _Sound(address=f"{folder.name}/{key}.js")
    return written


def _key(number: int, file: str) -> str:
    return f"sound-{number}-{''.join(letter if letter.isalnum() else '-' for letter in Path(file).stem)}"


def _page(
    groups: Sequence[ListeningGroup],
    heading: str,
    sounds: Mapping[_SoundPlace, _Sound],
    digest: str,
    *,
    beside: bool,
    stems: bool,
) -> str:
    data, plain, number = [], [], 0
    for index, group in enumerate(groups):
        songs, level = [], 3 if group.heading else 2
        parts = [f'<h2 dir="auto" tabindex="0">{escape(group.heading, quote=False)}</h2>'] if group.heading else []
        parts.append(f'<div id="group-{index}">')
        for song in group.songs:
            own = {file: sounds[number, file] for file in song.files if (number, file) in sounds}
            songs.append(_for_script(song.facts, own, number, stems=stems))
            parts.append(_without_script(song.facts, own.get("mix", _Sound()), _key(number, "mix"), level))
            number += 1
        data.append({"songs": songs, "level": level})
        plain.append("\n".join(["<section>", *parts, "</div>", "</section>"]))
    intro = _KEYS + (_COMPARE if any(len(group.songs) > 1 for group in groups) else "")
    if beside:
        intro += " The sounds are in the folder beside this page: copy both."
    if not stems and digest:
        intro += " The stems of so many songs are left out: a notebook plays them by <code>lab.listen(folder)</code>."
    if not groups:
        intro = "No song has been made yet."
    scripts = (
        f'<script type="application/json" id="{_key(song, file)}">{sound.base64}</script>'
        for (song, file), sound in sounds.items()
        if sound.base64 and file != "mix"
    )
    return _PAGE.format(
        digest=digest, where="beside" if beside else "here", heading=escape(heading), style=style(), intro=intro,
        groups="\n".join(plain),
        data=json_in_page(data), sounds="\n".join(scripts), script=joined(Path(__file__).with_name("page.js")),
    )  # fmt: skip


def _for_script(facts: PlayerSong, sounds: Mapping[str, _Sound], number: int, *, stems: bool) -> dict[str, Any]:
    return facts | {
        "stems": facts["stems"] if stems else [],
        "sounds": {
            file: {"key": _key(number, file), "address": sound.address}
            for file, sound in sounds.items()
            if not sound.missing
        },
        "missing": {file: sound.missing for file, sound in sounds.items() if sound.missing},
    }


def _without_script(facts: PlayerSong, mix: _Sound, key: str, level: int) -> str:
    """Return title, sound and words as an untrusted page shows them."""
    sound = ""
    if mix.base64:
        source = f"data:{AUDIO_TYPE};base64,{mix.base64}"
        sound = f'<audio controls preload="none" data-sound="{key}" src="{source}"></audio>'
    words = escape("\n".join(line["text"] for line in facts["lines"]), quote=False)
    title = f"<h{level} dir=auto>{escape(facts['title'], quote=False)}</h{level}>"
    return f"<div>{title}{sound}<pre dir=auto>{words}</pre></div>"


def json_in_page(value: Any) -> str:
    """Return JSON for a script element: inside one, only "<" can end the element or open a comment."""
    return json.dumps(value, ensure_ascii=True).replace("<", "\\u003c")


def _digest(groups: Sequence[ListeningGroup], heading: str) -> str:
    script = joined(Path(__file__).with_name("page.js"))
    told = [heading, script, style(), [[g.heading, [[s.checksum, s.facts] for s in g.songs]] for g in groups]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """Return whether the page at `path` was made of the same, and has the folder that it needs."""
    try:
        with path.open("rb") as file:
            head = file.read(2000)
    except OSError:
        return False
    whole = b'name="sounds" content="here"' in head or _folder(path).is_dir()
    return whole and f'content="{digest}"'.encode() in head


def _folder(page: Path) -> Path:
    return page.with_name(f"{page.stem}-sounds")
