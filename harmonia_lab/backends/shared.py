"""`SharedBackend`: the songs that other servers of the same Redis make.

Owns how a command reaches the server that has a song. `store/shared/inbox.py` carries it; what another server's songs
do is read from the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harmonia_lab.backends.base import JobOptions
from harmonia_lab.backends.local import LocalBackend
from harmonia_lab.backends.remote_address import RemoteAddress
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.generation.artifacts import load_song
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.generation.interrupted import interrupted_error
from harmonia_lab.protocol.models import ENDED, Song, SongRequest
from harmonia_lab.store.shared.connection import RedisConnection
from harmonia_lab.store.shared.inbox import Inbox
from harmonia_lab.store.shared.redis_journal import RedisJournal

__all__ = ["SharedBackend", "check_shared", "open_shared"]


def check_shared(redis: str, address: RemoteAddress | None) -> None:
    """Raise InvalidRequest for an address of Redis that can't be used, or a lab whose songs another machine makes.

    address: that machine's, if there is one.
    """
    if address is not None:
        raise InvalidRequest(
            f"This lab's songs are made by {address.url}: it has none to share by Redis.",
            hint="Give one of the two: server or redis.",
            details={"fields": ["redis", "server"]},
        )
    RedisConnection(redis).close()


def open_shared(
    redis: str, home: Path, local: LocalBackend, panel: Callable[[str], Any]
) -> tuple[RedisJournal, SharedBackend]:
    """Open the journal that servers share, and the way to their songs. Raise StorageError if Redis doesn't answer."""
    journal = RedisJournal(redis, home)
    journal.on_lost = local.lose
    return journal, SharedBackend(journal, local, panel)


class SharedBackend:
    """A `Backend` that takes no new songs. It has those that another living server has, or has tried last."""

    running = False

    def __init__(self, journal: RedisJournal, here: LocalBackend, panel: Callable[[str], Any] | None = None) -> None:
        """here: makes this server's songs."""
        self._journal, self._here, self._panel = journal, here, panel
        self._inbox = Inbox(journal.connection, journal.process, self._carry_out)

    def owns(self, generation_id: str) -> bool:
        return self._server_of(generation_id) is not None

    def submit(self, request: SongRequest, options: JobOptions) -> JobHandle:
        raise NotImplementedError

    def cancel(self, generation_id: str) -> bool:
        """Raise Disconnected if the server that has the song doesn't answer."""
        self._ask(generation_id, "cancel")
        return True

    def abandon(self, generation_id: str) -> bool:
        return self.cancel(generation_id)

    def retry(self, generation_id: str, options: JobOptions) -> JobHandle:
        """As `Backend.retry`, by the server that has the finished parts."""
        if options.audio is not None:
            raise Refused(
                f"Generation {generation_id} is another server's, which takes no engine from here.",
                code=ErrorCode.NOT_RECOVERABLE,
            )
        limits = options.limits
        handle = JobHandle(self, generation_id, self._journal.state(generation_id), self._panel)
        unsubscribe = self._journal.elsewhere_events.subscribe(
            lambda event: event.generation_id == generation_id and handle.observe(event)
        )
        self._journal.followed.add(generation_id)

        def end() -> None:
            unsubscribe()
            self._journal.followed.discard(generation_id)

        handle.when_done(end)
        try:
            self._ask(generation_id, "retry", limits=None if limits is None else [limits.total, limits.per_user])
        except HarmoniaError:
            end()
            raise
        return handle

    def outcome(self, state: GenerationState) -> Song:
        if state.song_path is not None and state.song is not None:
            return load_song(state.song_path.parent, duration=state.song.duration)
        raise interrupted_error()

    def close(self, grace_s: float) -> None:
        del grace_s
        self._inbox.stop()

    def _ask(self, generation_id: str, command: str, **options: Any) -> None:
        server = self._server_of(generation_id)
        if server is None:
            raise Refused(f"No other server has generation {generation_id}.", code=ErrorCode.NOT_FOUND)
        self._inbox.ask(server, command, generation_id, **options)

    def _server_of(self, generation_id: str) -> str | None:
        """Return the process that has the generation or, of one that has ended, its finished parts. None: this one, or
        none that lives."""
        process, tried_by = self._journal.holder(generation_id)
        state = self._journal.state(generation_id)
        found = tried_by or process if state is not None and state.status in ENDED else process
        if not found or found == self._journal.process:
            return None
        if state is not None and state.status in ENDED and self._journal.lease.about_process(found) is None:
            return None
        return found

    def _carry_out(self, command: str, generation_id: str, options: dict[str, Any]) -> None:
        """Do what another server asks for."""
        if command == "cancel":
            self._here.cancel(generation_id)
        elif command == "retry":
            limits = options["limits"]
            self._here.retry(generation_id, JobOptions(limits=None if limits is None else QueueLimits(*limits)))
        else:
            raise Refused(f"There is no command {command[:40]} here.", hint="Give all servers the same version.")
