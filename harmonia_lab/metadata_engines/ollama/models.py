"""The models of a server: which one writes a song, what the server says of it, and its download.

Owns the choice (not names: `names.py`, nor how much context a model gets: `context.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.ollama.busy import Say, when_free
from harmonia_lab.metadata_engines.ollama.client_library import ollama
from harmonia_lab.metadata_engines.ollama.names import canonical_name, match_name
from harmonia_lab.metadata_engines.ollama.settings import Timeouts

__all__ = ["SMALL", "ModelFacts", "Models", "billions"]

SMALL = 3.0
"""Billions of parameters; smaller models get the stepwise strategy, and are taken where there is no larger one."""

LEVEL_FAMILIES = ("gptoss", "gpt-oss")
"""Families whose models always think, and take a level instead of yes or no."""


@dataclass(frozen=True)
class ModelFacts:
    """The server's description of a model. context: tokens. billions: of parameters. None: not in the description.

    thinks: whether it can think. has_levels: whether it always does, to a level ("low", "medium", "high").
    """

    name: str
    digest: str | None
    quantization: str | None
    parameter_size: str | None
    billions: float | None
    context: int | None
    thinks: bool
    has_levels: bool = False


class Models:
    """The models of one server. where: the server for messages. say: gets a status for people."""

    def __init__(self, client: ollama.AsyncClient, where: str, timeouts: Timeouts, say: Say) -> None:
        self._client, self._where, self._timeouts, self._say = client, where, timeouts, say

    async def version(self) -> str | None:
        """Return the server's version. Its first request, which shows whether it is there at all."""

        async def ask() -> str | None:
            async with asyncio.timeout(self._timeouts.between):
                # The client has no public call for it, and its private methods are not typed.
                response: httpx.Response = await self._client._request_raw("GET", "/api/version")  # type: ignore[no-untyped-call]  # noqa: SLF001
            version = response.json().get("version")
            return str(version) if version else None

        return await when_free(ask, self._timeouts.busy, self._where, self._say)

    async def find(self, wanted: str | None, *, pull: bool) -> ModelFacts:
        """Return the wanted model, downloaded if necessary and `pull`, or the first one that generates text.

        Raises MetadataError (OLLAMA_MODEL_MISSING).
        """
        digests = await self._digests()
        names = list(digests)
        if wanted:
            name = match_name(wanted, names)
            if not name and not pull:
                raise _missing_model(f"The model {wanted} is not installed at {self._where}.", names, wanted)
            names = [name or await self._download(wanted)]
        candidates = []
        for name in names:
            shown = await self._show(name)
            if wanted or shown.capabilities is None or "completion" in shown.capabilities:
                candidates.append(_facts(name, digests.get(name), shown))
        if not candidates:
            raise _missing_model(f"The Ollama server at {self._where} has no model that generates text.", names)
        large = [facts for facts in candidates if facts.billions is None or facts.billions >= SMALL]
        return (large or candidates)[0]

    async def _digests(self) -> dict[str, str | None]:
        async def ask() -> dict[str, str | None]:
            async with asyncio.timeout(self._timeouts.between):
                return {entry.model: entry.digest for entry in (await self._client.list()).models if entry.model}

        return await when_free(ask, self._timeouts.busy, self._where, self._say)

    async def _show(self, name: str) -> ollama.ShowResponse:
        async def ask() -> ollama.ShowResponse:
            async with asyncio.timeout(self._timeouts.between):
                return await self._client.show(name)

        return await when_free(ask, self._timeouts.busy, self._where, self._say)

    async def _download(self, wanted: str) -> str:
        name = canonical_name(wanted)
        async with asyncio.timeout(self._timeouts.between) as limit:
            async for part in await self._client.pull(name, stream=True):
                limit.reschedule(asyncio.get_running_loop().time() + self._timeouts.between)
                share = f" {100 * (part.completed or 0) // part.total} %" if part.total else ""
                self._say(f"Downloading {name}: {part.status or ''}{share}")
        return name


def _missing_model(message: str, installed: Sequence[str], wanted: str | None = None) -> MetadataError:
    return MetadataError(
        f"{message} Installed: {', '.join(installed) or 'none'}.",
        code=ErrorCode.OLLAMA_MODEL_MISSING,
        hint=f"run: ollama pull {canonical_name(wanted) if wanted else 'ministral-3'}",
        details={"installed": list(installed)} | ({"model": wanted} if wanted else {}),
    )


def _facts(name: str, digest: str | None, shown: ollama.ShowResponse) -> ModelFacts:
    details, info = shown.details, dict(shown.modelinfo or {})
    size = details.parameter_size if details else None
    count = info.get("general.parameter_count")
    context = next((value for key, value in info.items() if key.endswith(".context_length")), None)
    family = (details and details.family) or info.get("general.architecture")
    has_levels = family in LEVEL_FAMILIES or "ThinkLevel" in (shown.template or "")
    return ModelFacts(
        name,
        digest,
        details.quantization_level if details else None,
        size,
        count / 1e9 if isinstance(count, int | float) and count > 0 else billions(size),
        int(context) if isinstance(context, int | float) else None,
        has_levels or "thinking" in (shown.capabilities or ()),
        has_levels,
    )


def billions(size: str | None) -> float | None:
    """Return the billions of parameters of a size such as "135M", "3.2B" or "8x7B"; None for another text."""
    match = re.fullmatch(r"(?:(\d+)x)?(\d+(?:\.\d+)?)\s*([KMBT])", (size or "").strip(), re.IGNORECASE)
    if not match:
        return None
    return int(match[1] or 1) * float(match[2]) * {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}[match[3].upper()]
