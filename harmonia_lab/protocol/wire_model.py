"""The base of all models of the protocol, moments as the wire has them, and pydantic's findings in words for users.

Owns the names on the wire (camelCase; Python attributes are snake_case), and the protocol's version.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

__all__ = [
    "MAX_FINDINGS",
    "PROTOCOL_VERSION",
    "EditedModel",
    "Timestamp",
    "WireModel",
    "explain",
    "iso_time",
    "utc_now",
]

PROTOCOL_VERSION = "1.4"
"""major.minor. An addition that old clients can ignore increments the minor number, any other change the major."""

MAX_FINDINGS = 5
"""Faults that one error message names, at most."""


def utc_now() -> datetime:
    """Return the current time in UTC, truncated to milliseconds, as the wire carries it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def iso_time(moment: datetime) -> str:
    """Return the moment as the wire and the run log write it: 2026-01-31T09:30:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    PlainSerializer(iso_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""On the wire UTC, in the format of JavaScript's `Date.toISOString`: 2026-01-31T09:30:00.000Z."""


class WireModel(BaseModel):
    """The base of all models: camelCase on the wire, snake_case in Python; unknown fields are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON values by wire name, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> str:
        """Return `to_wire` as JSON text, which pydantic makes in one step."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class EditedModel(WireModel):
    """A model that users change by `model_copy(update=…)`, which validates nothing: it is validated when it is used."""

    model_config = ConfigDict(revalidate_instances="always")


def explain(error: ValidationError) -> str:
    """Return pydantic's findings as one line for users, without repeating long or private input."""
    parts = []
    found = error.errors(include_url=False)
    for item in found[:MAX_FINDINGS]:
        where = ".".join(str(p) for p in item["loc"]) or "request"
        # Pydantic names Python's types, which tell the author of a JavaScript client nothing.
        no_object = item["type"] in ("model_type", "model_attributes_type", "dataclass_type", "dict_type")
        message = "should be an object" if no_object else item["msg"].removeprefix("Value error, ")
        value = item["input"]
        # A binary attachment may be a text.
        given = repr(value) if value is None or isinstance(value, bool | int | float | str) else ""
        shown = f" (got {given})" if given and len(given) <= 40 and item["type"] != "value_error" else ""
        parts.append(f"{where} {message[0].lower()}{message[1:]}{shown}")
    if len(found) > MAX_FINDINGS:
        parts.append(f"and {len(found) - MAX_FINDINGS} more")
    return "; ".join(parts) + "."
