"""Makes a recorded song again, in a temporary folder, and compares the two records.

Owns how a record becomes a request and engines. `generation/verify.py` compares; `lab.py` submits the song.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from harmonia_lab.engine_registry import AudioEngines, is_repeatable
from harmonia_lab.engines.base import MetadataEngine
from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.generation.verify import Verification, compare_records
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.models import SongMetadata, SongRequest
from harmonia_lab.store.run_log import RunLabels

__all__ = ["make_again"]


def make_again(
    folder: Path,
    notes: list[str],
    *,
    metadata_engine: Callable[[], MetadataEngine],
    audio_engines: AudioEngines,
    submit: Callable[..., JobHandle],
) -> Verification:
    """Return which files of the song in `folder` come out differently now. notes: gets what limits the comparison.

    metadata_engine: returns the lab's; not called for a song whose stage 1 can't be repeated. submit:
    `Lab.submit_request`. Raises HarmoniaError (RECORD_DAMAGED) for a record that makes no request, and what ends the
    second song.
    """
    record = read_record(folder)
    recorded = record["engines"]["metadata"]["engine"]
    try:
        request = SongRequest.model_validate(record["request"] | {"generationId": None}, context=GIVEN)
        if not is_repeatable(recorded) or recorded != metadata_engine().name:
            metadata = SongMetadata.model_validate_json((folder / "metadata.json").read_bytes(), context=GIVEN)
            request = request.model_copy(update={"metadata": metadata})
            if recorded != "given":
                notes.append(f"Stage 1 ran on {recorded}, which can't be repeated to the byte; its metadata was taken.")
    except (ValidationError, OSError) as error:
        raise HarmoniaError(
            f"The record of {folder} is damaged: no song can be asked for as it says. {error}",
            code=ErrorCode.RECORD_DAMAGED,
            hint="Take it from a copy of the song's folder.",
        ) from error
    with tempfile.TemporaryDirectory(prefix="harmonia-verify-") as scratch:
        again = Path(scratch) / "song"
        engine = audio_engines.from_record(record["engines"]["audio"])
        try:
            submit(request, audio=engine, out=again, here=True, labels=RunLabels("verify")).result()
        finally:
            audio_engines.forget(engine)  # it has the record's settings, not this lab's
        report = compare_records(record, read_record(again), folder, again)
    report.notes = [*notes, *report.notes]
    return report
