"""What other servers write into the shared Redis, and what this one tells them that may be lost.

Owns two threads: one listens for hints and reads what has changed, one tells progress, previews and the like. A hint
says no more than that there is something to read; once a second it is looked for without one, so a lost hint costs a
second and no event. Of progress, only the latest of each channel is told, and only to servers that are there: each
listens on a channel of its own. A server at which nobody follows a generation answers that it wants no more of it, and
is told once a second, in case somebody has come.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from harmonia_lab.errors import ErrorCode, HarmoniaError, StorageError
from harmonia_lab.protocol.event_codec import decode_event, encode
from harmonia_lab.protocol.events import AudioPreview, Channel, FamilyEvent
from harmonia_lab.store.shared.connection import PREFIX, RedisConnection
from harmonia_lab.store.shared.mirror import Mirror
from harmonia_lab.waiting import join

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["Feed"]

LOOK_S = 1.0
"""Seconds between two looks for changes of which no hint came."""

QUIET_S = 1.0
"""For how long a server isn't told of a generation that nobody follows there."""

LISTEN_S = 5.0
AWAY_S = 0.2
STOP_S = 5.0

PREVIEWS = 16
"""Previews that wait to be published. Older ones are dropped."""

PUBLISH_S = 0.02
"""Seconds between two rounds of telling: progress that comes meanwhile takes the place of older progress."""

_log = logging.getLogger(__name__)


class Feed:
    """`stop()` ends it. Any thread may call its methods."""

    def __init__(
        self,
        connection: RedisConnection,
        process: str,
        mirror: Mirror,
        catch_up: Callable[[str], list[FamilyEvent]],
        heard: Callable[[FamilyEvent], None],
        wanted: Callable[[FamilyEvent], bool],
    ) -> None:
        """catch_up: reads a generation that has changed, and returns the events that are new here. heard: gets those,
        and other processes' progress and previews. wanted: whether anybody here follows such an event. Raise
        StorageError."""
        self._connection, self._process, self._mirror = connection, process, mirror
        self._catch_up, self._heard, self._wanted = catch_up, heard, wanted
        self.on_spent: Callable[[list[Any]], None] = lambda _: None
        """Gets what other servers' clients spent of rate limits: [name, key, tokens] each."""
        self._seen = self._last_change()
        self._read_again = False
        self._looked_at = time.monotonic()
        self._changed = threading.Condition()
        self._progress: dict[Channel, FamilyEvent] = {}
        self._previews: deque[FamilyEvent] = deque(maxlen=PREVIEWS)
        self._spent: list[Any] = []
        self._others = self._find_others()
        self._quiet: dict[tuple[str, str], float] = {}
        """Server and generation → when it may be told again, in seconds of the monotonic clock."""
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"harmonia-shared-{name}", daemon=True)
            for name, work in (("in", self._listen), ("out", self._publish))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Idempotent."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        with suppress(StorageError):  # so that the listener wakes
            self._send({self._process: {}})
        for thread in self._threads:
            if thread is not threading.current_thread():
                join(thread, STOP_S)

    def read_again(self) -> None:
        """Forget what was read: Redis may have lost some of it."""
        self._read_again = True

    def tell(self, event: FamilyEvent) -> None:
        """Tell progress or a preview soon to the servers at which somebody may follow it."""
        with self._changed:
            if not self._listeners(event):
                return
            if event.delivery == "progress":
                self._progress[event.channel] = event
            else:
                self._previews.append(event)
            self._changed.notify_all()

    def tell_spent(self, spent: list[Any]) -> None:
        """Tell what clients of this server spent, as `on_spent` gets it."""
        with self._changed:
            if not self._others:
                return
            self._spent += spent
            self._changed.notify_all()

    def _publish(self) -> None:
        while not self._stopping.wait(PUBLISH_S):
            with self._changed:
                self._changed.wait_for(
                    lambda: self._progress or self._previews or self._spent or self._stopping.is_set()
                )
                progress, previews, spent = [*self._progress.values()], [*self._previews], [*self._spent]
                self._progress.clear()
                self._previews.clear()
                self._spent.clear()
                messages: dict[str, dict[str, Any]] = {other: {"spent": spent} for other in self._others if spent}
                told = [(event, self._listeners(event)) for event in progress + previews]
            for event, listeners in told:
                found = _to_json(event)
                for other in listeners:
                    messages.setdefault(other, {}).setdefault("events", []).append(found)
            try:
                self._send(messages)
            except StorageError as error:
                _log.debug("Progress was not told to other servers. %s", error)

    def _listeners(self, event: FamilyEvent) -> list[str]:
        """Return the servers that are told of an event. The lock is held."""
        now = time.monotonic()
        return [other for other in self._others if self._quiet.get((other, event.generation_id), 0.0) <= now]

    def _send(self, messages: dict[str, dict[str, Any]]) -> None:
        """messages: by the server that gets it."""

        def publish(client: Redis) -> None:
            pipeline = client.pipeline(transaction=False)
            for other, message in messages.items():
                text = json.dumps({"from": self._process} | message, ensure_ascii=False)
                pipeline.publish(f"{self._connection.volatile}:{other}", text)
            pipeline.execute()

        if messages:
            self._connection.read(publish)

    def _find_others(self) -> list[str]:
        """Return the servers that listen now. Raise StorageError."""
        head = f"{self._connection.volatile}:"
        channels = self._connection.read(lambda client: client.pubsub_channels(f"{head}*"))
        return sorted({channel.removeprefix(head) for channel in channels} - {self._process})

    def _listen(self) -> None:
        client = self._connection.new_client(LISTEN_S)
        while not self._stopping.is_set():
            listener: Any = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            try:
                with self._connection.errors():
                    listener.subscribe(self._connection.hints, f"{self._connection.volatile}:{self._process}")
                    self._greet()
                    while not self._stopping.is_set():
                        self._take(listener.get_message(timeout=LOOK_S))
            except StorageError as error:
                _log.debug("Other servers can't be heard. %s", error)
                self._stopping.wait(AWAY_S)
            except Exception:  # noqa: BLE001 - a defect in one message must not end the listening
                _log.exception("A defect in what other servers say.")
                self._stopping.wait(AWAY_S)
            finally:
                listener.close()
        client.close()

    def _take(self, message: dict[str, Any] | None) -> None:
        """Handle one message; None if there was none for LOOK_S seconds."""
        is_hint = message is not None and message["channel"] == self._connection.hints
        if message is not None and not is_hint:
            self._take_volatile(str(message["data"]))
        due = time.monotonic() >= self._looked_at + LOOK_S
        if due or self._read_again or (is_hint and message is not None and int(message["data"]) > self._seen):
            self._look()

    def _look(self) -> None:
        """Read what has changed since the last look."""
        self._looked_at = time.monotonic()
        self._look_around(self._looked_at)
        last = self._last_change()
        if self._read_again or last < self._seen:
            self._read_again = False
            self._seen = 0
            self._mirror.renumber()
        if last <= self._seen:
            return
        changed = self._connection.read(
            lambda client: client.zrangebyscore(f"{PREFIX}changed", f"({self._seen}", "+inf", withscores=True)
        )
        for generation_id, number in changed:
            try:
                news = self._catch_up(generation_id)
            except StorageError as error:
                if error.code == ErrorCode.NETWORK_TEMPORARY:
                    raise
                _log.warning("%s", error)
                news = []
            for event in news:
                self._heard(event)
            self._seen = max(self._seen, int(number))

    def _greet(self) -> None:
        """Tell the others that this server listens, so that they need not look for it first."""
        self._look_around(time.monotonic())
        self._send({other: {} for other in self._others})

    def _look_around(self, now: float) -> None:
        """Learn which servers are there now."""
        others = self._find_others()
        with self._changed:
            self._others = others
            self._quiet = {key: until for key, until in self._quiet.items() if until > now}

    def _take_volatile(self, text: str) -> None:
        try:
            message = json.loads(text)
            if message["from"] not in self._others:
                self._look_around(time.monotonic())
            if "spent" in message:
                self.on_spent(message["spent"])
            if "quiet" in message:
                with self._changed:
                    until = time.monotonic() + QUIET_S
                    self._quiet |= {(message["from"], generation_id): until for generation_id in message["quiet"]}
            events = [_from_json(*event) for event in message.get("events", ())]
            for event in events:
                self._heard(event)
            wanted = {event.generation_id for event in events if self._wanted(event)}
            if unwanted := {event.generation_id for event in events} - wanted:
                self._send({message["from"]: {"quiet": sorted(unwanted)}})
        except (ValueError, LookupError, TypeError, HarmoniaError) as error:  # of a newer version
            _log.debug("What another server says is not understood: %s", type(error).__name__)

    def _last_change(self) -> int:
        return int(self._connection.read(lambda client: client.get(f"{PREFIX}change")) or 0)


def _to_json(event: FamilyEvent) -> tuple[str, dict[str, Any]]:
    name, payload = encode(event)
    if isinstance(event, AudioPreview):
        payload = payload | {"audio": base64.b64encode(event.audio).decode()}
    return name, payload


def _from_json(name: str, payload: dict[str, Any]) -> FamilyEvent:
    if name == AudioPreview.name:
        payload = payload | {"audio": base64.b64decode(payload["audio"])}
    return cast("FamilyEvent", decode_event(name, payload))
