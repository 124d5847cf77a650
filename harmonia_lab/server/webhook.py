"""Faults that a person should hear of, posted to a configured URL: codes and ids, without words of the song.

Owns which faults these are, the message, and how often it is tried. A thread posts, with a bounded queue: a webhook
that hangs or fails costs songs and clients nothing. The URL is a secret, so nothing logs it.
"""

from __future__ import annotations

import logging
import platform
import queue
import threading
from collections.abc import Callable
from typing import Any

from harmonia_lab._version import __version__
from harmonia_lab.protocol.events import FamilyEvent, GenerationError
from harmonia_lab.protocol.models import iso_time, utc_now
from harmonia_lab.server.log_limits import OncePerMinute

__all__ = ["TOLD", "Webhook"]

TOLD = frozenset({"INTERNAL", "STORAGE_FULL", "QUARANTINED"})
"""Codes of faults that are posted: a defect, a full disk, a generation that took its process down twice."""

MAX_QUEUED = 100
WAITS_S = (1.0, 5.0, 25.0)
"""Seconds before each further attempt at one message."""

ANSWER_S = 5.0
CLOSE_S = 2.0

_log = logging.getLogger(__name__)


class Webhook:
    """`webhook(event)` is a fan-out listener. Any thread may call it; it never waits. Without a URL it does nothing.

    Of one code, one message goes out in a minute; the next one says how many did not (`leftOut`).
    """

    def __init__(self, url: str | None, count: Callable[[str], None], waits_s: tuple[float, ...] = WAITS_S) -> None:
        """count: is called with the outcome of each message: "ok", "failed" or "dropped"."""
        self._url, self._count, self._waits_s = url, count, waits_s
        self._limit = OncePerMinute()
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(MAX_QUEUED)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self, event: FamilyEvent) -> None:
        if isinstance(event, GenerationError) and event.final and event.error.code in TOLD:
            self.tell(event.error.code, generationId=event.generation_id, where=f"stage {event.stage}")

    def tell(self, code: str, **facts: str) -> None:
        """Post that a fault happened. facts: `where`, in our words, and the id `generationId`."""
        if self._url is None or self._closing.is_set():
            return
        left_out = self._limit.due(code)
        if left_out is None:
            return
        try:
            self._queue.put_nowait(_message(code, facts, left_out))
        except queue.Full:
            self._count("dropped")
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="harmonia-webhook", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Post what waits, once each, within CLOSE_S seconds. Idempotent."""
        self._closing.set()
        if self._thread is not None:
            try:
                self._queue.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(CLOSE_S)

    def _work(self) -> None:
        while (message := self._queue.get()) is not None:
            self._count("ok" if self._post(message) else "failed")

    def _post(self, message: dict[str, Any]) -> bool:
        """Return whether the webhook took the message, at one of the attempts."""
        for wait_s in (*self._waits_s, None):
            why = self._try(message)
            if not why:
                return True
            if wait_s is None or why.startswith("it answered 4") or self._closing.wait(wait_s):
                break
        _log.warning("The webhook did not take the message about %s: %s.", message["code"], why)
        return False

    def _try(self, message: dict[str, Any]) -> str:
        """Post the message. Return why it was not taken; "" if it was."""
        import httpx  # noqa: PLC0415 - used by servers with a webhook alone

        assert self._url is not None
        try:
            status = httpx.post(self._url, json=message, timeout=ANSWER_S, follow_redirects=False).status_code
        except Exception as error:  # noqa: BLE001 - whatever the library raises, it may quote the URL
            return type(error).__name__
        if status < 300:
            return ""
        return f"it answered {status}" if status != 429 else "it has too much to do (429)"


def _message(code: str, facts: dict[str, str], left_out: int) -> dict[str, Any]:
    about = f", generation {facts['generationId']}" if "generationId" in facts else ""
    return {
        "text": f"Harmonia Lab on {platform.node()}: {code} in {facts.get('where', 'the server')}{about}.",
        "code": code,
        "at": iso_time(utc_now()),
        "host": platform.node(),
        "version": __version__,
        "leftOut": left_out,
        **facts,
    }
