"""A song's folder as an export reads it.

Owns what an export needs of a song, and which of its files are as recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.export.tags import Picture, SongTags, read_picture, song_tags
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.record_schema import file_inside
from harmonia_lab.generation.verify import check_folder
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.models import SongMetadata

__all__ = ["SourceSong"]


@dataclass(frozen=True)
class SourceSong:
    """altered: names of files that aren't as recorded, `run.json` among them."""

    folder: Path
    record: dict[str, Any]
    metadata: SongMetadata
    altered: list[str]

    @staticmethod
    def read(folder: Path) -> SourceSong:
        """Raises HarmoniaError: NOT_FOUND if there is no whole song, RECORD_DAMAGED."""
        record = read_record(folder)
        altered = check_folder(folder).differing
        try:
            metadata = SongMetadata.model_validate_json(_file(folder, "metadata.json").read_bytes(), context=GIVEN)
        except (OSError, ValidationError) as error:
            raise HarmoniaError(
                f"{folder} does not hold a whole song: metadata.json is damaged.",
                code=ErrorCode.NOT_FOUND,
                hint="`harmonia verify` says what was changed.",
            ) from error
        return SourceSong(folder, record, metadata, altered)

    @property
    def name(self) -> str:
        """The name that exported files begin with: the folder's."""
        return self.folder.resolve().name or "song"

    def file(self, name: str) -> Path:
        """Return one of the song's files. Raises HarmoniaError (NOT_FOUND)."""
        return _file(self.folder, name)

    def tags(self, cover: str | None) -> SongTags:
        """Return the song's tags. cover: as in `song.ExportOptions`."""
        return replace(song_tags(self.record, self.metadata), picture=self._picture(cover))

    def _picture(self, cover: str | None) -> Picture | None:
        if cover is not None:
            return read_picture(Path(cover)) if cover else None
        own = file_inside(self.folder, "overview.png")
        return read_picture(own) if own is not None and own.is_file() else None


def _file(folder: Path, name: str) -> Path:
    path = file_inside(folder, name)
    if path is None or not path.is_file():
        raise HarmoniaError(
            f"{folder / name} is missing.", code=ErrorCode.NOT_FOUND, hint="`harmonia verify` says what else is."
        )
    return path
