"""Commands for the server that has a song, from those that don't: each is answered, or said to be unanswered.

Owns the lists in Redis that carry them, and the threads that carry them out here. A command that isn't answered in
ANSWER_S seconds may still be carried out.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harmonia_lab.errors import Disconnected, ErrorCode, HarmoniaError, StorageError, error_of
from harmonia_lab.protocol.events import ErrorInfo
from harmonia_lab.store.shared.connection import PREFIX, RedisConnection
from harmonia_lab.waiting import join

__all__ = ["Inbox"]

ANSWER_S = 5.0
LOOK_S = 1.0
KEPT_S = 30
AWAY_S = 0.2
STOP_S = 5.0

AT_ONCE = 4
"""Commands of other servers that are carried out at the same time."""

_log = logging.getLogger(__name__)


class Inbox:
    """`stop()` ends it. Any thread may call its methods, but an event loop must not."""

    def __init__(
        self, connection: RedisConnection, process: str, carry_out: Callable[[str, str, dict[str, Any]], object]
    ) -> None:
        """carry_out: does what another server asks for: a command, a generation's id, and options. It may raise."""
        self._connection, self._process, self._carry_out = connection, process, carry_out
        # Each waits for an answer of Redis for longer than an event may.
        self._client = connection.new_client(ANSWER_S + LOOK_S)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="harmonia-inbox")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="harmonia-inbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Idempotent."""
        self._stopping.set()
        join(self._thread, STOP_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def ask(self, process: str, command: str, generation_id: str, **options: Any) -> None:
        """Have another server carry out a command, and return once it has. Raise the error that it raised there,
        StorageError, or Disconnected if it doesn't answer."""
        reply = f"{PREFIX}reply:{secrets.token_hex(8)}"
        asked = {"command": command, "id": generation_id, "options": options, "reply": reply}
        if not self._connection.read(lambda client: client.exists(f"{PREFIX}lease:{process}")):
            raise _unanswered(generation_id, "has just gone: its songs end within half a minute")
        with self._connection.errors():
            inbox = f"{PREFIX}inbox:{process}"
            self._push(inbox, asked)
            answer = self._client.blpop([reply], timeout=ANSWER_S)
        if answer is None:
            raise _unanswered(generation_id, f"has not answered for {ANSWER_S:g} s")
        error = json.loads(answer[1])
        if error is not None:
            raise error_of(error["code"], error["message"], hint=error.get("hint") or "", details=error.get("details"))

    def _push(self, key: str, value: object) -> None:
        """Add to a list, which is gone after KEPT_S if nobody takes it."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.rpush(key, json.dumps(value))
        pipeline.expire(key, KEPT_S)
        pipeline.execute()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._connection.errors():
                    found = self._client.blpop([f"{PREFIX}inbox:{self._process}"], timeout=LOOK_S)
                if found is not None and not self._stopping.is_set():
                    self._pool.submit(self._answer, json.loads(found[1]))
            except StorageError as error:
                _log.debug("Other servers' commands can't be heard. %s", error)
                self._stopping.wait(AWAY_S)
            except Exception:  # noqa: BLE001 - a defect in one command must not end the listening
                _log.exception("A defect in a command of another server.")

    def _answer(self, asked: dict[str, Any]) -> None:
        answer = None
        try:
            self._carry_out(asked["command"], asked["id"], asked["options"])
        except HarmoniaError as error:
            answer = ErrorInfo.of(error).to_wire()
        except Exception:  # noqa: BLE001 - whoever waits for the answer gets one
            _log.exception("A defect in %s for another server.", asked["command"])
            answer = ErrorInfo.of(HarmoniaError("A defect in the server.", code=ErrorCode.INTERNAL)).to_wire()
        try:
            with self._connection.errors():
                self._push(asked["reply"], answer)
        except StorageError as error:
            _log.warning("Another server's command was carried out, and it is not told so. %s", error)


def _unanswered(generation_id: str, why: str) -> Disconnected:
    return Disconnected(
        f"The server that makes generation {generation_id} {why}.", hint="Look at the song's state, and try again."
    )
