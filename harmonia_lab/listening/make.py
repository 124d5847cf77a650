"""Making a listening test: songs in, a page for listeners and a key for the researcher out.

Owns what is done in which order, and the limit on the page's size. `files.py` has the files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.design import ListeningDesign, TestKind, design_test
from harmonia_lab.listening.files import ListeningTest, MadeTest, beside_key, key_path, read_key, write_key
from harmonia_lab.listening.home import ListeningHome, ServedTest
from harmonia_lab.listening.loudness import FORMATS, SoundFormat, encoded_sounds, excerpts
from harmonia_lab.listening.page import offline_page
from harmonia_lab.listening.sources import Songs, candidates_in
from harmonia_lab.storage import absolute, replace_bytes, storage_errors

__all__ = ["MAX_PAGE_BYTES", "design_and_sounds", "make_test", "serve_test", "served_test"]

MAX_PAGE_BYTES = 50_000_000
"""Of the page with its sounds: a mail or a browser takes it at once. As `listen.html`'s."""

DEFAULT_SECONDS = 12.0
"""Of an excerpt: BS.1534-3 advises at most 12 s."""


def make_test(
    source: Songs,
    out: Path | str,
    kind: TestKind = "pairs",
    *,
    by: str | None = None,
    start: float = 0.0,
    seconds: float | None = DEFAULT_SECONDS,
    sound: SoundFormat = "mp3",
    **options: Any,
) -> ListeningTest:
    """Write a blind test of songs to `out`, a .html file, and its key beside it (`out` with .key.json).

    source: a study's folder, a batch's, or the songs of each condition, {name: folders}. by: the field of their
    requests that is compared where engines and settings are the same, such as "seed". start, seconds: the excerpt that
    is heard; None: whole songs. sound: "flac" for sounds without MP3's losses. options: those of
    `listening.design.design_test`: trials, checks, reference, title, question, intro, listen_s, seed.

    Raises InvalidRequest for songs that can't be compared, values that can't be, or a page of more than MAX_PAGE_BYTES;
    HarmoniaError for what is no song; StorageError.
    """
    page = absolute(out)
    if page.suffix.lower() not in (".html", ".htm"):
        raise InvalidRequest(f"{page.name} is no .html file.", hint="Name the listener's page, such as test.html.")
    key = key_path(page)
    before = read_key(key) if key.exists() else None
    if before is not None and options.get("seed") is None:
        options["seed"] = before.seed
    design = _designed(source, kind, by, {"start": start, "seconds": seconds, "sound": sound}, options)
    if before is not None:
        design = replace(design, id=before.id)
        if beside_key(design, key.parent) != replace(before, sounds={}):
            raise InvalidRequest(
                f"{key} is the key of another test, without which the answers to its page can't be read.",
                hint="Name another file, or delete that key and its page.",
                details={"fields": ["out"]},
            )
        if page.exists():
            return ListeningTest(before, key, page)
    made = _with_sounds(design)
    with storage_errors(page):
        page.parent.mkdir(parents=True, exist_ok=True)
    write_key(key, made.design)
    replace_bytes(page, offline_page(made.design.for_listeners(), made.sounds))
    return ListeningTest(made.design, key, page)


def serve_test(home: ListeningHome, source: Songs, kind: TestKind = "pairs", **options: Any) -> ServedTest:
    """Make a test that the servers of `home` serve. Arguments and errors as `make_test`."""
    made = design_and_sounds(source, kind, **options)
    home.publish(made)
    return served_test(home, made.design.id)


def served_test(home: ListeningHome, test_id: str) -> ServedTest:
    """Return a test of a home. Raises Refused (NOT_FOUND)."""
    key = home.folder(test_id) / "key.json"
    return ServedTest(home, ListeningTest(read_key(key), key))


def design_and_sounds(
    source: Songs,
    kind: TestKind,
    *,
    by: str | None = None,
    start: float = 0.0,
    seconds: float | None = DEFAULT_SECONDS,
    sound: SoundFormat = "mp3",
    **options: Any,
) -> MadeTest:
    """Return a test and its sounds. Arguments and errors as `make_test`."""
    return _with_sounds(_designed(source, kind, by, {"start": start, "seconds": seconds, "sound": sound}, options))


def _designed(
    source: Songs, kind: TestKind, by: str | None, excerpt: dict[str, Any], options: dict[str, Any]
) -> ListeningDesign:
    start, seconds = excerpt["start"], excerpt["seconds"]
    if excerpt["sound"] not in FORMATS:
        raise InvalidRequest(f"sound must be {' or '.join(FORMATS)}.", details={"fields": ["sound"]})
    if not 0 <= start <= 3600 or not (seconds is None or 0.5 <= seconds <= 600):
        raise InvalidRequest(
            "start must be 0 to 3600, and seconds 0.5 to 600.", details={"fields": ["start", "seconds"]}
        )
    return replace(design_test(candidates_in(source, by), kind, **options), excerpt=excerpt)


def _with_sounds(design: ListeningDesign) -> MadeTest:
    places = excerpts(design.stimuli, design.excerpt["start"], design.excerpt["seconds"])
    sounds: dict[str, bytes] = {}
    facts: dict[str, dict[str, float]] = {}
    size = 0
    for stimulus, data, measured in encoded_sounds(design.stimuli, places, design.excerpt["sound"]):
        sounds[stimulus.id], facts[stimulus.id] = data, measured
        size += len(data) * 4 // 3
        if size > MAX_PAGE_BYTES:
            raise InvalidRequest(
                f"The sounds of this test have more than {MAX_PAGE_BYTES // 10**6} MB ({len(sounds)} of"
                f" {len(design.stimuli)} are made).",
                hint="Take fewer trials (--trials), shorter excerpts (--seconds), or --sound mp3.",
            )
    return MadeTest(design.with_sounds(facts), sounds)
