"""Which engine writes the words of a batch, and whether that is the one that its caller requires.

Owns both answers, which are given once, before the first song. The engines are the lab's.
"""

from __future__ import annotations

from typing import Any, Protocol

from harmonia_lab.batch.report import Writer
from harmonia_lab.batch.rows import Row
from harmonia_lab.engine_registry import METADATA_GROUP, engine_names, metadata_specs
from harmonia_lab.errors import ErrorCode, InvalidRequest, MetadataError

__all__ = ["check_required", "writer_of"]


class WritersLab(Protocol):
    """What is asked of `lab.Lab`."""

    @property
    def metadata_choices(self) -> tuple[str, ...]: ...

    @property
    def metadata_engine(self) -> Any: ...

    @property
    def metadata_reason(self) -> str: ...


def writer_of(lab: WritersLab, table: list[Row]) -> Writer | None:
    """Return the engine that writes words, or None if no row needs one: then none is looked for."""
    if all(row.request is None or row.request.metadata is not None for row in table):
        return None
    auto = lab.metadata_choices[0] == "auto"
    try:
        engine = lab.metadata_engine.name
    except MetadataError as error:
        return Writer("none", error.message.rstrip("."), auto, fallback=False, error=error)
    spec = metadata_specs().get(engine)
    return Writer(engine, lab.metadata_reason, auto, fallback=auto and spec is not None and spec.fallback)


def check_required(required: str | None, writer: Writer | None) -> None:
    """Raise InvalidRequest for an unknown engine, MetadataError if words are to be written and another engine would."""
    names = engine_names(METADATA_GROUP)
    if required is None or (writer and required == writer.engine):
        return
    if required not in names:
        raise InvalidRequest(
            f"There is no metadata engine {required[:40]!r} to require.",
            hint=f"Known: {', '.join(names)}.",
            details={"fields": ["require"]},
        )
    if writer is not None:
        raise MetadataError(
            f"The batch requires {required}, and the words would be by {writer.engine}: {writer.reason}.",
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint=f"Start {required}, or leave --require out.",
        )
