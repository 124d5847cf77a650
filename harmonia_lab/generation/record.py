"""`run.json`, the record: all that is needed to make a song again, and to check that the result is the same.

Owns its content. `record_schema.py` has the types of its parts and its digest, `artifacts.py` reads it and names the
files, `verify.py` compares records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harmonia_lab.engines.probes import host
from harmonia_lab.generation.artifacts import REPEATABLE, SongFolder, file_digest, package_versions
from harmonia_lab.generation.record_schema import RECORD_VERSION, sealed
from harmonia_lab.music.seeds import derive_seed

if TYPE_CHECKING:
    from harmonia_lab.generation.attempt import Attempt
    from harmonia_lab.generation.audio_stage import AudioResult
    from harmonia_lab.protocol.models import SongMetadata

__all__ = ["run_record"]


def run_record(
    attempt: Attempt, engines: dict[str, Any], metadata: SongMetadata, audio: AudioResult, folder: SongFolder
) -> dict[str, Any]:
    """Return the record of a song whose files are all in `folder.work`. engines: stage → the engine's own record."""
    files = sorted(path for pattern in (*REPEATABLE, "transcript.jsonl") for path in folder.work.glob(pattern))
    record = {
        "recordVersion": RECORD_VERSION,
        "generationId": attempt.generation_id,
        "songId": attempt.song_id,
        "startedAt": attempt.row["started_at"],
        "request": attempt.request.model_copy(update={"seed": attempt.seed}).to_wire(),
        "wishes": [wish.to_wire() for wish in metadata.wishes],
        "warnings": metadata.warnings,
        "seeds": {
            "request": attempt.seed,
            "metadata": derive_seed(attempt.seed, "metadata"),
            "plan": derive_seed(attempt.seed, "plan"),
            "stems": audio.seeds,
        },
        "engines": engines,
        "versions": package_versions(),
        "gitCommit": attempt.row["git_commit"],
        "host": host(),
        "timings": attempt.timings,
        "memory": attempt.memory,
        "measurements": audio.measurements,
        "follows": audio.follows,
        "measured": audio.measures.to_json(),
        "notes": audio.notes,
        "stems": [
            {"file": name, "name": stem.name, "role": stem.role, "sampleRate": stem.sample_rate}
            for stem, name in audio.stem_files
        ],
        "files": {
            path.relative_to(folder.work).as_posix(): {"sha256": file_digest(path), "bytes": path.stat().st_size}
            for path in files
        },
        "seconds": audio.second_digests,
    }
    return sealed(record)
