"""The command's log on standard error: lines for people, or JSON objects for programs.

Owns both forms. `log_context.py` says which generation a line is about.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from harmonia_lab.log_context import GenerationFilter

__all__ = ["FORMATS", "JsonLines", "PlainLines", "log_as"]


class PlainLines(logging.Formatter):
    """`harmonia: message [generation ID]`, without the id where the message has it."""

    def format(self, record: logging.LogRecord) -> str:
        # Loads pydantic, so not before there is something to say.
        from harmonia_lab.protocol.text import printable_lines  # noqa: PLC0415

        generation_id = getattr(record, "generation_id", None)
        line = f"harmonia: {super().format(record)}"
        if generation_id is not None and generation_id not in line:
            line = f"{line} [generation {generation_id}]"
        return printable_lines(line)


class JsonLines(logging.Formatter):
    """One JSON object a line: at (UTC), level, logger, message; generationId and error (a traceback) where there is
    one."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        facts: dict[str, Any] = {
            "at": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        generation_id = getattr(record, "generation_id", None)
        if generation_id is not None:
            facts["generationId"] = generation_id
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)
        return json.dumps(facts)


FORMATS: dict[str, type[logging.Formatter]] = {"text": PlainLines, "json": JsonLines}


def log_as(name: str) -> None:
    """Write this package's log to standard error in one of FORMATS, in place of an earlier one."""
    ours = logging.getLogger("harmonia_lab")
    for handler in [each for each in ours.handlers if isinstance(each.formatter, PlainLines | JsonLines)]:
        ours.removeHandler(handler)
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATS[name]())
    handler.addFilter(GenerationFilter())
    ours.addHandler(handler)
