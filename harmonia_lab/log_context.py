"""Which generation a line of the log is about.

Owns the context variable, and the filter that puts its value into log records. Tasks of an event loop and
`asyncio.to_thread` pass it on by themselves; a thread that is started doesn't.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["GENERATION", "GenerationFilter", "about"]

GENERATION: ContextVar[str | None] = ContextVar("GENERATION", default=None)
"""The id of the generation that is worked at; None if the work is about no one or many."""


@contextmanager
def about(generation_id: str | None) -> Iterator[None]:
    """Have log records of the block carry `generation_id`; None leaves it as it is."""
    if generation_id is None:
        yield
        return
    token = GENERATION.set(generation_id)
    try:
        yield
    finally:
        GENERATION.reset(token)


class GenerationFilter(logging.Filter):
    """Gives each record `generation_id`, an id or None. Add it to a handler: a logger's filter sees no child's records.

    >>> handler.addFilter(GenerationFilter())
    >>> handler.setFormatter(logging.Formatter("%(levelname)s [%(generation_id)s] %(message)s"))
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.generation_id = GENERATION.get()
        return True
