"""Lists of jobs, page by page, and no longer than LIST_BYTES.

Owns the size of a page, and what is left out of it. `Journal.jobs` reads, `gateway.py` and `http.py` answer.
"""

from __future__ import annotations

from typing import NamedTuple

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.models import Job
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.signed_urls import SignedUrls
from harmonia_lab.store.journal import Journal, place_of

__all__ = ["LIST_BYTES", "MAX_JOBS", "JobPage", "fitting", "page_size", "read_page"]

MAX_JOBS = 100
"""Jobs of one page, at most."""

LIST_BYTES = 256 * 1024
"""Jobs beyond these bytes of a page come without `result.metadata`, so that an old client still sees each job."""


class JobPage(NamedTuple):
    """jobs: newest first. cursor: where the next page begins; None on the last one."""

    jobs: list[Job]
    cursor: str | None


def read_page(
    journal: Journal,
    urls: SignedUrls,
    base_url: str,
    owner: str | None,
    limit: int = MAX_JOBS,
    cursor: str | None = None,
    *,
    reader: Identity,
) -> JobPage:
    """Read a page of the jobs of `owner`, or of all users' jobs, which come without metadata, with links for `reader`.
    Call it in a thread.

    Raise InvalidRequest for a cursor that is none, StorageError.
    """
    found = journal.jobs(owner, limit + 1, cursor)
    more, found = len(found) > limit, found[:limit]
    jobs = fitting(found, urls, base_url, reader, with_words=owner is not None)
    return JobPage(jobs, place_of(found[-1]) if more else None)


def fitting(
    jobs: list[Job], urls: SignedUrls, base_url: str, reader: Identity, *, with_words: bool = True
) -> list[Job]:
    """Return the jobs with links for `reader`, and with metadata as far as LIST_BYTES reach."""
    found, left = [], LIST_BYTES
    for job in jobs:
        linked = job.linked(urls.audio(base_url, job.id, reader))
        left -= len(linked.to_json())
        found.append(linked if with_words and left >= 0 else linked.for_admin())
    return found


def page_size(text: str | None) -> int:
    """Return the number of jobs that a client asks for. Raise InvalidRequest if it is not 1…MAX_JOBS."""
    if text is None:
        return MAX_JOBS
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_JOBS):
        raise InvalidRequest(f"limit is not in 1…{MAX_JOBS}.", details={"fields": ["limit"]})
    return int(text)
