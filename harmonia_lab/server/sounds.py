"""Sounds that a client uploads for its songs: `POST`, `GET` and `DELETE /api/sounds`.

Owns what an upload must be, how much one user may have, and the routes. A sound is its owner's alone: for everybody
else, admins too, it isn't there. `store/sounds.py` keeps the files; a request names a sound by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from harmonia_lab.errors import ErrorCode, InvalidRequest, Refused
from harmonia_lab.protocol.models import iso_time
from harmonia_lab.server.auth import Identity, Tokens
from harmonia_lab.server.http_rules import HttpRules, current_call
from harmonia_lab.server.rate_limit import TokenBucket, rate_limited
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.storage import storage_errors
from harmonia_lab.store.sounds import Sounds, StoredSound

__all__ = ["SoundRoutes"]

MOST_SOUNDS = 100
"""Of one user."""

UPLOAD_S = 600.0
"""Seconds that an upload may take in all. Each piece of it must come within `read_timeout_s`."""

PIECE = 2**20
"""Bytes that are written at once."""


class SoundRoutes:
    """`routes()` are those of sounds."""

    def __init__(
        self,
        sounds: Sounds,
        settings: ServerSettings,
        tokens: Tokens,
        rules: HttpRules,
        authenticate: Callable[[web.Request], Identity],
    ) -> None:
        self._sounds, self._settings, self._tokens = sounds, settings, tokens
        self._rules, self._authenticate = rules, authenticate
        self.uploads = TokenBucket(*settings.rates.uploads)
        self._uploading: set[str] = set()
        """Users who upload at the moment: one sound at a time, so that no two pass the quota together."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/sounds", self._list),
            web.post("/api/sounds", self._upload),
            web.delete("/api/sounds/{sound:[A-Za-z0-9_-]{1,64}}", self._remove),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        sounds = await asyncio.to_thread(self._sounds.of, identity.user)
        return self._rules.json({"ok": True, "sounds": [_told(sound) for sound in sounds]})

    async def _remove(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        sound_id = current_call().sound = request.match_info["sound"]
        await asyncio.to_thread(self._sounds.remove, identity.user, sound_id)
        return self._rules.json({"ok": True, "soundId": sound_id})

    async def _upload(self, request: web.Request) -> web.Response:
        """Keep the body, an audio file as it is, and answer with the sound's id and what the file is."""
        identity = self._authenticate(request)
        with self._one_at_a_time(identity):
            most = await self._room_for(identity, request.content_length)
            part = await asyncio.to_thread(self._sounds.part, identity.user)
            try:
                await self._receive(request, part, most)
                self._tokens.check_not_revoked(identity)
                facts = await asyncio.to_thread(_checked, part)
                sound = await asyncio.to_thread(self._sounds.keep, part)
            finally:
                part.unlink(missing_ok=True)
        current_call().sound = sound.id
        headers = {"Location": f"/api/sounds/{sound.id}"}
        return self._rules.json({"ok": True} | _told(sound) | facts, status=201, headers=headers)

    @contextmanager
    def _one_at_a_time(self, identity: Identity) -> Iterator[None]:
        """Raise Refused (RATE_LIMITED) if the user uploads too often, or another sound at the moment."""
        user = identity.user
        if not identity.is_process_owner:
            self.uploads.require(user, "uploads")
        if user in self._uploading:
            raise rate_limited("Another sound of yours is being uploaded.", 1.0)
        self._uploading.add(user)
        try:
            yield
        finally:
            self._uploading.discard(user)

    async def _room_for(self, identity: Identity, size: int | None) -> int:
        """Return how many bytes the upload may have. size: as announced. Raise InvalidRequest, Refused
        (QUOTA_EXCEEDED)."""
        settings, held = self._settings, await asyncio.to_thread(self._sounds.of, identity.user)
        if size is not None and size > settings.max_sound_bytes:
            raise _too_large(settings.max_sound_bytes)
        left = settings.user_sound_bytes - sum(sound.size for sound in held)
        if len(held) >= MOST_SOUNDS or left <= 0 or (size is not None and size > left):
            raise _over_quota(settings)
        return min(left, settings.max_sound_bytes)

    async def _receive(self, request: web.Request, part: Path, most: int) -> None:
        """Write the body to a file. Raise HTTPRequestTimeout if it doesn't come, and what `_room_for` raises."""
        pieces, size = bytearray(), 0
        await asyncio.to_thread(_append, part, b"")  # a disk that is full is said before the body is read
        try:
            async with asyncio.timeout(UPLOAD_S):
                while chunk := await self._next(request):
                    size += len(chunk)
                    if size > most:
                        limit = self._settings.max_sound_bytes
                        raise _too_large(limit) if size > limit else _over_quota(self._settings)
                    pieces += chunk
                    if len(pieces) >= PIECE:
                        await asyncio.to_thread(_append, part, bytes(pieces))
                        pieces.clear()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        await asyncio.to_thread(_append, part, bytes(pieces))

    async def _next(self, request: web.Request) -> bytes:
        async with asyncio.timeout(self._settings.read_timeout_s):
            return await request.content.readany()


def _append(part: Path, data: bytes) -> None:
    """Raise StorageError."""
    with storage_errors(part), part.open("ab") as file:
        part.chmod(0o600)
        file.write(data)


def _checked(part: Path) -> dict[str, Any]:
    """Return what the file is. Raise InvalidRequest if it is no music."""
    from harmonia_lab.audio_engines.audiofile import check_sound  # noqa: PLC0415 - numpy loads with the first upload

    facts = asdict(check_sound(part))
    return {"format": facts["format"], "seconds": round(facts["seconds"], 3), "sampleRate": facts["sample_rate"],
            "channels": facts["channels"]}  # fmt: skip


def _told(sound: StoredSound) -> dict[str, Any]:
    return {"soundId": sound.id, "size": sound.size, "keptUntil": iso_time(sound.kept_until)}


def _too_large(most: int) -> InvalidRequest:
    return InvalidRequest(
        f"The sound is larger than {most / 2**20:.3g} MiB.",
        hint="Send it as FLAC, OGG or MP3, or a shorter part of it.",
        details={"fields": ["sound"], "maxBytes": most},
    )


def _over_quota(settings: ServerSettings) -> Refused:
    return Refused(
        f"You have as many sounds here as one user may: {MOST_SOUNDS}, or {settings.user_sound_bytes / 2**20:g} MiB.",
        code=ErrorCode.QUOTA_EXCEEDED,
        hint="Delete one that no song needs any more (DELETE /api/sounds/ID).",
        details={"maxBytes": settings.user_sound_bytes, "maxSounds": MOST_SOUNDS},
    )
