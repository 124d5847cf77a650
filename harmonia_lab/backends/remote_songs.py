"""A song's folder, out of the archive in which a server sends it.

Owns what of an archive is believed: files that its record names, inside the folder, whose checksums are right. The
folder appears whole or not at all (`generation/artifacts.py`).
"""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from harmonia_lab import storage
from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.generation.artifacts import SongFolder, read_record
from harmonia_lab.generation.record_schema import MAX_BYTES
from harmonia_lab.generation.verify import check_folder

__all__ = ["unpack", "unpack_into"]

RECORD = "run.json"


def unpack(archive: Path, generation_id: str, folder: SongFolder, title: str) -> Path:
    """Put the song in its place, and return its folder. archive: a tar whose first file is the record. title: names
    the folder.

    Raises HarmoniaError (RECORD_DAMAGED) for an archive that is not that song's, whole and as recorded; StorageError,
    and InvalidRequest if the place is taken meanwhile.
    """
    folder.discard()  # what a process that was killed left
    folder.create()
    try:
        unpack_into(archive, generation_id, folder)
        return folder.publish(title)
    finally:
        folder.discard()  # nothing, once it is published


def unpack_into(archive: Path, generation_id: str, folder: SongFolder) -> None:
    """Write the song's files into its working folder, and compare them with their record. Raises as `unpack`."""
    try:
        with tarfile.open(archive, "r:") as tar:
            _unpack(tar, generation_id, folder)
    except tarfile.TarError as error:
        raise _damaged(f"it can't be read ({error})") from None
    findings = check_folder(folder.work).findings
    if findings:
        raise _damaged("; ".join(str(finding) for finding in findings[:3]))


def _unpack(tar: tarfile.TarFile, generation_id: str, folder: SongFolder) -> None:
    first = tar.next()
    if first is None or first.name != RECORD or not first.isreg() or first.size > MAX_BYTES:
        raise _damaged("it does not begin with the song's record")
    folder.write_bytes(RECORD, _content(tar, first))
    record = read_record(folder.work)
    if record.get("generationId") != generation_id:
        raise _damaged("it is another song's")
    waiting: dict[str, Any] = dict(record["files"])
    while (member := tar.next()) is not None:
        entry = waiting.pop(member.name, None)  # names of a record that was read are inside its folder
        if entry is None or not member.isreg() or member.size != entry["bytes"]:
            raise _damaged(f"{member.name[:80]!r} is not as its record has it")
        for parent in reversed(PurePosixPath(member.name).parents[:-1]):
            storage.make_folder(folder.work / parent, exist_ok=True)
        folder.write_bytes(member.name, _content(tar, member))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "a regular file"
    return file.read()


def _damaged(why: str) -> HarmoniaError:
    return HarmoniaError(
        f"The song that the server sent is damaged: {why}.",
        code=ErrorCode.RECORD_DAMAGED,
        hint="Its owner can look at it there with `harmonia verify`.",
    )
